"""The real program on real sockets: start, follow its source, stop."""

import asyncio
import json
import os
import signal
import socket
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import openai
import pytest

from kube_world import until
from router_app_engine import paced_engine
from router_app_objects import write_pool
from router_process import RouterProcess, file_router, running_router, start_router

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def test_it_answers_requests_over_engines_from_a_file(tmp_path: Path):
    async with paced_engine() as engine:
        engine.released.set()
        async with file_router(write_pool(tmp_path / "pool.yaml", a=engine.url)) as router:
            await router.until_instances(a=True)
            answer = await router.client.post(f"{router.url}/v1/chat/completions", json=CHAT)
            assert answer.status_code == 200
            assert answer.headers["x-sagepool-instance"] == "a"
            assert answer.text.endswith("data: [DONE]\n\n")
            metrics = (await router.get("/metrics")).text
            line = 'sagepool_router_requests_total{model="qwen2.5-7b",role="llm",code="200"} 1'
            assert line in metrics


async def test_the_openai_client_lists_the_models(tmp_path: Path):
    path = write_pool(tmp_path / "pool.yaml")
    async with (
        file_router(path) as router,
        openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key="none") as client,
    ):
        listed = [model.id async for model in client.models.list()]
        assert sorted(listed) == ["bge-m3", "gpt-4o-mini", "qwen2.5-7b"]
        assert (await client.models.retrieve("gpt-4o-mini")).id == "gpt-4o-mini"
        with pytest.raises(openai.NotFoundError, match="models: bge-m3"):
            await client.models.retrieve("gpt-9")


async def test_a_wrong_method_on_an_inference_route_is_405(tmp_path: Path):
    async with file_router(write_pool(tmp_path / "pool.yaml")) as router:
        answer = await router.get("/v1/chat/completions")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_a_model_without_an_instance_is_503_with_a_reason(tmp_path: Path):
    async with file_router(write_pool(tmp_path / "pool.yaml")) as router:
        answer = await router.client.post(f"{router.url}/v1/chat/completions", json=CHAT)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        assert "no instance of qwen2.5-7b exists yet" in answer.json()["error"]["message"]


async def test_an_edit_of_the_file_changes_the_table_and_a_broken_one_does_not(tmp_path: Path):
    async with paced_engine() as engine:
        path = write_pool(tmp_path / "pool.yaml", a=engine.url)
        async with file_router(path) as router:
            await router.until_instances(a=True)
            write_pool(path, a=engine.url, b=engine.url)
            table = await router.until_instances(a=True, b=True)

            path.write_text("groups: [")
            await until(lambda: "pool file ignored: the last table stays" in router.messages())
            said = (await router.get("/ready")).json()
            assert said["status"] == "ready"
            assert "it is not YAML" in said["source"]["error"]
            now = (await router.admin_get("/admin/table")).json()
            assert now["version"] == table["version"]

            # as editors and Kubernetes do it: a new file takes the place of the old one
            os.replace(write_pool(tmp_path / "new.yaml", b=engine.url), path)
            await router.until_instances(b=True)
            assert (await router.get("/ready")).json()["source"]["error"] == ""


async def test_many_engines_that_answer_together_are_few_tables(tmp_path: Path):
    async with paced_engine() as engine:
        names = [f"engine-{number}" for number in range(40)]
        path = write_pool(tmp_path / "pool.yaml", **dict.fromkeys(names, engine.url))
        async with file_router(path) as router:
            table = await router.until_instances(**dict.fromkeys(names, True))
            assert table["version"] < 20


async def test_a_file_that_is_gone_keeps_the_table(tmp_path: Path):
    path = write_pool(tmp_path / "pool.yaml")
    async with file_router(path) as router:
        path.unlink()
        await until(lambda: "pool file ignored: the last table stays" in router.messages())
        said = (await router.until_status("/ready", 200)).json()
        assert "No such file" in said["source"]["error"]


async def test_a_file_that_is_broken_at_the_start_is_not_ready_and_can_be_mended(tmp_path: Path):
    path = tmp_path / "pool.yaml"
    path.write_text("kind: Pod")
    async with running_router("--source=file", f"--config={path}") as router:
        await router.until_unready_because("only InferencePool")
        assert (await router.get("/health")).status_code == 200
        write_pool(path)
        await router.until_status("/ready", 200)


async def test_an_engine_that_dies_leaves_the_table_and_comes_back(tmp_path: Path):
    async with paced_engine() as engine, paced_engine() as other:
        path = write_pool(tmp_path / "pool.yaml", a=engine.url, b=other.url)
        async with file_router(path) as router:
            await router.until_instances(a=True, b=True)
            await engine.stop()
            table = await router.until_instances(a=False, b=True)
            assert "cannot be reached" in table["instances"][0]["reason"]
            assert table["instances"][0]["phase"] == "Failed"
            await engine.start()
            await router.until_instances(a=True, b=True)


