"""Prefix and session affinity: who belongs together, and where that is."""

import heapq
import random
import tracemalloc
from bisect import bisect
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import accumulate
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.picker import LeastLoaded
from sagepool_router.scheduling.affinity import REMEMBERED, Affinity
from sagepool_router.scheduling.ring import MAX_STEPS, BoundedLoads, HashRing


class Engine:
    def __init__(self, name: str, in_flight: int = 0, capacity: int = 256) -> None:
        self.name = name
        self.in_flight = in_flight
        self.capacity = capacity


def name_of(engine: Engine) -> str:
    return engine.name


def fingerprint_of(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def names(count: int, start: str = "chat") -> list[str]:
    return [f"{start}-{position}" for position in range(count)]


def homes(members: list[str], keys: list[int]) -> list[str]:
    ring = HashRing(members, str)
    return [ring.walk(key)[0] for key in keys]


KEYS = [fingerprint_of(str(number)) for number in range(4000)]


# the ring


def test_a_ring_of_nobody_has_no_place() -> None:
    assert not HashRing([], str).walk(1)
    assert BoundedLoads([], name_of).pick(1, 0, 0) is None


def test_places_are_the_same_in_every_process() -> None:
    """Known values: whatever differs between processes, or changes with a version, fails here."""
    assert homes(names(10), KEYS[:8]) == [f"chat-{n}" for n in (5, 8, 2, 9, 4, 2, 1, 5)]


def test_the_order_of_the_members_plays_no_part() -> None:
    members = names(40)
    assert homes(members, KEYS) == homes(members[::-1], KEYS)


def test_two_members_at_one_point_are_told_apart_by_their_names() -> None:
    members = ["chat-1114", "chat-1187"]
    meeting = 914_126_117
    assert homes(members, [meeting]) == homes(members[::-1], [meeting]) == ["chat-1187"]
    assert homes(members[:1], [meeting]) == members[:1]


@pytest.mark.parametrize("start", ["chat", "pool-a", "10.0.3.", "llm-vllm-7f9c"])
def test_an_eleventh_member_takes_its_share_and_moves_nothing_else(start: str) -> None:
    members = names(11, start)
    before, after = homes(members[:10], KEYS), homes(members, KEYS)
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {members[10]}
    assert len(KEYS) * 0.04 < len(moved) < len(KEYS) * 0.15


@pytest.mark.parametrize(("count", "most"), [(255, 0.01), (256, 0.05), (600, 0.01), (1024, 0.15)])
def test_a_join_moves_few_keys_on_a_large_ring(count: int, most: float) -> None:
    """At 256 and at 1,024 members, the join takes a point from each."""
    members = names(count + 1)
    before, after = homes(members[:count], KEYS), homes(members, KEYS)
    assert sum(old != new for old, new in zip(before, after, strict=True)) < most * len(KEYS)


@pytest.mark.parametrize(("count", "most"), [(10, 1.5), (100, 2.0), (1000, 3.5)])
def test_keys_are_spread_over_all_members(count: int, most: float) -> None:
    keys = [fingerprint_of(str(number)) for number in range(count * 100)]
    shares = Counter(homes(names(count), keys))
    assert len(shares) == count
    assert max(shares.values()) < most * 100


@given(st.integers(0, 40), st.integers())
def test_a_walk_is_bounded_and_meets_members_alone(count: int, key: int) -> None:
    members = names(count)
    walk = HashRing(members, str).walk(key)
    assert len(walk) == (MAX_STEPS if count else 0)
    assert set(walk) <= set(members)


# bounded loads


def test_an_idle_pool_serves_every_key_at_its_home() -> None:
    engines = [Engine(name) for name in names(300)]
    loads = BoundedLoads(engines, name_of)
    chosen = [loads.pick(key, 0, len(engines)) for key in KEYS[:200]]
    assert [engine and engine.name for engine in chosen] == homes(names(300), KEYS[:200])


def test_a_key_stays_at_home_up_to_the_bound_then_goes_to_the_next() -> None:
    engines = [Engine(name, 8) for name in names(10)]
    loads = BoundedLoads(engines, name_of)
    home, second = list(dict.fromkeys(HashRing(engines, name_of).walk(KEYS[0])))[:2]
    assert loads.pick(KEYS[0], 80, 10) is home
    home.in_flight = 10  # the bound is ceil(1.25 * 83 / 10) = 11
    assert loads.pick(KEYS[0], 82, 10) is home
    home.in_flight = 11
    assert loads.pick(KEYS[0], 83, 10) is second
    home.in_flight = 10
    assert loads.pick(KEYS[0], 82, 10) is home


def test_a_member_without_room_or_unwanted_is_passed_over() -> None:
    engines = [Engine(name) for name in names(3)]
    loads = BoundedLoads(engines, name_of)
    home, second, third = dict.fromkeys(HashRing(engines, name_of).walk(KEYS[1]))
    home.capacity = 0
    assert loads.pick(KEYS[1], 0, 2) is second
    assert loads.pick(KEYS[1], 0, 2, [second]) is third
    assert loads.pick(KEYS[1], 0, 2, [second, third]) is None
    assert loads.pick(KEYS[1], 0, 0) is None


def test_members_that_serve_nothing_do_not_lower_the_mean() -> None:
    engines = [Engine(name, 8) for name in names(10)]
    for ejected in engines[:5]:
        ejected.in_flight = ejected.capacity = 0
    loads = BoundedLoads(engines, name_of)
    assert all(loads.pick(key, 40, 5) is not None for key in KEYS)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12),
    st.integers(0, 2**64 - 1),
    st.floats(1.0, 3.0),
)
def test_no_pick_breaks_the_bound_and_without_one_least_loaded_does_not(
    figures: list[tuple[int, int]], key: int, factor: float
) -> None:
    engines = [Engine(str(at), load, room) for at, (load, room) in enumerate(figures)]
    total = sum(engine.in_flight for engine in engines)
    serving = sum(engine.capacity > 0 for engine in engines)
    chosen = BoundedLoads(engines, name_of, factor).pick(key, total, serving)
    if chosen is not None:
        assert chosen.in_flight + 1 <= ceil(factor * (total + 1) / serving)
        assert chosen.in_flight < chosen.capacity
    elif all(engine.in_flight < engine.capacity for engine in engines):
        least = LeastLoaded(engines, random.Random(1).random).pick()
        assert least is not None
        assert least.in_flight + 1 <= ceil(factor * (total + 1) / serving)


