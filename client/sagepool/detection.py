"""Finds the servers for chat and for embeddings: one order, for all clients, that can be read.

1. SAGE_FORCE_CLOUD_API: the cloud and nothing else.
2. SAGE_UNIFIED_BASE_URL: one server for both kinds.
3. SAGE_CHAT_BASE_URL, SAGE_EMBEDDING_BASE_URL: each for its own kind.
4. In a cluster: the pool's router.
5. The pools of this user that run on this machine (`sage inference start`), by their records.
6. This machine: 8001 and 8000, where LLMs are, and 8090 and 8080, where embeddings are.
7. The cloud, if a key is set.

A kind that has a server is not looked for any more.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from sagepool.catalog import Served
from sagepool.endpoints import Endpoint, Kind
from sagepool.environment import PREFIX, Environment, Named
from sagepool.errors import ConfigurationError, NothingFoundError
from sagepool.probes import KeyWantedError, NotServingError, ask_what_is_served

_logger: Final = logging.getLogger("sagepool")

KINDS: Final[tuple[Kind, Kind]] = ("llm", "embedding")
PORTS: Final[Mapping[Kind, tuple[int, ...]]] = {"llm": (8001, 8000), "embedding": (8090, 8080)}
"""Of this machine, by the kind that is usually there; a server may serve the other kind as well."""
ROUTER_OWNER: Final = "sagepool-router"
"""What a sagepool router writes as `owned_by` of its models."""

Ask: TypeAlias = Callable[[Endpoint], Awaitable[Served]]
"""Asks a server what it serves; raises NotServingError."""


@dataclass(frozen=True, slots=True)
class Step:
    """One place that was looked at."""

    place: str
    finding: str
    chosen_for: tuple[Kind, ...] = ()


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found, in the order in which it was looked for."""

    llm: Endpoint | None
    embedding: Endpoint | None
    steps: tuple[Step, ...]

    def endpoints(self) -> dict[Kind, Endpoint]:
        """By kind.

        Raises:
            NothingFoundError: there is none at all.
        """
        found: dict[Kind, Endpoint] = {}
        if self.llm is not None:
            found["llm"] = self.llm
        if self.embedding is not None:
            found["embedding"] = self.embedding
        if not found:
            raise NothingFoundError(self._lack("server", "SAGE_UNIFIED"), self)
        return found

    def is_cloud(self, kind: Kind) -> bool:
        """Whether a provider was chosen for a kind, by its key alone."""
        return any(s.place == _cloud(kind) and kind in s.chosen_for for s in self.steps)

    def lack(self, kind: Kind) -> str:
        """Why there is no server for a kind, and what to do about it."""
        return self._lack(f"server for {kind} requests", PREFIX[kind])

    def _lack(self, what: str, prefix: str) -> str:
        tried = "; ".join(f"{step.place}: {step.finding}" for step in self.steps)
        return (
            f"no {what} was found. Start one (sage inference start), name one with "
            f"{prefix}_BASE_URL, or set DASHSCOPE_API_KEY for the cloud. Tried: {tried}"
        )

    def summary(self) -> str:
        """One line: what was chosen and why."""
        told = []
        for kind, endpoint in (("llm", self.llm), ("embedding", self.embedding)):
            why = next((s.place for s in self.steps if kind in s.chosen_for), "")
            told.append(f"{kind}: {f'{endpoint.base_url} ({why})' if endpoint else 'none'}")
        return ", ".join(told)

    def __str__(self) -> str:
        """Line by line: every place, what was found there, and what was chosen."""
        width = max((len(step.place) for step in self.steps), default=0)
        lines = [
            f"{step.place:<{width}}  {step.finding}"
            + (f"  -> {' and '.join(step.chosen_for)}" if step.chosen_for else "")
            for step in self.steps
        ]
        return "\n".join([*lines, self.summary()])


async def detect_async(
    environ: Mapping[str, str] | None = None,
    *,
    llm_model: str | None = None,
    embedding_model: str | None = None,
    ask: Ask = ask_what_is_served,
) -> Detection:
    """Find the servers.

    Args:
        environ: the environment; None: the process'.
        llm_model: wins over SAGE_CHAT_MODEL and SAGE_UNIFIED_MODEL.
        embedding_model: wins over SAGE_EMBEDDING_MODEL.
        ask: asks a server what it serves.

    Raises:
        ConfigurationError: a variable is wrong, or the cloud is forced without a key, or there
            are several pools to choose from, or the one that runs here wants an API key.
    """
    variables = os.environ if environ is None else environ
    search = _Search(variables, {"llm": llm_model, "embedding": embedding_model}, ask)
    for look in (
        search.forced_cloud,
        search.unified,
        search.by_kind,
        search.cluster,
        search.pools_here,
        search.this_machine,
        search.cloud,
    ):
        if search.missing():
            await look()
    detection = search.outcome()
    _logger.info("detected %s", detection.summary())
    return detection


