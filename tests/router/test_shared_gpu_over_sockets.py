"""Chat and embeddings on one GPU: whose turn it is, with engines behind it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from router_embedders import embed
from router_engines import ANSWER, Engine, serve_engine
from router_scheduling import (
    decisions,
    named,
    open_all,
    queue_up,
    read_admin,
    serve_simulator,
)
from router_server import RouterServer, backend, serve_router, table_of
from router_wire import Response, Wire, eventually, post
from sagepool_router.scheduling.settings import EmbeddingPriority, SchedulingSettings, Targets
from sagepool_router.scheduling.shared_gpu import MAX_HELD_S
from sagepool_simulator.settings import Pace
from simulator_server import CHAT, EMBEDDING

PATH = "/v1/embeddings"


def settings(ttft_s: float = 1000.0, **changes: object) -> SchedulingSettings:
    """Without a target that matters, if none is given."""
    return SchedulingSettings(targets=Targets(chat_ttft_s=ttft_s), **changes)  # type: ignore[arg-type]  # its own fields


def text(name: str = "text", model: str = "embedder") -> bytes:
    return post(model, path=PATH, input=name, fields=(f"x-request-id: {name}",))


def is_embedded(response: Response) -> bool:
    """It is the answer to `text()`."""
    return bool(json.loads(response.body)["data"][0]["embedding"] == embed("text"))


@dataclass(frozen=True)
class Mixed:
    """An instance that serves both kinds on one GPU."""

    router: RouterServer
    chat: Engine
    embedder: Engine

    def send(self, stack: ExitStack, request: bytes, engine: Engine) -> Wire:
        """Send a request and wait until the engine has it."""
        before = len(engine.requests)
        (client,) = open_all(stack, self.router.port, [request])
        eventually(lambda: len(engine.requests) == before + 1, "the engine has it")
        return client

    def gpu(self) -> dict[str, object]:
        """What the admin port says of the GPU."""
        (found,) = read_admin(self.router, "/admin/policy")["gpus"]
        assert isinstance(found, dict)
        return found


@contextmanager
def serve_mixed(
    scheduling: SchedulingSettings, chat: str = "held", chat_limit: int = 1
) -> Iterator[Mixed]:
    """Engines that answer when the test lets them; they take one call at a time."""
    with serve_engine(chat) as llm, serve_engine("embeds") as embedder:
        table = table_of(
            backend(llm.port, instance="mixed", device="gpu", limit=chat_limit),
            backend(
                embedder.port,
                instance="mixed",
                device="gpu",
                role="embedding",
                models=("embedder",),
                limit=1,
            ),
            scheduling=scheduling,
        )
        with serve_router(table) as router:
            yield Mixed(router, llm, embedder)


# Chat's first token.


def test_no_embedding_starts_while_a_chat_waits_beyond_a_fifth_of_its_target() -> None:
    with serve_mixed(settings(ttft_s=0.4)) as mixed, ExitStack() as stack:
        chat = mixed.send(stack, named("chat", stream=True), mixed.chat)
        eventually(lambda: mixed.gpu()["may_start_embedding"] is False, "it is held back")
        (embedding,) = queue_up(stack, mixed.router, [text()])
        assert mixed.embedder.requests == []
        mixed.chat.let_go()
        assert chat.response().body == ANSWER
        mixed.embedder.let_go()
        assert is_embedded(embedding.response())
        chosen = decisions(mixed.router)
        assert [d.request_id for d in chosen] == [b"chat", b"text"]
        assert chosen[1].waited_s > 0


def test_within_a_fifth_of_the_target_embeddings_run_beside_a_chat() -> None:
    with serve_mixed(settings(ttft_s=1000)) as mixed, ExitStack() as stack:
        mixed.embedder.let_go()
        chat = mixed.send(stack, named("chat"), mixed.chat)
        embedding = mixed.send(stack, text(), mixed.embedder)
        assert is_embedded(embedding.response())
        assert mixed.gpu()["may_start_embedding"] is True
        mixed.chat.let_go()
        assert chat.response().body == ANSWER


@pytest.mark.parametrize(("behaviour", "priority"), [("held_stream", "normal"), ("held", "high")])
def test_a_chat_that_has_begun_or_that_the_pool_puts_last_holds_nothing_back(
    behaviour: str, priority: EmbeddingPriority
) -> None:
    scheduling = settings(ttft_s=0.2, embedding_priority=priority)
    with serve_mixed(scheduling, behaviour) as mixed, ExitStack() as stack:
        mixed.embedder.let_go()
        chat = mixed.send(stack, named("chat", stream=True), mixed.chat)
        if behaviour == "held_stream":
            chat.read_until(b'{"n": 1}')
        target_at = decisions(mixed.router)[0].at + 0.2
        eventually(lambda: mixed.router.dispatcher.now > target_at, "it is older than its target")
        for _ in range(3):
            embedding = mixed.send(stack, text(), mixed.embedder)
            assert is_embedded(embedding.response())
        assert max(d.waited_s for d in decisions(mixed.router)) < 1  # held back, it would be two


def test_embeddings_are_not_held_back_for_ever() -> None:
    with serve_mixed(settings(ttft_s=0.1)) as mixed, ExitStack() as stack:
        mixed.embedder.let_go()
        mixed.send(stack, named("chat", stream=True), mixed.chat)
        eventually(lambda: mixed.gpu()["may_start_embedding"] is False, "it is held back")
        (embedding,) = queue_up(stack, mixed.router, [text()])
        assert is_embedded(embedding.response())
        assert decisions(mixed.router)[-1].waited_s >= 2.0


def test_a_chat_that_leaves_before_its_first_byte_frees_the_gpu() -> None:
    with serve_mixed(settings(ttft_s=0.4)) as mixed, ExitStack() as stack:
        mixed.embedder.let_go()
        chat = mixed.send(stack, named("chat", stream=True), mixed.chat)
        eventually(lambda: mixed.gpu()["may_start_embedding"] is False, "it is held back")
        (embedding,) = queue_up(stack, mixed.router, [text()])
        chat.close()
        assert is_embedded(embedding.response())
        assert decisions(mixed.router)[-1].waited_s < 2.0


# What the chat engine says of itself.


def page(waiting: int, kv_use: float = 0.1) -> str:
    """vLLM's page of metrics, as far as it matters."""
    return (
        "vllm:num_requests_running 1\n"
        f"vllm:num_requests_waiting {waiting}\nvllm:kv_cache_usage_perc {kv_use}\n"
    )