# what is worth keeping together

ANN = 3_877_663_347
"""The key of a session; it has to be the same in every process and version."""


def test_a_prefix_is_a_key_from_its_second_time_on() -> None:
    affinity = Affinity()
    assert [affinity.key((7,), None) for _ in range(3)] == [None, 7, 7]


def test_the_longest_beginning_that_has_come_before_is_the_key() -> None:
    affinity = Affinity()
    assert affinity.key((1, 2, 3), None) is None
    assert affinity.key((1, 2, 30), None) == 2, "of two prompts with the same system prompt"
    assert affinity.key((1, 20), None) == 1
    assert affinity.key((1, 2, 3), None) == 3, "of a prompt that is repeated whole"
    assert affinity.key((9, 2, 3), None) == 3


def test_beginnings_of_two_generations_are_known_together() -> None:
    affinity = Affinity(size=3)
    affinity.key((1, 2, 3), None)
    assert affinity.key((1, 2, 30), None) == 2
    assert affinity.key((1, 2, 3), None) == 3


def test_a_session_is_a_key_at_once_and_whatever_its_prefix() -> None:
    affinity = Affinity()
    assert (
        affinity.key((1,), "ann") == affinity.key((1,), "ann") == affinity.key((2,), "ann") == ANN
    )
    assert affinity.key((1,), "bob") != ANN


def test_an_empty_session_is_none() -> None:
    affinity = Affinity()
    assert [affinity.key((5,), "") for _ in range(2)] == [None, 5]


def test_any_text_can_be_a_session() -> None:
    assert Affinity().key((1,), "\udc80 Zoë 😀") is not None


def test_sessions_with_similar_names_are_spread() -> None:
    affinity = Affinity()
    keys = [affinity.key((0,), f"user-{number}") for number in range(4000)]
    assert len(set(keys)) == 4000
    shares = Counter(homes(names(10), [key for key in keys if key is not None]))
    expected = Counter(homes(names(10), KEYS))
    assert all(0.8 < shares[name] / expected[name] < 1.25 for name in names(10))


