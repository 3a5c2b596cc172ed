"""What is registered with kopf."""

import asyncio
import itertools

import kopf
import pytest

from kube_fake import FakeKube
from operator_world import IMAGES
from sagepool_operator.config import Settings
from sagepool_operator.errors import OperatorError
from sagepool_operator.handlers import (
    EndlessBackoff,
    Lifecycle,
    build_kopf_settings,
    build_registry,
)
from sagepool_operator.runtime import Operator


@pytest.fixture
async def lifecycle() -> Lifecycle:
    return Lifecycle(lambda: Operator(FakeKube(), Settings(images=IMAGES)), asyncio.Event())


async def test_only_watching_handlers_are_registered(lifecycle: Lifecycle) -> None:
    """All others would put finalizers or annotations on users' objects."""
    registry = build_registry(lifecycle)
    assert [h.id for h in registry._watching.get_all_handlers()] == ["wake"]
    assert not list(registry._changing.get_all_handlers())
    assert not list(registry._spawning.get_all_handlers())
    assert not list(registry._indexing.get_all_handlers())
    assert not list(registry._webhooks.get_all_handlers())


async def test_activities_have_ids_of_their_own(lifecycle: Lifecycle) -> None:
    registry = build_registry(lifecycle)
    assert {h.id for h in registry._activities.get_all_handlers()} == {
        "start",
        "stop",
        "login",
        "operator",
    }


def test_kopf_needs_few_rights_and_leaves_no_traces() -> None:
    settings = build_kopf_settings()
    assert settings.scanning.disabled
    assert settings.peering.standalone
    assert not settings.posting.enabled


def test_outage_never_uses_the_retries_up() -> None:
    backoff = EndlessBackoff()
    for _ in range(2):  # kopf iterates anew for every request
        assert list(itertools.islice(backoff, 5)) == [0.2, 0.5, 1.0, 2.0, 2.0]


async def test_health_fails_before_the_start_and_answers_after_it(lifecycle: Lifecycle) -> None:
    with pytest.raises(OperatorError):
        lifecycle.health()
    await lifecycle.start()
    try:
        assert lifecycle.health()["queueDepth"] == 0
    finally:
        await lifecycle.stop()


async def test_failed_operator_ends_the_program() -> None:
    operators: list[Operator] = []
    stop_flag = asyncio.Event()

    def make() -> Operator:
        operators.append(Operator(FakeKube(), Settings(images=IMAGES)))
        return operators[-1]

    lifecycle = Lifecycle(make, stop_flag)
    await lifecycle.start()
    operators[0].failed.set()
    async with asyncio.timeout(5):
        await stop_flag.wait()
    await lifecycle.stop()


def test_kopf_is_new_enough_to_notice_silent_watches() -> None:
    assert kopf.OperatorSettings().watching.inactivity_timeout > 0
