"""Runs the load against a target and reads what it cost."""

import http.client
import json
import math
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from bench.errors import LoadFailed
from bench.figures import percentile
from bench.peers import HOST
from bench.processes import bound_to, last_words
from bench.procfs import Usage
from bench.targets import Cores, Target
from bench.workloads import Workload

PATIENCE_S: Final = 120.0
"""The longest that one answer may take, and the load generator beyond its own limit."""

_SAMPLE_INTERVAL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Answers:
    """What the load generator saw; latencies in milliseconds."""

    requests: int
    events: int
    wall_s: float
    cpu_s: float
    latencies_ms: tuple[float, ...]
    firsts_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one target under one workload in one round."""

    rate: float
    """Units a second."""
    cpu_us: float
    """CPU time of the program under test per unit; NaN for the engine itself."""
    p50_ms: float
    p99_ms: float
    """Of whole answers, or of the first event where answers are streams."""
    rss_bytes: int
    """Largest resident memory of the program under test meanwhile; 0 for the engine itself."""
    router_busy: float
    """Share of the program's core that it used."""
    load_busy: float
    """Share that the load generator and the engine used of their core; of the busier one where each
    has its own."""
    engine_calls: float = math.nan
    """Calls that the engine got for each request: less than one where some were merged."""
    added_p50_ms: float = math.nan
    added_p99_ms: float = math.nan
    """More than the engine itself took when asked in the same way; NaN where it was not."""


Samples: TypeAlias = Mapping[tuple[str, str], Sequence[Sample]]
"""Samples of all rounds by the names of workload and target."""


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures targets before one engine."""

    client: Path
    engine: Target
    cores: Cores

    def measure(self, target: Target, workload: Workload) -> Sample:
        """Run the workload once. Raises LoadFailed when an answer was not as it should be."""
        calls = _read_calls(self.engine)
        engine_before, before = _usage(self.engine), _usage(target)
        answers, rss_bytes = self._load(target, workload)
        engine_after, after = _usage(self.engine), _usage(target)
        calls = _read_calls(self.engine) - calls
        is_direct = target.name == self.engine.name
        router_cpu_s = 0.0 if is_direct else after.cpu_s - before.cpu_s
        engine_cpu_s = engine_after.cpu_s - engine_before.cpu_s
        add = sum if self.cores.engine == self.cores.load else max
        load_cpu_s = add((answers.cpu_s, engine_cpu_s))
        units = answers.events if workload.unit == "chunk" else answers.requests
        timed = answers.firsts_ms if workload.is_stream else answers.latencies_ms
        return Sample(
            rate=units / answers.wall_s,
            cpu_us=math.nan if is_direct else router_cpu_s / units * 1e6,
            p50_ms=percentile(timed, 0.50),
            p99_ms=percentile(timed, 0.99),
            rss_bytes=0 if is_direct else rss_bytes,
            router_busy=router_cpu_s / answers.wall_s,
            load_busy=load_cpu_s / answers.wall_s,
            engine_calls=calls / answers.requests,
        )

    def _load(self, target: Target, workload: Workload) -> tuple[Answers, int]:
        """Return what the load generator saw and the target's largest memory meanwhile."""
        with (
            tempfile.TemporaryFile() as body,
            tempfile.TemporaryFile("w+") as output,
            tempfile.TemporaryFile("w+") as log,
        ):
            body.write(workload.body)
            body.seek(0)
            with subprocess.Popen(
                self._command(target, workload),
                stdin=body,
                stdout=output,
                stderr=log,
                start_new_session=True,
                preexec_fn=bound_to(self.cores.load),
            ) as process:
                try:
                    rss_bytes = _watch(process, target, workload)
                finally:
                    process.kill()
            what = f"{workload.name} on {target.name}"
            if process.returncode != 0:
                raise LoadFailed(f"{what}: the load generator failed: {last_words(log)}")
            output.seek(0)
            return read_answers(output.read(), workload, what), rss_bytes

    def _command(self, target: Target, workload: Workload) -> list[str]:
        command = [
            str(self.client),
            f"-address={HOST}:{target.port}",
            f"-path={workload.path}",
            f"-clients={workload.clients}",
            f"-requests={workload.requests}",
            f"-limit={workload.limit_s:g}s",
            f"-patience={PATIENCE_S:g}s",
        ]
        if workload.is_stream:
            command += ["-stream", f"-events={workload.events}"]
        if workload.hold_s:
            command += [f"-hold={workload.hold_s:g}s", f"-finish={HOST}:{self.engine.port}"]
        if workload.rate:
            command.append(f"-rate={workload.rate:g}")
        if workload.reads_per_s:
            command.append(f"-reads={workload.reads_per_s}")
        return command


def read_answers(output: str, workload: Workload, what: str) -> Answers:
    """Read the load generator's result.

    Raises LoadFailed when any answer was wrong, none came, streams that should be open at the same
    time were not, or one came faster than the engine streams.
    """
    result = json.loads(output)
    if result["errors"]:
        raise LoadFailed(
            f"{what}: {result['errors']} of {result['errors'] + result['requests']} "
            f"answers were wrong; the first: {result['first_error']}"
        )
    if not result["requests"]:
        raise LoadFailed(f"{what}: not one answer came")
    if workload.hold_s and result["open"] < workload.clients:
        raise LoadFailed(
            f"{what}: only {result['open']} of {workload.clients} streams were open at once: "
            "choose fewer with --streams"
        )
    fastest_s = min(result["latency_us"]) / 1e6
    if fastest_s < 0.95 * workload.lasts_s:
        raise LoadFailed(
            f"{what}: a stream of {workload.lasts_s:g} s ended after {fastest_s:.2f} s: the pace "
            "that was asked for did not reach the engine"
        )
    return Answers(
        requests=result["requests"],
        events=result["events"],
        wall_s=result["wall_us"] / 1e6,
        cpu_s=result["cpu_us"] / 1e6,
        latencies_ms=tuple(value / 1e3 for value in result["latency_us"]),
        firsts_ms=tuple(value / 1e3 for value in result["first_us"]),
    )


def _read_calls(engine: Target) -> int:
    connection = http.client.HTTPConnection(HOST, engine.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/calls")
        return int(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LoadFailed(f"the stand-in engine does not tell its calls: {error}") from error
    finally:
        connection.close()


def _usage(target: Target) -> Usage:
    return target.program.usage() if target.program is not None else Usage(0.0, 0)


def _watch(process: "subprocess.Popen[bytes]", target: Target, workload: Workload) -> int:
    """Wait for the load generator; return the target's largest memory meanwhile."""
    deadline = time.monotonic() + workload.limit_s + workload.hold_s + 2 * PATIENCE_S
    largest = 0
    while True:
        largest = max(largest, _usage(target).rss_bytes)
        if target.program is not None:
            target.program.check()
        try:
            process.wait(_SAMPLE_INTERVAL_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise LoadFailed(f"{workload.name} on {target.name} does not end") from None
        else:
            return largest
