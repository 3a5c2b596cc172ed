"""A router in the client's process: what is scheduled is what is sent, and nothing of it stays."""

import asyncio
import gc
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

import sagepool
from client_engines import Engine, engine
from client_face import Client, Face
from operator_waiting import until
from router_wire import eventually
from sagepool import AsyncUnifiedInferenceClient, UnifiedInferenceClient
from sagepool.control_plane import build_control_plane

MISSING = {"host": "127.0.0.1", "port": 1, "model_name": "m", "instance_type": "llm"}


def planes() -> list[str]:
    """Threads of control planes that live."""
    return [t.name for t in threading.enumerate() if t.name.startswith("sagepool")]


def socket_of(client: Client) -> Path:
    (endpoint,) = {endpoint.server for endpoint in client._endpoints.values()}
    assert endpoint.uds is not None
    return endpoint.uds


def waiting(client: Client) -> int:
    """Requests in the router's queue, from its own metrics."""
    transport = httpx.HTTPTransport(uds=str(socket_of(client)))
    with httpx.Client(transport=transport, base_url="http://router") as http:
        page = http.get("/metrics").text
    lines = [
        line for line in page.splitlines() if line.startswith("sagepool_router_queue_requests")
    ]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


class Callers:
    """Calls from threads, in an order that is certain: each waits in the queue before the next."""

    def __init__(self, client: UnifiedInferenceClient, stack: ExitStack) -> None:
        self._client = client
        self._stack = stack
        self.answers: dict[str, Any] = {}

    def send(self, name: str, call: Callable[[], Any]) -> None:
        """Begin a call, and go on when it waits."""
        before = waiting(self._client)
        self._start(name, call)
        eventually(lambda: waiting(self._client) == before + 1, f"{name} waits")

    def occupy(self, held: Engine, call: Callable[[], Any]) -> None:
        """Give an engine that is held its first request."""
        held.hold()
        self._start("first", call)
        eventually(lambda: len(held.asked) == 1, "the engine is busy")

    def _start(self, name: str, call: Callable[[], Any]) -> None:
        thread = threading.Thread(target=lambda: self.answers.update({name: call()}))
        thread.start()
        self._stack.callback(thread.join, 20)


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


def open_client(
    stack: ExitStack, instances: Sequence[Any], policy: str, **more: Any
) -> UnifiedInferenceClient:
    return stack.enter_context(
        UnifiedInferenceClient.create_with_control_plane(instances, policy, **more)
    )


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