def test_a_prefix_that_returns_within_a_generation_is_known() -> None:
    affinity = Affinity(size=100)
    assert affinity.key((0,), None) is None
    for stranger in range(1, 5000):
        affinity.key((stranger,), None)
        if stranger % 100 == 0:
            assert affinity.key((0,), None) == 0


def test_a_prefix_that_stays_away_for_two_generations_is_forgotten() -> None:
    affinity = Affinity(size=100)
    for fingerprint in range(201):
        affinity.key((fingerprint,), None)
    assert affinity.key((0,), None) is None


def test_prompts_that_nobody_repeats_have_no_key_and_bounded_memory() -> None:
    affinity = Affinity()
    tracemalloc.start()
    assert all(affinity.key((number,), None) is None for number in range(5 * REMEMBERED))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{len(affinity)} fingerprints; at most {peak / 1e6:.1f} MB")
    assert REMEMBERED <= len(affinity) <= 2 * REMEMBERED
    assert peak < 8e6


# the workloads: a pool of ten, eight requests in flight on each, as one router sees it


WARM_PREFIXES = 12
"""How many prefixes an engine's cache holds."""


@dataclass(frozen=True)
class Turn:
    prefix: str
    conversation: int
    left: int = 0
    """Turns that follow in the conversation."""
    last: Engine | None = None
    """Where the turn before was served."""


@dataclass
class Record:
    """What happened, request by request."""

    keyed: int = 0
    warm: list[bool] = field(default_factory=list)
    """Whether the prefix was in the engine's cache; not of each prefix's first request."""
    warm_first: list[bool] = field(default_factory=list)
    """The same, of the most frequent prefix."""
    stayed: list[bool] = field(default_factory=list)
    """Whether a turn was served where the one before it was; not of first turns."""
    excess: list[int] = field(default_factory=list)
    """The engine's load over the bound, just after a placement."""
    served: dict[str, Counter[str]] = field(default_factory=dict)
    """By prefix, how often by which engine."""
    busy_s: dict[str, float] = field(default_factory=dict)
    """By engine, the service times of all its requests."""


class Pool:
    """Ten engines, a router's choice among them, and their caches."""

    def __init__(self, seed: int, key_of: Callable[[int, str], int | None]) -> None:
        self.engines = [Engine(name) for name in names(10, f"chat-{seed}")]
        self.record = Record()
        self._random = random.Random(seed)
        self._key_of = key_of
        self._loads = BoundedLoads(self.engines, name_of)
        self._index = LeastLoaded(self.engines, self._random.random)
        self._seats = {seat.member: seat for seat in self._index.seats}
        self._caches = {e: OrderedDict[str, None]() for e in self.engines}
        self._total = 0

    def run(self, turns: Callable[[random.Random], Turn], rate: float, count: int) -> Record:
        """Serve `count` requests; new conversations come at a rate, later turns after a pause."""
        rng = self._random
        order = iter(range(10 * count))
        events: list[tuple[float, int, Turn, Engine | None]] = [
            (0.0, next(order), turns(rng), None)
        ]
        while count:
            now, _, turn, ended = heapq.heappop(events)
            if ended is not None:
                self._charge(ended, -1)
                if turn.left:
                    again = replace(turn, left=turn.left - 1, last=ended)
                    event = (now + rng.expovariate(0.5), next(order), again, None)
                    heapq.heappush(events, event)
                continue
            if turn.last is None:
                event = (now + rng.expovariate(rate), next(order), turns(rng), None)
                heapq.heappush(events, event)
            count -= 1
            engine, service_s = self._place(turn), rng.expovariate(1)
            busy_s = self.record.busy_s
            busy_s[engine.name] = busy_s.get(engine.name, 0.0) + service_s
            heapq.heappush(events, (now + service_s, next(order), turn, engine))
        return self.record

    def _place(self, turn: Turn) -> Engine:
        key = self._key_of(fingerprint_of(turn.prefix), f"session-{turn.conversation}")
        engine = None if key is None else self._loads.pick(key, self._total, 10)
        self.record.keyed += engine is not None
        engine = engine or self._index.pick()
        assert engine is not None
        self._charge(engine, 1)
        self.record.excess.append(engine.in_flight - ceil(1.25 * self._total / 10))
        self._note(turn, engine)
        return engine

    def _note(self, turn: Turn, engine: Engine) -> None:
        cache, record = self._caches[engine], self.record
        if turn.prefix in record.served:
            record.warm.append(turn.prefix in cache)
            if turn.prefix == "prefix-0":
                record.warm_first.append(turn.prefix in cache)
        if turn.last is not None:
            record.stayed.append(turn.last is engine)
        record.served.setdefault(turn.prefix, Counter())[engine.name] += 1
        cache[turn.prefix] = None
        cache.move_to_end(turn.prefix)
        if len(cache) > WARM_PREFIXES:
            cache.popitem(last=False)

    def _charge(self, engine: Engine, by: int) -> None:
        engine.in_flight += by
        self._total += by
        self._index.update(self._seats[engine])


