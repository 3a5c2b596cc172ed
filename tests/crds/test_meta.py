"""Conditions keep their time until they flip."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from crd_objects import cloud_object, instance_object, pool_object
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.meta import Condition, find_condition, is_true, set_condition
from sagepool_crds.pool import InferencePool

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _ready(status: str, at: datetime, message: str = "") -> Condition:
    return Condition.model_validate(
        {
            "type": "Ready",
            "status": status,
            "reason": "Because",
            "message": message,
            "lastTransitionTime": at,
        }
    )


def test_same_status_keeps_the_transition_time() -> None:
    before = set_condition((), _ready("True", NOON))
    after = set_condition(before, _ready("True", NOON + timedelta(hours=1), "new words"))
    assert after[0].last_transition_time == NOON
    assert after[0].message == "new words"


def test_flip_moves_the_transition_time() -> None:
    before = set_condition((), _ready("True", NOON))
    after = set_condition(before, _ready("False", NOON + timedelta(hours=1)))
    assert after[0].last_transition_time == NOON + timedelta(hours=1)


def test_absent_condition_is_not_true() -> None:
    assert find_condition((), "Ready") is None
    assert not is_true((), "Ready")
    assert not is_true((_ready("Unknown", NOON),), "Ready")
    assert is_true((_ready("True", NOON),), "Ready")


def test_time_is_written_in_utc_and_whole_seconds() -> None:
    written = _ready("True", NOON + timedelta(microseconds=5)).to_object()
    assert written["lastTransitionTime"] == "2026-01-01T12:00:00Z"


def test_objects_are_read_as_the_server_sends_them() -> None:
    pool = InferencePool.from_object(pool_object())
    assert [g.model.name for g in pool.spec.groups] == ["qwen2.5-7b", "bge-m3"]
    assert pool.spec.router.replicas == 2
    instance = InferenceInstance.from_object(instance_object())
    assert instance.spec.endpoints[0].url == "http://10.0.0.7:8000"
    assert instance.status.phase == "Pending"


def test_scheduling_and_provider_are_read_as_the_server_sends_them() -> None:
    spec = InferencePool.from_object(
        pool_object(
            source="cloud",
            cloud=cloud_object(sameEmbeddingSpace=["bge-m3"]),
            scheduling={"policy": "fifo", "slo": {"chatTtftMs": 250}},
        )
    ).spec
    assert (spec.source, spec.scheduling.policy, spec.scheduling.llm_policy) == (
        "cloud",
        "fifo",
        "adaptive",
    )
    assert (spec.scheduling.slo.chat_ttft_ms, spec.scheduling.slo.embedding_ms) == (250, 200)
    assert spec.cloud is not None
    assert spec.cloud.models["bge-m3"] == "their-embedding"
    assert spec.cloud.same_embedding_space == ["bge-m3"]
    assert spec.cloud.when == ["absent", "starting", "overloaded"]


def test_field_of_a_newer_version_is_ignored() -> None:
    assert InferencePool.from_object(pool_object(newer=3)).spec.suspend is False


def test_typo_of_a_person_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"replica\b"):
        InferencePool.from_manifest(pool_object(replica=3))
    with pytest.raises(ValidationError, match="drian"):
        InferenceInstance.from_manifest(instance_object(drian=True))
