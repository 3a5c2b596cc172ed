"""Nobody can take the whole pool, or the whole queue, while others wait."""

import pytest

from sagepool_crds.pool import Role
from sagepool_router.scheduling.scheduler import QueueFullError
from sagepool_router.scheduling.settings import QueueLimits
from sagepool_router.scheduling.work import Work
from scheduling_world import LLM, Engine, World, engines, texts_of


def calls_until(world: World, name: str) -> int:
    """Calls that end before the request is on its way."""
    ended = 0
    while not any(
        piece.work.owner == name for call in world.history for piece in call.slices
    ) and not any(call.work.owner == name for call in world.history):
        world.finish()
        ended += 1
    return ended


def refusal(world: World, model: str, flow: str = "") -> str | None:
    """Whose share of the queue refuses a chat, None: the queue is full; empty: it is taken."""
    try:
        world.chat(model=model, flow=flow)
    except QueueFullError as full:
        return full.whose
    return ""


def test_a_large_request_gives_way_to_another_flow_between_its_parts() -> None:
    world = World(*engines(1, "embedding", limit=1), max_embedding_wait_s=0.0)
    world.embed(6400, "large", flow="a")
    world.parameters = b'{"other":1}'
    world.embed(1, "small", flow="b")
    assert calls_until(world, "small") <= 3
    world.finish_all()
    assert sum(texts_of(call) for call in world.history) == 6401


def test_what_goes_outside_of_the_pool_takes_nobodys_turn() -> None:
    world = World(Engine("e", limit=1))
    world.chat("running")
    for i in range(50):
        world.chat(f"a{i}", flow="a", tokens=100)
    lane = world.lane(LLM)
    outside = Engine("outside", limit=1000)
    away: Work[Engine] = Work("llm", LLM, world.clock.now, flow="a", tokens=100)
    world.scheduler.force(lane, away, outside, "elsewhere")
    world.chat("b", flow="b", tokens=100)
    assert calls_until(world, "b") <= 3
    assert [call.place for call in world.history].count(outside) == 1


def test_one_flow_cannot_fill_the_queue() -> None:
    world = World(Engine("e", limit=1), queue=QueueLimits(max_requests=90))
    world.chat("running")
    refused = 0
    for _ in range(200):
        try:
            world.chat(flow="greedy")
        except QueueFullError:
            refused += 1
    assert refused > 100
    assert world.scheduler.waiting < 90
    world.chat("other", flow="modest")
    assert calls_until(world, "other") <= 2


def test_one_flow_cannot_fill_the_queue_by_asking_for_many_models() -> None:
    models: dict[str, Role] = {f"m{i}": "llm" for i in range(10)}
    world = World(queue=QueueLimits(max_requests=90))
    world.use(*engines(10, limit=0), models=models)
    refused = [refusal(world, f"m{number % 10}", "greedy") for number in range(200)]
    assert refused.count("flow") > 100
    assert set(refused) == {"flow", ""}
    assert world.scheduler.waiting < 90
    world.chat(model="m0", flow="modest")


def test_a_queue_for_nobody_in_particular_can_be_filled() -> None:
    world = World(queue=QueueLimits(max_requests=90))
    world.use(Engine("e", limit=1), models={LLM: "llm"})
    for _ in range(91):
        world.chat()
    assert world.scheduler.waiting == 90
    with pytest.raises(QueueFullError) as full:
        world.chat()
    assert full.value.whose is None


def test_one_model_leaves_the_others_places_in_the_queue() -> None:
    world = World(*engines(1, limit=1), *engines(1, "embedding", limit=0))
    refused = [refusal(world, LLM) for _ in range(1100)]
    assert refused.count("model") > 100
    assert set(refused) == {"model", ""}
    assert world.embed().state == "waiting"


def test_one_flow_is_served_in_turn_with_others_of_another_model_of_the_same_engine() -> None:
    world = World()
    world.use(Engine("e", limit=1), models={"m1": "llm", "m2": "llm"})
    for _ in range(200):
        world.chat(model="m1", flow="alice")
    bob = world.chat(model="m2", flow="bob")
    served = 0
    while bob.state == "waiting":
        world.finish(world.calls[0])
        served += 1
    assert served <= 2


def test_the_virtual_time_of_models_is_their_own_again_when_their_engines_are() -> None:
    world = World()
    both: dict[str, Role] = {"m1": "llm", "m2": "llm"}
    first, second = Engine("a", limit=1), Engine("b", limit=1)
    world.use(first, models=both)
    for model in ("m1", "m2"):
        for _ in range(3):
            world.chat(model=model, flow=model)
    assert world.lane("m1").shares is world.lane("m2").shares
    world.use(first, second, models=both, only={"m1": [first], "m2": [second]})
    assert world.lane("m1").shares is not world.lane("m2").shares
    world.finish_all()
    assert world.scheduler.waiting == 0
    assert [world.lane(m).shares.flows for m in both] == [0, 0]


@pytest.mark.parametrize("speed", [50, 200])
def test_patience_is_worth_its_seconds_before_the_speed_is_known_too(speed: int) -> None:
    world = World(Engine("e", limit=1), policy="priority")
    world.chat("running")
    for _ in range(800):
        world.chat(tokens=100)
    for _ in range(speed):
        world.clock.advance(1 / speed)
        world.finish()
        world.scheduler.sweep()
    critical = world.chat(priority=0, tokens=100)
    world.finish()
    world.finish()
    assert critical.state == "placed", "twenty seconds of patience are longer than all that wait"


def test_a_budget_goes_before_affinity() -> None:
    cheap, dear = Engine("cheap", price=1.0), Engine("dear", price=100.0)
    world = World(cheap, dear, policy="cost_optimized")
    for key in range(40):
        world.chat(tokens=1000, budget=0.001, affinity=key * 7919)
    assert (cheap.in_flight, dear.in_flight) == (40, 0)


def test_an_idle_mixed_engine_is_used_before_a_text_waits_for_a_busy_pure_one() -> None:
    pure = Engine("pure", "embedding", limit=4)
    mixed = Engine("mixed", "embedding", limit=4, is_specialized=False)
    world = World(pure, mixed)
    world.embed(1)
    world.embed(1)
    assert (pure.in_flight, mixed.in_flight) == (1, 1)