def detect(
    environ: Mapping[str, str] | None = None,
    *,
    llm_model: str | None = None,
    embedding_model: str | None = None,
    ask: Ask = ask_what_is_served,
) -> Detection:
    """`detect_async`, blocking; also where an event loop runs already, as in notebooks."""

    def run() -> Detection:
        return asyncio.run(
            detect_async(environ, llm_model=llm_model, embedding_model=embedding_model, ask=ask)
        )

    with ThreadPoolExecutor(1, "sagepool-detection") as threads:
        return threads.submit(run).result()


def _cloud(kind: Kind) -> str:
    return f"cloud for {kind}"


class _Search:
    """Goes through the places; each takes what it finds for the kinds that still lack a server."""

    def __init__(
        self, variables: Mapping[str, str], models: Mapping[Kind, str | None], ask: Ask
    ) -> None:
        self._variables = variables
        self._environment = Environment(variables)
        self._models = models
        self._ask = ask
        self._found: dict[Kind, Endpoint] = {}
        self._steps: list[Step] = []
        self._is_over = False

    def missing(self) -> list[Kind]:
        """The kinds that lack a server and may still get one."""
        return [] if self._is_over else [kind for kind in KINDS if kind not in self._found]

    def outcome(self) -> Detection:
        """What was found."""
        return Detection(self._found.get("llm"), self._found.get("embedding"), tuple(self._steps))

    async def forced_cloud(self) -> None:
        """1. The cloud and nothing else."""
        if not self._environment.forces_cloud():
            return
        await self.cloud()
        self._is_over = True
        if not self._found:
            raise ConfigurationError(
                "SAGE_FORCE_CLOUD_API is true, but there is no key for the cloud: set "
                "DASHSCOPE_API_KEY"
            )

    async def unified(self) -> None:
        """2. One server for both kinds."""
        self._take_named("SAGE_UNIFIED_BASE_URL", self.missing(), self._environment.unified)

    async def by_kind(self) -> None:
        """3. A server for a kind."""
        for kind in self.missing():
            self._take_named(f"{PREFIX[kind]}_BASE_URL", [kind], self._environment.of_kind)

    async def cluster(self) -> None:
        """4. The router of the cluster's pool."""
        if not self._environment.is_in_cluster:
            self._note("cluster", "this process is in none")
            return
        named = self._environment.pool()
        if named is not None:
            self._take_named("cluster", self.missing(), lambda _: named)
            return
        await self._choose_router(self._environment.linked_routers())

    async def pools_here(self) -> None:
        """5. The pools of this user that run on this machine."""
        if sys.platform != "linux":
            self._note("pools here", "pools run on Linux only")
            return
        from sagepool.laptop.running import find_running

        folder, pools = find_running(self._variables)
        if not pools:
            self._note("pools here", f"none of {folder} runs")
            return
        key = self._environment.local_key
        endpoints = [Endpoint(f"{pool.address}/v1", key) for pool in pools]
        answers = await self._ask_all(endpoints)
        chosen: dict[str, list[Kind]] = {pool.name: [] for pool in pools}
        for kind in self.missing():
            able = [
                (pool, endpoint, served)
                for pool, endpoint, served in zip(pools, endpoints, answers, strict=True)
                if isinstance(served, Served) and served.model_for(kind, self._wanted(kind))
            ]
            if len(able) > 1:
                listed = ", ".join(f"{pool.name} at {pool.address}" for pool, _, _ in able)
                raise ConfigurationError(
                    f"several pools run here ({listed}): give the address of the one to use as "
                    "base_url (sage: --base-url) or in SAGE_UNIFIED_BASE_URL"
                )
            for pool, endpoint, served in able:
                self._take(endpoint, served, kind)
                chosen[pool.name].append(kind)
        shut = [p for p, a in zip(pools, answers, strict=True) if isinstance(a, KeyWantedError)]
        if shut and self.missing():
            # Whose own pool runs does not mean another server, least of all a provider's.
            raise ConfigurationError(
                f"pool {shut[0].name} here ({shut[0].address}) wants "
                f"{'another' if key else 'an'} API key: set SAGEPOOL_API_KEY to one of those in "
                f"{folder / 'secrets'}"
            )
        for pool, answer in zip(pools, answers, strict=True):
            told = f"{pool.address} {self._tell(answer)}"
            self._note(f"pool {pool.name} here", told, *chosen[pool.name])

    async def this_machine(self) -> None:
        """6. The usual ports of this machine, all asked at once."""
        ports = [*PORTS["llm"], *PORTS["embedding"]]
        endpoints = {p: Endpoint(f"http://127.0.0.1:{p}/v1") for p in ports}
        answers = dict(zip(ports, await self._ask_all(list(endpoints.values())), strict=True))
        key = self._environment.local_key
        # Anything may listen there: only who asks for a key gets it.
        shut = [p for p, answer in answers.items() if key and isinstance(answer, KeyWantedError)]
        endpoints.update({p: replace(endpoints[p], api_key=key) for p in shut})
        again = await self._ask_all([endpoints[p] for p in shut])
        answers.update(zip(shut, again, strict=True))
        chosen: dict[int, list[Kind]] = {port: [] for port in ports}
        for kind in self.missing():
            other = KINDS[1 - KINDS.index(kind)]
            for port in (*PORTS[kind], *PORTS[other]):
                served = answers[port]
                if isinstance(served, Served) and self._take(endpoints[port], served, kind):
                    chosen[port].append(kind)
                    break
        for port, answer in answers.items():
            self._note(f"127.0.0.1:{port}", self._tell(answer), *chosen[port])

    async def cloud(self) -> None:
        """7. The cloud."""
        for kind in self.missing():
            named = self._environment.cloud(kind)
            if named is None:
                keys = f"{PREFIX[kind]}_API_KEY and DASHSCOPE_API_KEY"
                self._note(_cloud(kind), f"{keys} are not set")
                continue
            self._found[kind] = endpoint = self._with_model(named.endpoint, kind)
            self._note(_cloud(kind), f"{named.why}: {endpoint.base_url}", kind)
            if self._environment.is_in_cluster and not self._environment.forces_cloud():
                _logger.warning(
                    "this process is in a cluster, but the cloud answers for %s: no router that "
                    "was found here serves it; name the pool in SAGEPOOL_POOL",
                    kind,
                )

    def _take_named(
        self, place: str, kinds: Sequence[Kind], find: Callable[[Kind], Named | None]
    ) -> None:
        named = {kind: found for kind in kinds if (found := find(kind)) is not None}
        for kind, found in named.items():
            self._found[kind] = self._with_model(found.endpoint, kind)
        told = {found.endpoint.base_url for found in named.values()}
        self._note(place, ", ".join(told) or "not set", *named)

    async def _choose_router(self, candidates: Sequence[Named]) -> None:
        answers = await self._ask_all([named.endpoint for named in candidates])
        routers = [
            (named, served)
            for named, served in zip(candidates, answers, strict=True)
            if isinstance(served, Served) and ROUTER_OWNER in served.owners
        ]
        if len(routers) > 1:
            listed = ", ".join(named.why for named, _ in routers)
            raise ConfigurationError(
                f"several pools have a router in this namespace ({listed}): set SAGEPOOL_POOL to "
                "the name of the one to use"
            )
        if not routers:
            self._note("cluster", "no pool's router among this pod's Services: set SAGEPOOL_POOL")
            return
        named, served = routers[0]
        taken = [kind for kind in self.missing() if self._take(named.endpoint, served, kind)]
        self._note("cluster", f"{named.why}: router with {served}", *taken)

    def _take(self, endpoint: Endpoint, served: Served, kind: Kind) -> bool:
        model = served.model_for(kind, self._wanted(kind))
        if model is not None:
            self._found[kind] = replace(endpoint, model=model)
        return model is not None

    def _with_model(self, endpoint: Endpoint, kind: Kind) -> Endpoint:
        return endpoint.with_model(self._models[kind])

    async def _ask_all(self, endpoints: Sequence[Endpoint]) -> list[Served | NotServingError]:
        async def ask(endpoint: Endpoint) -> Served | NotServingError:
            try:
                return await self._ask(endpoint)
            except NotServingError as error:
                return error

        return list(await asyncio.gather(*map(ask, endpoints)))

    def _wanted(self, kind: Kind) -> str | None:
        return self._models[kind] or self._environment.model(kind)

    def _tell(self, answer: Served | NotServingError) -> str:
        if isinstance(answer, NotServingError):
            return str(answer)
        wanted = {kind: self._wanted(kind) for kind in KINDS if answer.models.get(kind)}
        lacking = [
            name for kind, name in wanted.items() if name and not answer.model_for(kind, name)
        ]
        return f"serves {answer}" + (f", not {' and '.join(lacking)}" if lacking else "")

    def _note(self, place: str, finding: str, *chosen_for: Kind) -> None:
        self._steps.append(Step(place, finding, chosen_for))