@pytest.mark.parametrize(
    ("said", "cause"), [(page(3), "engine_queue"), (page(0, 0.95), "engine_kv_cache")]
)
def test_no_embedding_starts_while_the_chat_engine_says_that_it_is_short(
    said: str, cause: str
) -> None:
    with serve_mixed(settings(), "held_stream") as mixed, ExitStack() as stack:
        mixed.embedder.let_go()
        mixed.chat.metrics = said
        chat = mixed.send(stack, named("chat", stream=True), mixed.chat)
        chat.read_until(b'{"n": 1}')
        eventually(lambda: mixed.gpu()["embeddings_held_back_by"] == cause, "it is held back")
        (embedding,) = queue_up(stack, mixed.router, [text()])
        assert mixed.embedder.requests == []
        mixed.chat.metrics = page(0)
        assert is_embedded(embedding.response())
        assert 0 < decisions(mixed.router)[-1].waited_s < MAX_HELD_S
        assert mixed.gpu()["embeddings_held_back_by"] is None


def test_what_a_chat_engine_said_counts_for_nothing_when_its_chats_have_ended() -> None:
    with serve_mixed(settings()) as mixed, ExitStack() as stack:
        mixed.embedder.let_go()
        mixed.chat.metrics = page(3)
        chat = mixed.send(stack, named("chat"), mixed.chat)
        eventually(lambda: mixed.gpu()["may_start_embedding"] is False, "it is held back")
        (embedding,) = queue_up(stack, mixed.router, [text()])
        mixed.chat.let_go()
        assert chat.response().body == ANSWER
        assert is_embedded(embedding.response())
        assert decisions(mixed.router)[-1].waited_s < MAX_HELD_S


def test_an_engine_that_is_always_short_does_not_hold_embeddings_back_for_ever() -> None:
    with serve_mixed(settings()) as mixed, ExitStack() as stack:
        mixed.embedder.let_go()
        mixed.chat.metrics = page(3, 1.0)
        mixed.send(stack, named("chat"), mixed.chat)
        eventually(lambda: mixed.gpu()["may_start_embedding"] is False, "it is held back")
        (first,) = queue_up(stack, mixed.router, [text()])
        assert is_embedded(first.response())
        assert decisions(mixed.router)[-1].waited_s >= MAX_HELD_S
        second = mixed.send(stack, text(), mixed.embedder)
        assert is_embedded(second.response())
        assert decisions(mixed.router)[-1].waited_s < 1, "it has been seen that it does not help"