class TestWrongUse:
    @pytest.mark.parametrize(
        ("instances", "words"),
        [
            ([], "instances is empty"),
            (None, "instances must be a list, not NoneType"),
            (MISSING, "instances must be a list, not dict"),
            ([5], r"instances\[0\] must be a mapping, not int"),
            ([{}], r"instances\[0\].host: Field required; an instance has host, port"),
            ([{**MISSING, "port": 0}], r"instances\[0\].port: .*greater than or equal to 1"),
            ([MISSING, {**MISSING, "port": "x"}], r"instances\[1\].port"),
            ([{**MISSING, "instance_type": "prefill"}], r"instances\[0\].instance_type"),
            ([{**MISSING, "gpu": 1}], r"instances\[0\].gpu: Extra inputs"),
            ([{**MISSING, "engine": "tei"}], "tei serves embeddings only"),
            ([{**MISSING, "instance_type": "llm_embedding"}], "embedding_model_name belongs to"),
            ([{**MISSING, "embedding_model_name": "e"}], "embedding_model_name belongs to"),
            ([{**MISSING, "host": "a b"}], r"instances\[0\] is wrong: .*url"),
            (
                [MISSING, {**MISSING, "instance_type": "embedding"}],
                "'m' is given as llm and as embedding",
            ),
        ],
    )
    def test_an_instance_that_is_wrong_names_its_field(self, instances: Any, words: str) -> None:
        with pytest.raises(sagepool.ConfigurationError, match=words):
            build_control_plane(instances, "hybrid", None)

    @pytest.mark.parametrize(
        ("policy", "scheduling", "words"),
        [
            ("lottery", {}, "scheduling.policy: .*'hybrid'"),
            ("hybrid", {"hybridInstanceRatio": 2}, "hybridInstanceRatio"),
            ("hybrid", {"ratio": 1}, "scheduling.ratio: Extra inputs"),
        ],
    )
    def test_so_does_scheduling(self, policy: str, scheduling: Any, words: str) -> None:
        with pytest.raises(sagepool.ConfigurationError, match=words):
            build_control_plane([MISSING], policy, scheduling)

    def test_without_the_router_the_way_out_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [n for n in sys.modules if n.startswith("sagepool.control_plane.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        with pytest.raises(
            sagepool.ConfigurationError, match=r'uvicorn is not installed: pip install "sagepool\['
        ):
            build_control_plane([MISSING], "hybrid", None)

    @pytest.mark.parametrize("options", [{"timeout": 0}, {"startup_timeout": -1}, {"typo": 1}])
    def test_a_bad_option_leaves_nothing(
        self, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(sagepool.ConfigurationError, match=next(iter(options))):
            face.create_with_control_plane([MISSING], **options)
        assert list(tmp_path.iterdir()) == []
        assert planes() == []

    def test_a_path_too_long_for_a_socket_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deep = tmp_path / ("x" * 100)
        deep.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        with pytest.raises(sagepool.ConfigurationError, match="set TMPDIR to a shorter one"):
            build_control_plane([MISSING], "hybrid", None)
        assert list(deep.iterdir()) == []

    def test_engines_that_do_not_come_are_told_one_by_one(self, face: Face) -> None:
        with pytest.raises(sagepool.UnavailableError) as told:
            face.create_with_control_plane([MISSING, {**MISSING, "port": 2}], startup_timeout=2)
        assert "no engine was ready within 2 s" in str(told.value)
        assert "http://127.0.0.1:1 cannot be reached" in str(told.value)
        assert "http://127.0.0.1:2 cannot be reached" in str(told.value)
        assert planes() == []

    def test_an_engine_that_serves_something_else_is_told(self) -> None:
        with engine("m") as only, pytest.raises(sagepool.UnavailableError, match="serves m, not x"):
            UnifiedInferenceClient.create_with_control_plane(
                [{**only.instance, "model_name": "x"}], startup_timeout=3
            )


class TestEnd:
    def test_nothing_stays(self, face: Face) -> None:
        with engine("m") as only:
            client = face.create_with_control_plane([only.instance])
            face.chat(client, "hi")
            path = socket_of(client)
            assert path.is_socket()
            assert len(planes()) == 1
            face.close(client)
            face.close(client)
        assert planes() == []
        assert not path.parent.exists()

    def test_a_call_under_way_does_not_hold_it_up(self) -> None:
        with engine("m") as only:
            client = UnifiedInferenceClient.create_with_control_plane([only.instance])
            only.hold()
            failures: list[BaseException] = []

            def call() -> None:
                try:
                    client.chat("hi", timeout=20)
                except sagepool.SagepoolError as error:
                    failures.append(error)  # the connection, or that there is no client any more

            thread = threading.Thread(target=call)
            thread.start()
            eventually(lambda: only.asked == ["hi"], "the engine is asked")
            began = time.monotonic()
            client.close()
            assert time.monotonic() - began < 5
            thread.join(5)
            assert len(failures) == 1
        assert planes() == []

    def test_a_client_that_is_forgotten_is_cleaned_up(self) -> None:
        with engine("m") as only:
            client = UnifiedInferenceClient.create_with_control_plane([only.instance])
            path = socket_of(client)
            for link in client._links.values():
                link.close()
            del client, link
            gc.collect()
        assert planes() == []
        assert not path.parent.exists()

    def test_the_interpreter_ends_without_a_close(self) -> None:
        with engine("m") as only:
            program = (
                "import sagepool\n"
                "client = sagepool.UnifiedInferenceClient.create_with_control_plane("
                f"[{only.instance!r}])\n"
                "print(client.chat('hi'), client._endpoints['llm'].uds.parent)"
            )
            done = subprocess.run(
                [sys.executable, "-c", program],
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            )
        answer, _, folder = done.stdout.strip().rpartition(" ")
        assert answer == "re: hi"
        assert not Path(folder).exists()

    async def test_a_cancelled_start_leaves_nothing(self) -> None:
        starting = asyncio.create_task(
            AsyncUnifiedInferenceClient.create_with_control_plane([MISSING], startup_timeout=30)
        )
        await until(lambda: planes() != [])
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert planes() == []

    def test_what_was_stopped_does_not_start(self) -> None:
        plane = build_control_plane([MISSING], "hybrid", None)
        plane.stop()
        with pytest.raises(sagepool.UnavailableError, match="was stopped"):
            plane.start(30)
        assert planes() == []

    def test_two_at_once_do_not_meet(self) -> None:
        with engine("a") as one, engine("b") as two, ExitStack() as stack:
            first = open_client(stack, [one.instance], "fifo")
            second = open_client(stack, [two.instance], "hybrid")
            assert (first.chat("1"), second.chat("2")) == ("re: 1", "re: 2")
        assert (one.asked, two.asked) == (["1"], ["2"])
