"""One reconcile: observe, plan, carry out, report."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from sagepool_crds.meta import PoolKey
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import ObjectApi
from sagepool_kube.errors import Terminating
from sagepool_operator.autoscaling.decision import Decision
from sagepool_operator.autoscaling.scene import Scene
from sagepool_operator.config import Images
from sagepool_operator.errors import ReconcileError
from sagepool_operator.executor import Executor
from sagepool_operator.fit import ModelConfig
from sagepool_operator.plan import AdapterTarget, Plan, ProgressTarget, Target
from sagepool_operator.planner import child_keys, plan
from sagepool_operator.reports import (
    AdapterReport,
    ProgressReport,
    ProviderReport,
    Reports,
    TargetKey,
)
from sagepool_operator.routability.answers import Answers
from sagepool_operator.router_pods import RouterPod
from sagepool_operator.sizing import HubModel
from sagepool_operator.snapshot import Cache, Findings, observe, read_pool

_logger: Final = logging.getLogger(__name__)


class Probes(Protocol):
    """Asks engines how they are."""

    def reports(self, pool: PoolKey) -> Reports:
        """What it has found."""
        ...

    def track(self, pool: PoolKey, targets: Iterable[Target]) -> None:
        """Probe these targets of the pool from now on, and no others of it."""
        ...


class ProviderProbes(Protocol):
    """Asks cloud providers whether they can be reached."""

    def report(self, pool: PoolKey) -> ProviderReport | None:
        """What it has found."""
        ...

    def track(self, pool: PoolKey, base_url: str) -> None:
        """Ask this provider for the pool from now on, and no other; empty: none."""
        ...


class ModelConfigs(Protocol):
    """Finds out about models on the hub."""

    @property
    def configs(self) -> Mapping[HubModel, ModelConfig | str]:
        """What it has found."""
        ...

    def track(self, pool: PoolKey, models: Iterable[HubModel]) -> None:
        """Find out about these models for the pool, and about no others of it."""
        ...


class Downloads(Protocol):
    """Asks downloads how far they are."""

    def reports(self, pool: PoolKey) -> Mapping[str, ProgressReport]:
        """What they have said, by the uid of their pod."""
        ...

    def track(self, pool: PoolKey, targets: Iterable[ProgressTarget]) -> None:
        """Ask these downloads of the pool from now on, and no others of it."""
        ...


class Adapters(Protocol):
    """Loads and unloads the LoRA adapters of engines."""

    def reports(self, pool: PoolKey) -> Mapping[TargetKey, AdapterReport]:
        """What engines have."""
        ...

    def track(self, pool: PoolKey, targets: Iterable[AdapterTarget]) -> None:
        """See to these engines of the pool from now on, and to no others of it."""
        ...


class Scaler(Protocol):
    """Decides how many engines groups should have."""

    def decisions(self, pool: PoolKey) -> Mapping[str, Decision]:
        """What is decided and not yet done, by group."""
        ...

    def follow(self, pool: PoolKey, scene: Scene | None) -> None:
        """Look at the pool as it is now; None: not any more."""
        ...


class Tables(Protocol):
    """Asks routers which instances they send to."""

    def answers(self, pool: PoolKey) -> Answers:
        """What the pool's routers have said; empty when they are not asked."""
        ...

    def follow(self, pool: PoolKey, routers: Sequence[RouterPod]) -> None:
        """Ask these routers of the pool from now on, and no others; none: ask no more."""
        ...


@dataclass(frozen=True, slots=True)
class Probers:
    """All that asks outside of the API server."""

    engines: Probes
    providers: ProviderProbes
    hub: ModelConfigs
    tables: Tables
    scaler: Scaler
    downloads: Downloads
    adapters: Adapters

    def find(self, pool: PoolKey) -> Findings:
        """What is known for a pool."""
        return Findings(
            self.engines.reports(pool),
            self.providers.report(pool),
            self.hub.configs,
            self.tables.answers(pool),
            self.scaler.decisions(pool),
            self.downloads.reports(pool),
            self.adapters.reports(pool),
        )

    def follow(self, pool: PoolKey, plan: Plan) -> None:
        """Ask what the plan wants to know from now on."""
        self.engines.track(pool, plan.targets)
        self.providers.track(pool, plan.provider)
        self.hub.track(pool, plan.models)
        self.tables.follow(pool, plan.routers)
        self.downloads.track(pool, plan.downloads)
        self.adapters.track(pool, plan.adapters)


class Reconciler:
    """Brings pools a step closer to what their specs say.

    Remembers nothing about them, but for those whose namespace is being deleted: there is no way
    back from that, and nothing that could be read says it.
    """

    def __init__(
        self,
        cache: Cache,
        api: ObjectApi,
        executor: Executor,
        probers: Probers,
        images: Images,
        now: Callable[[], datetime],
    ) -> None:
        """Take its parts."""
        self._cache = cache
        self._api = api
        self._executor = executor
        self._probers = probers
        self._images = images
        self._now = now
        self._ending: dict[PoolKey, str] = {}
        """The uids of pools that go with their namespace."""

    async def reconcile(self, key: PoolKey) -> float | None:
        """Do what a pool needs now.

        Returns:
            After how many seconds to look again though nothing has changed; None: no need.

        Raises:
            KubeError: the API server could not be reached, or refused a status.
            ReconcileError: it refused some of the objects; the pool's status says which.
        """
        pool = read_pool(self._cache, key)
        if self._is_ending(key, pool):
            return None
        is_leaving = pool is not None and pool.metadata.deletion_timestamp is not None
        wanted = child_keys(pool) if pool is not None and not is_leaving else ()
        findings = self._probers.find(key)
        observed = await observe(self._cache, self._api, key, pool, wanted, findings)
        decided = plan(observed, self._now(), self._images)
        self._probers.follow(key, decided)
        try:
            refused = await self._executor.make(decided)
        except Terminating as error:
            self._leave(key, pool, error)
            return None
        self._probers.scaler.follow(key, decided.scene)
        if refused:
            # The same judgement with one more fact: the status is written all the same.
            decided = plan(replace(observed, refused=refused), self._now(), self._images)
        await self._executor.report(decided)
        if refused:
            raise ReconcileError("; ".join(refused))
        return decided.requeue_after_s

    def _is_ending(self, key: PoolKey, pool: InferencePool | None) -> bool:
        """Whether this very pool goes with its namespace; another one of its name does not."""
        if pool is not None and self._ending.get(key) == pool.metadata.uid:
            return True
        self._ending.pop(key, None)
        return False

    def _leave(self, key: PoolKey, pool: InferencePool | None, error: Terminating) -> None:
        """Try nothing more for a pool that goes with its namespace, and ask nothing for it."""
        if pool is not None:
            self._ending[key] = pool.metadata.uid
        self._probers.follow(key, Plan())
        self._probers.scaler.follow(key, None)
        _logger.info(
            "the namespace is being deleted: leaving the pool to go with it",
            extra={"pool": str(key), "error": str(error)},
        )
