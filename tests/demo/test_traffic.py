import asyncio
import time
from collections import Counter
from random import Random

from demo_endpoint import DemoEndpoint
from sagepool_demo.figures import KINDS, Kind, Outcome
from sagepool_demo.traffic import Plan, Traffic


async def ask(endpoint: DemoEndpoint, *mix: Kind) -> list[Outcome]:
    """Let four clients ask until the endpoint has had enough."""
    plan = Plan("m", "m", 4, shortest_pause_s=0, longest_pause_s=0.001, mix=mix)
    async with endpoint.openai() as openai, asyncio.timeout(20):
        traffic = Traffic(openai, plan, Random(1), time.monotonic)
        await traffic.run(endpoint.enough)
    assert traffic.flowing.is_set()
    return traffic.outcomes


async def test_every_kind_of_request_is_made_and_its_instance_noted() -> None:
    outcomes = await ask(DemoEndpoint(), *KINDS)
    assert {o.failure for o in outcomes} == {""}
    assert Counter(o.kind for o in outcomes).keys() == set(KINDS)
    for outcome in outcomes:
        assert outcome.instance == ("engine-2" if outcome.kind == "embeddings" else "engine-1")
        assert (outcome.first_token_s is not None) == (outcome.kind == "streamed chat")


async def test_requests_under_way_come_to_their_end_when_the_traffic_is_stopped() -> None:
    endpoint = DemoEndpoint()
    outcomes = await ask(endpoint, "chat")
    assert len(outcomes) == endpoint.requests


async def test_refused_requests_are_failures_with_the_status_and_the_message() -> None:
    endpoint = DemoEndpoint()
    endpoint.refuses_chat = True
    outcomes = await ask(endpoint, "chat", "streamed chat")
    assert len({o.failure for o in outcomes}) == 1
    assert "503" in outcomes[0].failure
    assert "no instance" in outcomes[0].failure


async def test_a_stream_that_breaks_off_is_a_failure() -> None:
    endpoint = DemoEndpoint()
    endpoint.cuts_streams = True
    outcomes = await ask(endpoint, "streamed chat")
    assert {o.failure for o in outcomes} == {"the streamed answer was cut short"}