def zipf(prefixes: int, turns: int = 1) -> Callable[[random.Random], Turn]:
    """Conversations over shared prefixes: the second is met half as often as the first."""
    weights = list(accumulate(1 / rank for rank in range(1, prefixes + 1)))
    numbers = iter(range(10**9))

    def draw(rng: random.Random) -> Turn:
        prefix = bisect(weights, rng.random() * weights[-1])
        return Turn(f"prefix-{prefix}", next(numbers), turns - 1)

    return draw


def by_session() -> Callable[[int, str], int | None]:
    affinity = Affinity()
    return lambda fingerprint, session: affinity.key((fingerprint,), session)


def by_prefix() -> Callable[[int, str], int | None]:
    affinity = Affinity()
    return lambda fingerprint, _: affinity.key((fingerprint,), None)


def by_load(_fingerprint: int, _session: str) -> None:
    return None


def share(claims: list[bool]) -> float:
    return sum(claims) / len(claims)


def test_shared_prefixes_find_their_engine_warm_and_no_engine_is_overloaded() -> None:
    records = [Pool(seed, by_prefix()).run(zipf(50), 80, 10000) for seed in range(6)]
    print("warm, by seed:", [round(share(record.warm), 4) for record in records])
    for record in records:
        assert share(record.warm) >= 0.95
        assert max(record.excess) <= 0
        # over the whole run too
        assert max(record.busy_s.values()) <= 1.25 * sum(record.busy_s.values()) / 10


def test_least_loaded_choice_would_leave_the_same_caches_cold() -> None:
    assert share(Pool(1, by_load).run(zipf(50), 80, 6000).warm) < 0.65


def test_a_hot_prefix_is_replicated_to_a_few_engines_that_stay_warm() -> None:
    """The first of 50 has 22 % of the requests: more than two engines' fair shares."""
    record = Pool(1, by_prefix()).run(zipf(50), 80, 12000)
    uses = record.served["prefix-0"]
    total = sum(uses.values())
    assert total > 2 * 12000 / 10
    assert sum(times for _, times in uses.most_common(4)) > 0.9 * total
    assert share(record.warm_first) > 0.99


def test_prompts_that_nobody_repeats_are_placed_by_load_alone() -> None:
    numbers = iter(range(10**9))
    record = Pool(1, by_prefix()).run(lambda _: Turn(f"{next(numbers)}", 0), 80, 3000)
    assert record.keyed == 0


@pytest.mark.parametrize("prefixes", [3, 10, 50])
def test_turns_of_a_conversation_stay_together_by_session_more_than_by_prefix(
    prefixes: int,
) -> None:
    """By session a turn moves only when its engine is at the bound: at this load one in four."""
    sessions = Pool(1, by_session()).run(zipf(prefixes, turns=6), 80 / 6, 6000)
    by_prefixes = Pool(1, by_prefix()).run(zipf(prefixes, turns=6), 80 / 6, 6000)
    print("stayed:", round(share(sessions.stayed), 3), round(share(by_prefixes.stayed), 3))
    assert share(sessions.stayed) > 0.7
    assert share(sessions.stayed) > share(by_prefixes.stayed) + 0.1
    assert max(sessions.excess) <= 0


def test_sessions_keep_shared_prefixes_warm_while_every_engine_can_hold_them() -> None:
    record = Pool(1, by_session()).run(zipf(10, turns=6), 80 / 6, 6000)
    assert share(record.warm) > 0.95
