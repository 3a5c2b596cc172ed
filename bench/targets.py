"""What is measured: the engine itself, the router, and other ways to stand before an engine."""

import http.client
import json
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from bench.errors import CannotMeasure, TargetFailed
from bench.peers import HOST, PEERS, Ports
from bench.processes import Running, running
from bench.workloads import CHAT_MODEL, EMBEDDING_MODEL, chat_body

DIRECT: Final = "direct"
BARE: Final = "bare"
ROUTER: Final = "router"
PLAIN: Final = "plain"
BUILT_IN: Final = (DIRECT, BARE, ROUTER, PLAIN)
START_LIMIT_S: Final = 90.0
LOOPBACKS_A_NET: Final = 250

NO_PEERS: Final[Mapping[str, Path]] = MappingProxyType({})

_BASELINES = Path(__file__).parent / "baselines"

Document: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Target:
    """An address that answers; `program` is None where that is the engine itself."""

    name: str
    port: int
    program: Running | None


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run: what measures, what is measured, and the stand-in engine."""

    load: int
    router: int
    engine: int
    """The load's where there is no third."""


@contextmanager
def engine_running(program: Path, *cores: int, addresses: int = 1) -> Iterator[Target]:
    """Run the stand-in engine for the block, at one or more addresses with the same port."""
    command = [str(program), f"-addresses={addresses}"]
    with running("the stand-in engine", command, *cores) as engine:
        stdout = engine.process.stdout
        line = stdout.readline() if stdout is not None else ""
        if not line.strip().isdigit():
            engine.process.wait(START_LIMIT_S)
            engine.check()
            raise TargetFailed("the stand-in engine did not say its port")
        yield Target(DIRECT, int(line), engine)


@contextmanager
def target_running(name: str, command: Sequence[str], port: int, core: int) -> Iterator[Target]:
    """Run a program that stands before the engine, from its first good answer on.

    Raises TargetFailed when it ends or does not answer in time.
    """
    with running(name, command, core) as program:
        wait_for_answer(program, port)
        yield Target(name, port, program)


def parse_baselines(options: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Read NAME=COMMAND options; the command is later given a port and the engine's port.

    Raises CannotMeasure for another form or a name that is taken.
    """
    baselines: dict[str, tuple[str, ...]] = {}
    for option in options:
        name, _, command = option.partition("=")
        words = tuple(shlex.split(command))
        if not name or not words:
            raise CannotMeasure(f"--baseline {option!r}: write NAME=COMMAND")
        if name in (*BUILT_IN, *PEERS) or name in baselines:
            raise CannotMeasure(f"--baseline {option!r}: the name {name} is taken, use another")
        baselines[name] = words
    return baselines


def build_command(
    name: str,
    baselines: Mapping[str, Sequence[str]],
    port: int,
    engine_port: int,
    folder: Path,
    peers: Mapping[str, Path] = NO_PEERS,
) -> list[str]:
    """The command that starts a target; what it reads is written below `folder`.

    `peers` has the folders of the peers' programs.
    """
    if name == ROUTER:
        return router_command(port, engine_port, folder)
    if name in peers:
        return PEERS[name].build(peers[name], Ports(port, free_port(), engine_port), folder)
    ports = [str(port), str(engine_port)]
    if name in baselines:
        return [*baselines[name], *ports]
    return [sys.executable, str(_BASELINES / f"{name}.py"), *ports]


def router_command(port: int, engine_port: int, folder: Path, instances: int = 1) -> list[str]:
    """The command of our router as it ships; its pool is written below `folder`."""
    config = folder / f"pool-{instances}.yaml"
    config.write_text(pool_file(engine_port, instances))
    program = Path(sys.executable).with_name("sagepool-router")
    return [
        *(str(program), "serve", "--source", "file", "--config", str(config)),
        *("--host", HOST, "--port", str(port), "--admin-port", str(free_port())),
    ]


def bare_command(port: int, engine_port: int, engines: int = 1) -> list[str]:
    """The command of the bare relay; it sends to so many engines in turn."""
    hosts = [engine_host(number) for number in range(engines)]
    return [sys.executable, str(_BASELINES / "bare.py"), str(port), str(engine_port), *hosts]


def pool_file(engine_port: int, instances: int = 1) -> str:
    """The pool that the router is given: the engine, for both kinds, once for each instance.

    JSON is YAML as well.
    """
    kind = {"apiVersion": "sagepool.dev/v1alpha1"}
    models = (("llm", CHAT_MODEL), ("embedding", EMBEDDING_MODEL))
    pool: Document = {
        **kind,
        "kind": "InferencePool",
        "metadata": {"name": "bench"},
        "spec": {
            "groups": [
                {
                    "name": model,
                    "role": role,
                    "engine": {"type": "simulator"},
                    "model": {"name": model},
                    "replicas": 0,
                }
                for role, model in models
            ]
        },
    }
    members: list[Document] = [
        {
            **kind,
            "kind": "InferenceInstance",
            "metadata": {"name": f"bench-engine-{number}"},
            "spec": {
                "poolRef": "bench",
                "engine": "vllm",
                "maxConcurrency": 65_536,
                "endpoints": [
                    {"role": role, "url": engine_url(number, engine_port), "models": [model]}
                    for role, model in models
                ],
            },
        }
        for number in range(instances)
    ]
    return "\n---\n".join(json.dumps(document, indent=1) for document in (pool, *members)) + "\n"


def engine_url(number: int, port: int) -> str:
    """An address that the stand-in engine answers at."""
    return f"http://{engine_host(number)}:{port}"


def engine_host(number: int) -> str:
    """One of the addresses that the stand-in engine listens at; it counts them the same way."""
    net, host = divmod(number, LOOPBACKS_A_NET)
    return f"127.0.{net}.{host + 1}"


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_answer(program: Running, port: int) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        program.check()
        answer = _ask(port)
        if answer == "200":
            return
        if time.monotonic() > deadline:
            raise TargetFailed(
                f"{program.name} gave no good answer within {START_LIMIT_S:g} s; last: {answer}"
            )
        time.sleep(0.05)


def _ask(port: int) -> str:
    """The status of one chat request, with the answer's text when it is not 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5.0)
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            chat_body("ready?"),
            {"content-type": "application/json"},
        )
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        return "200" if answer.status == 200 else f"{answer.status} {text[:300]}"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
