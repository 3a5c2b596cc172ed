"""Comparing what we want with what lives."""

from typing import Any

import pytest

from sagepool_operator.drift import has_drifted, seal

WANTED: dict[str, Any] = {
    "metadata": {"name": "x", "labels": {"a": "1"}},
    "spec": {
        "replicas": 2,
        "imagePullSecrets": [{"name": "registry"}],
        "containers": [
            {
                "name": "engine",
                "args": ["--a", "--b"],
                "env": [{"name": "A", "value": "1"}, {"name": "EMPTY", "value": ""}],
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {}},
            }
        ],
    },
}


def live(change: Any = None) -> dict[str, Any]:
    obj = seal(WANTED)
    copied: dict[str, Any] = _copy(obj)
    if change is not None:
        change(copied)
    return copied


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(item) for item in node] if isinstance(node, list) else node


def container(obj: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = obj["spec"]["containers"][0]
    return found


def test_what_was_applied_has_not_drifted() -> None:
    assert not has_drifted(seal(WANTED), live())


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o["metadata"]["labels"].update(theirs="2"),
        lambda o: o["spec"].update(paused=False),
        lambda o: o["spec"]["containers"].insert(0, {"name": "sidecar"}),
        lambda o: container(o)["env"].append({"name": "THEIRS", "value": "1"}),
        lambda o: o["spec"]["imagePullSecrets"].append({"name": "theirs"}),
        lambda o: container(o)["env"].reverse(),
        lambda o: container(o)["resources"]["requests"].update(cpu="1000m", memory="1024Mi"),
        lambda o: container(o)["resources"].pop("limits"),
        lambda o: container(o)["env"][1].pop("value"),
    ],
    ids=[
        "label added",
        "field added",
        "container injected",
        "variable added",
        "pull secret added",
        "order of variables",
        "quantities written otherwise",
        "empty map left out",
        "empty string left out",
    ],
)
def test_additions_and_other_spellings_are_no_drift(change: Any) -> None:
    assert not has_drifted(seal(WANTED), live(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o["metadata"].pop("labels"),
        lambda o: o["metadata"]["labels"].update(a="2"),
        lambda o: o["spec"].update(replicas=3),
        lambda o: o["spec"]["containers"].clear(),
        lambda o: container(o)["args"].append("--c"),
        lambda o: container(o)["args"].reverse(),
        lambda o: container(o)["env"].pop(0),
        lambda o: container(o)["env"][0].update(value="2"),
        lambda o: container(o)["resources"]["requests"].update(cpu="2"),
        lambda o: container(o)["resources"]["requests"].update(cpu="nonsense"),
        lambda o: o["spec"].update(containers="gone"),
        lambda o: o["metadata"].pop("annotations"),
    ],
)
def test_changes_of_our_fields_are_drift(change: Any) -> None:
    assert has_drifted(seal(WANTED), live(change))


@pytest.mark.parametrize(
    ("wanted", "stored"),
    [
        ({"hostNetwork": False}, {}),
        ({"volumeMounts": [{"mountPath": "/a", "readOnly": False}]},) * 2,
        (
            {"volumeMounts": [{"mountPath": "/a", "readOnly": False}]},
            {"volumeMounts": [{"mountPath": "/a"}]},
        ),
        ({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}),
        (
            {"ports": [{"containerPort": 1}, {"containerPort": 2}]},
            {"ports": [{"containerPort": n, "protocol": "TCP"} for n in (1, 2)]},
        ),
    ],
    ids=["false", "false kept", "false of a mount", "size of a volume", "ports without names"],
)
def test_what_a_pod_template_says_is_found_as_the_server_keeps_it(
    wanted: dict[str, Any], stored: dict[str, Any]
) -> None:
    assert not has_drifted(wanted, stored)


@pytest.mark.parametrize(
    ("wanted", "stored"),
    [
        ({"automountServiceAccountToken": False}, {}),
        ({"emptyDir": {"sizeLimit": "1Gi"}}, {"emptyDir": {}}),
        ({"ports": [{"containerPort": 1}]}, {"ports": [{"containerPort": 2}]}),
    ],
    ids=["false that is not the default", "size gone", "another port"],
)
def test_what_somebody_else_has_changed_of_it_is_drift(
    wanted: dict[str, Any], stored: dict[str, Any]
) -> None:
    assert has_drifted(wanted, stored)


def test_field_that_we_no_longer_set_is_drift() -> None:
    fewer = _copy(WANTED)
    container(fewer)["env"].pop()
    assert has_drifted(seal(fewer), live())


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1000m"), ("0.5", "500m"), ("1Ki", "1024"), ("2M", "2000k")]
)
def test_equal_quantities(one: str, other: str) -> None:
    wanted = seal({"metadata": {}, "requests": {"cpu": one}})
    assert not has_drifted(wanted, {**wanted, "requests": {"cpu": other}})
