"""A router in the client's process: what is scheduled is what is sent."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest

import sagepool
from client_engines import Engine, engine
from client_face import Face
from client_planes import MISSING, Callers, open_client
from operator_waiting import until
from router_wire import eventually
from sagepool import AsyncUnifiedInferenceClient


async def ask_at_once(
    instances: Sequence[Any], engines: Sequence[Engine], count: int, **more: Any
) -> None:
    """Send that many chats, and let the engines answer when they have all of them."""
    client = await AsyncUnifiedInferenceClient.create_with_control_plane(instances, **more)
    async with client:
        for held in engines:
            held.hold()
        calls = [asyncio.create_task(client.chat(f"{n}")) for n in range(count)]
        await until(lambda: sum(len(e.asked) for e in engines) == count)
        for held in engines:
            held.let_go()
        assert await asyncio.gather(*calls) == [f"re: {n}" for n in range(count)]


class TestAnswers:
    def test_every_kind_of_request_is_answered(self, face: Face) -> None:
        with engine("m") as chats, engine("e", "embedding") as embeds:
            client = face.create_with_control_plane([chats.instance, embeds.instance])
            assert face.chat(client, "hi") == "re: hi"
            result = face.embed(client, ["a", "bb"], return_result=True)
            face.close(client)
        assert result.content == [[1.0, 1.0], [2.0, 1.0]]
        assert result.metadata["instance"] == "control-plane-1"
        assert result.usage.prompt_tokens == 2

    def test_the_router_validates(self, face: Face) -> None:
        with engine("m") as chats:
            client = face.create_with_control_plane([chats.instance])
            with pytest.raises(sagepool.BadRequestError) as told:
                face.chat(client, "hi", temperature=3)
            with pytest.raises(sagepool.NotFoundError, match="models: m"):
                face.chat(client, "hi", model="other")
            face.close(client)
        assert (told.value.code, told.value.param) == ("invalid_temperature", "temperature")
        assert chats.asked == []

    def test_a_kind_without_an_engine_is_told(self, face: Face) -> None:
        with engine("m") as chats:
            client = face.create_with_control_plane([chats.instance])
            with pytest.raises(sagepool.ConfigurationError, match="no server for embedding"):
                face.embed(client, "a")
            face.close(client)

    def test_it_says_what_it_does_and_how_its_engines_are(self, face: Face) -> None:
        with engine("m") as chats:
            client = face.create_with_control_plane([chats.instance, MISSING], "fifo")
            told = client.explain().splitlines()
            face.close(client)
        assert told[0] == "control plane with policy fifo"
        assert told[1] == f"http://127.0.0.1:{chats.port}  m (llm)  Ready"
        assert told[2].startswith("http://127.0.0.1:1  m (llm)  Loading: http://127.0.0.1:1 cannot")


class TestScheduling:
    async def test_equal_idle_engines_share_alike(self) -> None:
        with ExitStack() as stack:
            engines = [stack.enter_context(engine()) for _ in range(4)]
            await ask_at_once([e.instance for e in engines], engines, 40)
            assert [len(e.asked) for e in engines] == [10, 10, 10, 10]

    @pytest.mark.parametrize(
        ("policy", "order"),
        [
            ("fifo", ["low", "normal", "high", "critical"]),
            ("priority", ["critical", "high", "normal", "low"]),
        ],
    )
    def test_the_policy_says_whose_turn_it_is(self, policy: str, order: list[str]) -> None:
        with ExitStack() as stack:
            only = stack.enter_context(engine())
            client = open_client(stack, [{**only.instance, "max_concurrency": 1}], policy)
            callers = Callers(client, stack)
            callers.occupy(only, lambda: client.chat("first"))
            names: list[Any] = ["low", "normal", "high", "critical"]
            for name in names:
                callers.send(name, lambda name=name: client.chat(name, priority=name))  # type: ignore[misc]
            only.let_go()
            eventually(lambda: len(callers.answers) == 5, "all are answered")
        assert only.asked == ["first", *order]

    def test_slo_aware_serves_who_has_the_least_time_left(self) -> None:
        with ExitStack() as stack:
            only = stack.enter_context(engine())
            client = open_client(stack, [{**only.instance, "max_concurrency": 1}], "slo_aware")
            callers = Callers(client, stack)
            callers.occupy(only, lambda: client.chat("first"))
            for name, limit in (("much", 60_000), ("little", 20_000), ("some", 40_000)):
                callers.send(
                    name,
                    lambda name=name, limit=limit: client.chat(name, deadline_ms=limit),  # type: ignore[misc]
                )
            only.let_go()
            eventually(lambda: len(callers.answers) == 4, "all are answered")
        assert only.asked == ["first", "little", "some", "much"]

    def test_the_answer_says_which_policy_decided(self) -> None:
        with ExitStack() as stack:
            only = stack.enter_context(engine())
            client = open_client(stack, [only.instance], "cost_optimized")
            result = client.chat("hi", return_result=True)
        assert result.metadata["policy"] == "cost_optimized"

    @pytest.mark.parametrize(("prefer", "counts"), [(True, [6, 0]), (False, [3, 3])])
    async def test_specialized_engines_come_first_unless_they_shall_not(
        self, prefer: bool, counts: list[int]
    ) -> None:
        with engine("m") as pure, engine("m", "llm_embedding") as mixed, engine("e") as embeds:
            shared = {
                **mixed.instance,
                "embedding_model_name": "e",
                "embedding_port": embeds.port,
            }
            scheduling = {"preferSpecializedInstances": prefer}
            await ask_at_once([pure.instance, shared], [pure, mixed], 6, scheduling=scheduling)
            assert [len(pure.asked), len(mixed.asked)] == counts

    @pytest.mark.parametrize(
        ("policy", "calls"), [("hybrid", [1, 8]), ("fifo", [1, 1, 1, 1, 1, 1, 1, 1, 1])]
    )
    def test_embeddings_of_many_callers_travel_together_where_the_policy_merges(
        self, policy: str, calls: list[int]
    ) -> None:
        with ExitStack() as stack:
            only = stack.enter_context(engine("e", "embedding"))
            client = open_client(
                stack,
                [{**only.instance, "max_concurrency": 1}],
                policy,
                scheduling={"maxEmbeddingWaitMs": 500},
            )
            callers = Callers(client, stack)
            callers.occupy(only, lambda: client.embed("first"))
            for size in range(1, 9):
                callers.send(f"{size}", lambda size=size: client.embed("x" * size))  # type: ignore[misc]
            only.let_go()
            eventually(lambda: len(callers.answers) == 9, "all are answered")
        assert [len(texts) for texts in only.asked] == calls
        assert {n: callers.answers[f"{n}"] for n in range(1, 9)} == {
            n: [[float(n), 1.0]] for n in range(1, 9)
        }

    def test_what_one_engine_cannot_do_another_does(self) -> None:
        with ExitStack() as stack:
            engines = [stack.enter_context(engine()) for _ in range(2)]
            client = open_client(stack, [e.instance for e in engines], "fifo", max_retries=0)
            engines[0].is_failing = True
            answers = {
                client.chat(f"{n}", return_result=True).metadata["instance"] for n in range(6)
            }
        assert answers == {"control-plane-1"}
        assert engines[0].asked  # it was tried

    async def test_awaited_calls_are_scheduled_too(self) -> None:
        with engine("m") as only:
            client = await AsyncUnifiedInferenceClient.create_with_control_plane([only.instance])
            async with client:
                answers = await asyncio.gather(*(client.chat(f"{n}") for n in range(50)))
        assert answers == [f"re: {n}" for n in range(50)]
