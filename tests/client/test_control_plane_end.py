"""A control plane's end: nothing of it stays."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import sagepool
from client_engines import engine
from client_face import Face
from client_planes import MISSING, open_client, planes, socket_of
from operator_waiting import until
from router_wire import eventually
from sagepool import AsyncUnifiedInferenceClient, UnifiedInferenceClient
from sagepool.control_plane import build_control_plane


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
