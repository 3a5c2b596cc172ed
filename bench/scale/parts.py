"""The five measurements: streams, tables, bodies, slow readers, two routers."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from bench.measure import Meter, Sample
from bench.scale.timeline import Moment, read_usage, watched
from bench.targets import Target
from bench.workloads import (
    Workload,
    build_workloads,
    chat_body,
    long_prompt,
    stream_body,
)

SETTLE_S: Final = 1.0
"""From the end of all streams to the look at what memory is left."""
OPENED_PER_S: Final = 500.0
"""All at once would measure who gives up on connecting first."""
ENDLESS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    streams: tuple[int, ...]
    more_rounds: int
    """With the most streams, after the first."""
    instances: tuple[int, ...]
    bodies: tuple[int, ...]
    rounds: int
    """Of instances and of bodies."""
    readers: int
    hold_s: float
    limit_s: float


FULL: Final = Size(
    streams=(1_000, 4_000),
    more_rounds=10,
    instances=(10, 100, 1_000),
    bodies=(100_000, 400_000, 1_000_000),
    rounds=5,
    readers=20,
    hold_s=6.0,
    limit_s=3.0,
)
QUICK: Final = Size(
    streams=(50, 100),
    more_rounds=1,
    instances=(10, 50),
    bodies=(100_000, 400_000),
    rounds=1,
    readers=5,
    hold_s=1.0,
    limit_s=0.5,
)


@dataclass(frozen=True, slots=True)
class StreamRound:
    """Streams were opened, held, and ended."""

    target: str
    streams: int
    before_bytes: int
    open_bytes: int
    after_bytes: int
    cpu_s: float
    first_p99_ms: float


@dataclass(frozen=True, slots=True)
class SlowReaders:
    """What a target used while its clients read far slower than the engine writes."""

    target: str
    readers: int
    moments: Sequence[Moment]
    after_bytes: int


def hold_streams(meter: Meter, target: Target, streams: int, hold_s: float) -> StreamRound:
    """Open so many streams, hold them, end them, and see what is left."""
    *_, memory = build_workloads(streams, quick=False)
    before = read_usage(target)
    sample = meter.measure(target, replace(memory, hold_s=hold_s, rate=OPENED_PER_S))
    time.sleep(SETTLE_S)
    after = read_usage(target)
    return StreamRound(
        target.name,
        streams,
        before.rss_bytes,
        sample.rss_bytes,
        after.rss_bytes,
        after.cpu_s - before.cpu_s,
        sample.p99_ms,
    )


def ask_tables(
    meter: Meter, targets: Mapping[tuple[int, str], Target], size: Size
) -> Mapping[tuple[int, str], Sequence[Sample]]:
    """Ask targets of the same kind that differ only in how many engines they know, in turns."""
    chat, *_ = build_workloads(1, quick=False)
    chat = replace(chat, limit_s=size.limit_s)
    for target in targets.values():
        meter.measure(target, chat)  # every engine gets its connections
    samples: dict[tuple[int, str], list[Sample]] = {key: [] for key in targets}
    for _ in range(size.rounds):
        for key, target in targets.items():
            samples[key].append(meter.measure(target, chat))
    return samples


def send_bodies(
    meter: Meter, targets: Sequence[Target], size: Size
) -> Mapping[tuple[int, str], Sequence[Sample]]:
    """Send prompts of these sizes, in turns."""
    samples: dict[tuple[int, str], list[Sample]] = {}
    for number in range(size.rounds + 1):
        for length in size.bodies:
            for target in targets:
                sample = meter.measure(target, body_workload(length, size.limit_s))
                if number:  # the first is the warm-up
                    samples.setdefault((length, target.name), []).append(sample)
    return samples


def body_workload(length: int, limit_s: float) -> Workload:
    """Prompts of about so many bytes, answered at once, 8 clients."""
    return Workload(
        name=f"body of {length:,} bytes",
        title="",
        path="/v1/chat/completions",
        body=chat_body(long_prompt(length)),
        clients=8,
        requests=max(8, 200_000_000 // length),
        limit_s=limit_s,
    )


def ask_routers(
    pairs: Sequence[tuple[Meter, Target]], size: Size
) -> Mapping[int, Sequence[Sample]]:
    """Ask the first router alone and all at once, in turns, as fast as they answer.

    Returns the samples by how many were asked; of several, round by round those of all of them.
    """
    chat, *_ = build_workloads(1, quick=False)
    chat = replace(chat, limit_s=size.limit_s, requests=ENDLESS)
    samples: dict[int, list[Sample]] = {1: [], len(pairs): []}
    with ThreadPoolExecutor(len(pairs)) as threads:
        for number in range(size.rounds + 1):
            for count, found in samples.items():
                asked = pairs[:count]
                taken = threads.map(lambda pair: pair[0].measure(pair[1], chat), asked)
                if number:  # the first is the warm-up
                    found.extend(taken)
                else:
                    list(taken)
    return samples


def read_slowly(meter: Meter, target: Target, size: Size) -> SlowReaders:
    """Have an engine that writes as fast as it can and clients that read 200 KB a second each."""
    workload = Workload(
        name="slow readers",
        title="",
        path="/v1/chat/completions",
        body=stream_body(events=ENDLESS, first_ms=1, interval_ms=0),
        clients=size.readers,
        requests=size.readers,
        limit_s=30.0,
        unit="stream",
        hold_s=size.hold_s,
        reads_per_s=200_000,
    )
    with watched(target, interval_s=1.0) as moments:
        meter.measure(target, workload)
    time.sleep(SETTLE_S)
    return SlowReaders(target.name, size.readers, moments, read_usage(target).rss_bytes)