def test_a_pool_that_puts_embeddings_first_does_not_ask_how_the_chat_engine_is() -> None:
    scheduling = settings(embedding_priority="high")
    with serve_mixed(scheduling) as mixed, ExitStack() as stack:
        mixed.embedder.let_go()
        mixed.chat.metrics = page(3, 1.0)
        mixed.send(stack, named("chat"), mixed.chat)
        loads = mixed.router.dispatcher.snapshot
        eventually(
            lambda: any(b.engine is not None for b in mixed.router.call(loads)), "it has said so"
        )
        embedding = mixed.send(stack, text(), mixed.embedder)
        assert is_embedded(embedding.response())
        assert mixed.gpu()["embeddings_held_back_by"] is None


# Shares of the time.


def embedding_share(ratio: float) -> float:
    """The embeddings' part of the calls while both kinds wait for one simulated engine."""
    count = 80
    pace = Pace(first_token_s=0.012, embed_call_s=0.012, batch_slowdown=0.0)
    scheduling = settings(hybrid_instance_ratio=ratio, embedding_batch_size=1)
    with serve_simulator(pace=pace) as port, ExitStack() as stack:
        both = [
            backend(port, instance="mixed", device="gpu", limit=1, models=(CHAT,)),
            backend(
                port, instance="mixed", device="gpu", limit=1, models=(EMBEDDING,), role="embedding"
            ),
        ]
        with serve_router(table_of(*both, scheduling=scheduling)) as router:
            requests = [
                request
                for i in range(count)
                for request in (named(f"chat-{i}", model=CHAT), text(f"text-{i}", EMBEDDING))
            ]
            open_all(stack, router.port, requests)
            eventually(lambda: len(decisions(router)) >= count, "half of them are started")
            kinds = [decision.kind for decision in decisions(router)[20:count]]
            return kinds.count("embedding") / len(kinds)


def test_a_larger_instance_ratio_leaves_embeddings_less_of_a_mixed_instance() -> None:
    shares = {ratio: embedding_share(ratio) for ratio in (1.0, 0.7, 0.3, 0.0)}
    assert shares[1.0] < 0.06
    assert 0.1 < shares[0.7] < 0.33
    assert shares[0.7] + 0.08 < shares[0.3] < 0.7
    assert shares[0.0] > 0.9


def test_with_all_of_the_time_for_chat_an_embedding_waits_for_its_first_byte() -> None:
    with serve_mixed(settings(hybrid_instance_ratio=1.0)) as mixed, ExitStack() as stack:
        mixed.embedder.let_go()
        mixed.send(stack, named("chat"), mixed.chat)
        (embedding,) = queue_up(stack, mixed.router, [text()])
        assert mixed.embedder.requests == []
        mixed.chat.let_go()
        assert is_embedded(embedding.response())


def test_with_none_of_the_time_for_chat_what_comes_waits_while_embeddings_wait() -> None:
    with (
        serve_mixed(settings(hybrid_instance_ratio=0.0), chat_limit=2) as mixed,
        ExitStack() as stack,
    ):
        mixed.send(stack, text("text-1"), mixed.embedder)
        queue_up(stack, mixed.router, [text("text-2")])
        mixed.send(stack, named("chat-1"), mixed.chat)  # nothing of its kind was there before it
        (last,) = queue_up(stack, mixed.router, [named("chat-2")])
        mixed.embedder.let_go()
        mixed.chat.let_go()
        assert last.response().body == ANSWER
        in_order = [d.request_id for d in decisions(mixed.router)]
        assert in_order == [b"text-1", b"chat-1", b"text-2", b"chat-2"]


def test_the_admin_port_shows_a_gpu_that_both_share() -> None:
    with serve_mixed(settings()) as mixed, ExitStack() as stack:
        mixed.send(stack, text(), mixed.embedder)
        shown = mixed.gpu()
        assert (shown["device"], shown["instances"]) == ("gpu", ["mixed"])
        assert (shown["embedding_calls"], shown["target_is_reachable"]) == (1, True)
        mixed.embedder.let_go()
        eventually(lambda: mixed.gpu()["embedding_calls"] == 0, "it has ended")
