"""The bench of the operator: what it writes, and what it makes of what it measured."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from bench.operator_scale import objects
from bench.operator_scale.cli import BEGIN, END, PAGE
from bench.operator_scale.figures import Figures, missed, render
from bench.report import replace_figures

from sagepool_crds import names
from sagepool_crds.pool import InferencePool

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
GOOD = Figures(
    pools=100,
    engines=1000,
    bare_s=60.0,
    settled_s=75.0,
    settling_cpu_s=20.0,
    settling_writes=5000,
    watched_s=60.0,
    writes=0,
    cpu_s=6.0,
    rss_bytes=200 << 20,
    acted_ms=[float(n) for n in range(1, 101)],
)


def pod(*conditions: dict[str, str], gate: bool = True) -> dict[str, Any]:
    gates = {"readinessGates": [{"conditionType": names.ROUTABLE_GATE}]} if gate else {}
    return {
        "metadata": {"name": "a", "namespace": "ns", "uid": "u", "labels": {}},
        "spec": {"containers": [{"name": "engine", "image": "i"}], **gates},
        "status": {"conditions": list(conditions)},
    }


def test_bare_deployments_ask_for_the_pods_of_a_pool_and_wait_for_nobody() -> None:
    found = list(objects.deployments("ns", "p", 10))
    assert {d["metadata"]["name"]: d["spec"]["replicas"] for d in found} == {
        "p-router": 1,
        "p-chat": 10,
    }
    for deployment in found:
        assert "ownerReferences" not in deployment["metadata"]
        spec = deployment["spec"]["template"]["spec"]
        assert not spec.keys() & {"readinessGates", "serviceAccountName"}


def test_the_pool_is_one_that_the_api_server_takes() -> None:
    read = InferencePool.from_object(objects.pool("ns", "p", 10))
    assert read.spec.groups[0].replicas == 10


def test_a_played_pod_is_ready_when_its_gate_is_open() -> None:
    opened = {"type": names.ROUTABLE_GATE, "status": "True"}
    closed = {"type": names.ROUTABLE_GATE, "status": "False"}
    assert not objects.is_ready(objects.running(pod(), "10.0.0.2", NOW))
    assert not objects.is_ready(objects.running(pod(closed), "10.0.0.2", NOW))
    assert objects.is_ready(objects.running(pod(opened), "10.0.0.2", NOW))
    assert objects.is_ready(objects.running(pod(gate=False), "10.0.0.2", NOW))


def test_a_share_of_the_changes_is_told_by_the_slowest_of_it() -> None:
    assert (GOOD.acted_within_ms(0.5), GOOD.acted_within_ms(0.99)) == (50.0, 99.0)
    assert replace(GOOD, acted_ms=[7.0]).acted_within_ms(0.5) == 7.0


def test_a_good_run_misses_nothing() -> None:
    assert missed(GOOD) == []


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, settled_s=91.0),
        replace(GOOD, writes=1),
        replace(GOOD, rss_bytes=251 << 20),
        replace(GOOD, acted_ms=[1.0] * 98 + [301.0] * 2),
    ],
)
def test_each_goal_can_be_missed(bad: Figures) -> None:
    assert len(missed(bad)) == 1


def test_the_page_has_a_place_for_the_figures() -> None:
    page = replace_figures(PAGE.read_text(), render(GOOD, {"cores": "2"}), BEGIN, END)
    assert "| pools to bare Deployments | 1.25 | 1.5 |" in page
