"""The command line: `python -m bench.operator_scale`. Needs root: it makes a cluster of its own."""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.ending import run_to_end
from bench.errors import CannotMeasure, TargetFailed
from bench.machine import read_facts
from bench.operator_scale import measure, objects
from bench.operator_scale.connection import connect
from bench.operator_scale.figures import Figures, missed, render
from bench.processes import Running, running
from bench.report import write_figures
from sagepool_cluster.cluster import Cluster, bring_up
from sagepool_cluster.progress import StderrProgress

PAGE: Final = Path(__file__).parents[2] / "docs" / "operator-scale.md"
BEGIN: Final = "<!-- operator: written by `python -m bench.operator_scale --write` -->"
END: Final = "<!-- end of operator -->"
CRDS: Final = Path(__file__).parents[2] / "crds"
NETWORK: Final = "10.199.0.0/16"
"""Addresses of played pods; they lead to this machine while it measures."""
NODES: Final = tuple(f"played-{number}" for number in range(10))
CLUSTER: Final[Mapping[str, str]] = {
    "SAGEPOOL_CLUSTER_NAME": "opbench",
    "SAGEPOOL_CLUSTER_POD_RANGE": "10.246.0.0/16",
    "SAGEPOOL_CLUSTER_SERVICE_RANGE": "10.97.0.0/16",
    "SAGEPOOL_CLUSTER_LINK_RANGE": "10.247.0.0/30",
    # As Kubernetes is set up where nobody changes it.
    "SAGEPOOL_CLUSTER_THROTTLED": "yes",
}
_LIVENESS_PORT: Final = 18080
_START_LIMIT_S: Final = 60.0
_SITE: Final = (NETWORK, *NODES)
_OPERATOR: Final[Mapping[str, str]] = {
    "SAGEPOOL_OPERATOR_IMAGE": objects.IMAGES.own,
    "SAGEPOOL_OPERATOR_LIVENESS_PORT": str(_LIVENESS_PORT),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.operator_scale", description="What the operator takes at scale."
    )
    parser.add_argument("--pools", type=int, default=100)
    parser.add_argument("--engines", type=int, default=10, help="of each pool")
    parser.add_argument("--seconds", type=float, default=60.0, help="to watch settled pools")
    parser.add_argument("--write", action="store_true", help=f"also into {PAGE.name}")
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    options = parser.parse_args(arguments)
    return run_to_end(lambda: _report(options))


def _report(options: argparse.Namespace) -> int:
    size = measure.Size(options.pools, options.engines, options.seconds)
    facts = {k: v for k, v in read_facts().items() if k not in ("uvicorn", "fastapi", "httptools")}
    figures = _measure(size)
    report = render(figures, facts)
    print(report)
    if options.write:
        write_figures(PAGE, report, BEGIN, END)
    failures = missed(figures)
    for failure in failures:
        print(f"missed: {failure}", file=sys.stderr)
    return 1 if options.check and failures else 0


def _measure(size: measure.Size) -> Figures:
    with ExitStack() as stack:
        cluster = stack.enter_context(_own_cluster())
        if cluster.audit_log is None:
            raise CannotMeasure("the cluster keeps no audit log")
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        kubectl = cluster.tools / "kubectl"
        _run(kubectl, "apply", "--server-side", "-f", CRDS)
        _run(kubectl, "cordon", CLUSTER["SAGEPOOL_CLUSTER_NAME"])
        stack.enter_context(_addresses())
        asyncio.run(_prepare())
        site = stack.enter_context(_python("site", "-m", "bench.operator_scale.site", *_SITE))
        if site.process.stdout is None or site.process.stdout.readline() != "ready\n":
            site.process.wait(_START_LIMIT_S)
            site.check()
        print("bare Deployments", file=sys.stderr)
        bare_s = asyncio.run(_bare(size))
        print(f"pools (bare: {bare_s:.1f} s)", file=sys.stderr)
        os.environ.update(_OPERATOR)
        operator = stack.enter_context(_python("operator", "-m", "sagepool_operator.cli", "run"))
        _await_operator(operator)
        return asyncio.run(_pools(size, operator, cluster.audit_log, bare_s))


async def _prepare() -> None:
    async with connect("bench") as api:
        await measure.make_nodes(api, NODES)


async def _bare(size: measure.Size) -> float:
    async with connect("bench") as api:
        return await measure.bring_up_bare(api, size)


async def _pools(size: measure.Size, operator: Running, audit_log: Path, bare_s: float) -> Figures:
    async with connect("bench") as api:
        return await measure.measure_pools(api, size, operator, audit_log, bare_s)


@contextmanager
def _own_cluster() -> Iterator[Cluster]:
    """A cluster of the bench's own: what others do on one would be measured too."""
    with tempfile.TemporaryDirectory(prefix="opbench") as folder:
        state = str(Path(folder) / "state")
        environ = {**os.environ, **CLUSTER, "SAGEPOOL_CLUSTER_STATE": state}
        cluster = bring_up("embedded", environ=environ, progress=StderrProgress())
        try:
            yield cluster
        finally:
            cluster.provider.down()


@contextmanager
def _addresses() -> Iterator[None]:
    """Lead the network of played pods to this machine."""
    route = ("local", NETWORK, "dev", "lo")
    _run("ip", "route", "replace", *route)
    try:
        yield
    finally:
        _run("ip", "route", "delete", *route)


@contextmanager
def _python(name: str, *arguments: str) -> Iterator[Running]:
    cores = sorted(os.sched_getaffinity(0))
    with running(name, [sys.executable, *arguments], *cores) as program:
        yield program


def _await_operator(operator: Running) -> None:
    """Until it has read everything there is."""
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline:
        operator.check()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{_LIVENESS_PORT}/healthz") as answer:
                if b'"leading": true' in answer.read():
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise TargetFailed("the operator does not start")


def _run(*command: object) -> None:
    try:
        subprocess.run(
            [str(part) for part in command], check=True, capture_output=True, text=True, timeout=60
        )
    except subprocess.CalledProcessError as error:
        raise CannotMeasure(f"{command[0]}: {error.stderr.strip()}") from error
    except OSError as error:
        raise CannotMeasure(f"{command[0]}: {error.strerror}") from error