@asynccontextmanager
async def open_stream(router: RouterProcess) -> AsyncIterator[asyncio.StreamReader]:
    """A stream that has sent its first event."""
    host, port = router.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(CHAT).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    await reader.readuntil(b'{"n": 1}\n\n\r\n')
    yield reader
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_finishes_streams_refuses_new_ones_and_ends_with_0(
    tmp_path: Path, number: int
):
    async with paced_engine() as engine:
        path = write_pool(tmp_path / "pool.yaml", a=engine.url)
        async with file_router(path, "--grace-seconds=20") as router:
            await router.until_instances(a=True)
            async with open_stream(router) as stream:
                router.signal(number)
                said = await router.until_status("/ready", 503, admin=True)
                assert said.json()["reasons"] == ["the router is shutting down"]
                await until_refused(router)
                engine.released.set()
                assert (await stream.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            assert await router.wait() == 0
            assert router.messages()[-1] == "stopped"


async def until_refused(router: RouterProcess) -> None:
    """Wait until nobody listens any more. No request is sent: one that meets the close itself may
    be accepted and find its connection closed, as RFC 9112, section 9.5, allows; so may a mere
    connection be reset."""
    host, port = router.url.removeprefix("http://").split(":")
    async with asyncio.timeout(10):
        while True:
            with socket.socket() as client:
                client.setblocking(False)
                try:
                    await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
                except ConnectionRefusedError:
                    return
                except ConnectionResetError:
                    continue


async def test_a_stream_that_outlasts_the_grace_is_ended_visibly(tmp_path: Path):
    async with paced_engine() as engine:
        path = write_pool(tmp_path / "pool.yaml", a=engine.url)
        async with file_router(path, "--grace-seconds=0.5") as router:
            await router.until_instances(a=True)
            async with open_stream(router) as stream:
                router.signal()
                left = b""
                with suppress(ConnectionError):
                    left = await stream.read()
                assert b"0\r\n\r\n" not in left
            assert await router.wait() == 0


async def test_a_second_signal_ends_it_at_once(tmp_path: Path):
    async with paced_engine() as engine:
        path = write_pool(tmp_path / "pool.yaml", a=engine.url)
        async with file_router(path, "--grace-seconds=3600") as router:
            await router.until_instances(a=True)
            async with open_stream(router):
                router.signal()
                await until(lambda: "stopping" in router.messages())
                router.signal()
                assert await router.wait(10) == 0
            assert "stopping at once" in router.messages()
            assert not [entry for entry in router.logs if entry["level"] in ("error", "critical")]


@pytest.mark.parametrize("flag", ["--port", "--admin-port"])
async def test_a_busy_port_is_one_sentence_and_exit_code_1(tmp_path: Path, flag: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        process = await start_router(
            "serve",
            "--source=file",
            f"--config={write_pool(tmp_path / 'pool.yaml')}",
            "--host=127.0.0.1",
            "--port=0",
            "--admin-host=127.0.0.1",
            "--admin-port=0",
            f"{flag}={number}",
        )
        _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode() == (
        f"sagepool-router: cannot listen on 127.0.0.1 port {number}: address already in use; "
        f"choose another with {flag}\n"
    )


def kubeconfig(path: Path, port: int) -> Path:
    path.write_text(
        textwrap.dedent(f"""
        apiVersion: v1
        kind: Config
        current-context: c
        clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
        users: [{{name: u, user: {{token: t}}}}]
        contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
        """)
    )
    return path


async def test_it_starts_without_an_api_server_and_says_so(tmp_path: Path, unused_tcp_port: int):
    env = {"KUBECONFIG": str(kubeconfig(tmp_path / "kubeconfig", unused_tcp_port))}
    async with running_router("--source=kubernetes", "--pool=default/rag", env=env) as router:
        said = (await router.until_status("/ready", 503)).json()
        assert said["reasons"][0] == "no table was loaded yet from kubernetes default/rag"
        assert said["source"]["connected"] is False
        assert (await router.get("/health")).status_code == 200
        assert (await router.get("/v1/models")).status_code == 503
        router.signal()
        assert await router.wait() == 0


async def test_without_any_cluster_it_ends_with_1_and_one_sentence(tmp_path: Path):
    env = {"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}
    process = await start_router(
        "serve",
        "--source=kubernetes",
        "--pool=default/rag",
        "--host=127.0.0.1",
        "--port=0",
        "--admin-host=127.0.0.1",
        "--admin-port=0",
        env=env,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().startswith("sagepool-router: there is no kubeconfig at ")
    assert said.count(b"\n") == 1
