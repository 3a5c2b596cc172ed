"""A small cluster for tests of the operator: the fake API server, and the parts of Kubernetes that
answer the operator (Deployment controller, kubelet, engines), played step by step."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from crd_objects import pool_object
from kube_fake import FakeKube
from sagepool_crds import names
from sagepool_crds.meta import PoolKey, find_condition
from sagepool_crds.pool import InferencePool, InferencePoolStatus
from sagepool_engines.dialects import EngineLoad
from sagepool_engines.probe import ProbeResult
from sagepool_kube.api import DEPLOYMENTS, INSTANCES, PODS, POOLS, Kind, Object, ObjectApi
from sagepool_operator.autoscaling.decision import Decision
from sagepool_operator.autoscaling.scene import Scene
from sagepool_operator.config import Images
from sagepool_operator.events import Recorder
from sagepool_operator.executor import Executor
from sagepool_operator.fit import ModelConfig
from sagepool_operator.plan import AdapterTarget, ProgressTarget, Target
from sagepool_operator.reconciler import Probers, Reconciler
from sagepool_operator.reports import (
    AdapterReport,
    ProgressReport,
    ProviderReport,
    Report,
    TargetKey,
    advance,
)
from sagepool_operator.routability.answers import Answers, RouterAnswer
from sagepool_operator.router_pods import RouterPod
from sagepool_operator.sizing import HubModel
from sagepool_operator.snapshot import CHILD_KINDS

Json: TypeAlias = dict[str, Any]

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
IMAGES = Images(own="registry/sagepool:1")
KEY = PoolKey("default", "rag")


class DirectCache:
    """A cache that is always up to date: it reads the fake itself."""

    def __init__(self, kube: FakeKube) -> None:
        self._kube = kube

    def pool(self, key: PoolKey) -> Object | None:
        return next((p for p in self._kube.all(POOLS) if _key_of(p) == key), None)

    def children(self, key: PoolKey) -> Iterable[tuple[Kind, Object]]:
        return [(k, o) for k in CHILD_KINDS for o in self._kube.all(k) if _is_labelled(o, key)]

    def pods(self, key: PoolKey) -> Iterable[Object]:
        return [pod for pod in self._kube.all(PODS) if _is_labelled(pod, key)]

    def instances(self, key: PoolKey) -> Iterable[Object]:
        return [
            one
            for one in self._kube.all(INSTANCES)
            if one["spec"]["poolRef"] == key.name and _key_of(one).namespace == key.namespace
        ]

    def note(self, kind: Kind, obj: Object) -> None:
        pass


class FakeProbes:
    """Probes that find what a test says: every engine ready, unless it is among `results`."""

    def __init__(self) -> None:
        self.results: dict[str, ProbeResult] = {}
        """By instance."""
        self.now = NOW
        self.found: dict[TargetKey, Report] = {}
        self.targets: dict[PoolKey, tuple[Target, ...]] = {}

    def reports(self, pool: PoolKey) -> Mapping[TargetKey, Report]:
        return self.found

    def track(self, pool: PoolKey, targets: Iterable[Target]) -> None:
        self.targets[pool] = tuple(targets)

    def probe(self) -> None:
        """One round over all targets."""
        ready = ProbeResult("EngineReady", load=EngineLoad(0, 0, 0.0))
        found = {}
        for targets in self.targets.values():
            for target in targets:
                result = self.results.get(target.instance, ready)
                old = self.found.get(target.key)
                found[target.key] = advance(old, result, self.now, tolerance=1)
        self.found = found


class FakeProviders:
    """Providers that answer, unless a test has said otherwise."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        """By address."""
        self.asked: dict[PoolKey, str] = {}

    def report(self, pool: PoolKey) -> ProviderReport | None:
        url = self.asked.get(pool, "")
        return ProviderReport(url, self.errors.get(url, "")) if url else None

    def track(self, pool: PoolKey, base_url: str) -> None:
        self.asked[pool] = base_url


class FakeHub:
    """A hub that has what a test says."""

    def __init__(self) -> None:
        self.configs: dict[HubModel, ModelConfig | str] = {}
        self.asked: dict[PoolKey, tuple[HubModel, ...]] = {}

    def track(self, pool: PoolKey, models: Iterable[HubModel]) -> None:
        self.asked[pool] = tuple(models)


class FakeScaler:
    """An autoscaler that decides what a test says."""

    def __init__(self) -> None:
        self.decided: dict[str, Decision] = {}
        """By group."""
        self.scene: Scene | None = None
        """What it was shown last."""

    def decisions(self, pool: PoolKey) -> Mapping[str, Decision]:
        return self.decided

    def follow(self, pool: PoolKey, scene: Scene | None) -> None:
        self.scene = scene


class FakeDownloads:
    """Downloads that say what a test says."""

    def __init__(self) -> None:
        self.said: dict[str, ProgressReport] = {}
        """By the uid of the download's pod."""
        self.asked: tuple[ProgressTarget, ...] = ()

    def reports(self, pool: PoolKey) -> Mapping[str, ProgressReport]:
        return self.said

    def track(self, pool: PoolKey, targets: Iterable[ProgressTarget]) -> None:
        self.asked = tuple(targets)


class FakeAdapters:
    """Engines that load every adapter, but what a test says."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        """By adapter: why it is not loaded."""
        self.slow: set[str] = set()
        """Adapters that are still on their way."""
        self.said: dict[TargetKey, AdapterReport] = {}
        self.targets: tuple[AdapterTarget, ...] = ()

    def reports(self, pool: PoolKey) -> Mapping[TargetKey, AdapterReport]:
        return self.said

    def track(self, pool: PoolKey, targets: Iterable[AdapterTarget]) -> None:
        self.targets = tuple(targets)

    def load(self) -> None:
        """One round over all engines."""
        self.said = {target.key: self._report(target) for target in self.targets}

    def _report(self, target: AdapterTarget) -> AdapterReport:
        wanted = [name for name, _ in target.wanted]
        failed = tuple((name, self.errors[name]) for name in wanted if name in self.errors)
        return AdapterReport(frozenset(wanted) - self.errors.keys() - self.slow, failed)


class FakeTables:
    """Routers that say what a test says."""

    def __init__(self) -> None:
        self.said: dict[str, RouterAnswer] = {}
        """By the name of the router's pod."""
        self.asked: tuple[RouterPod, ...] = ()

    def answers(self, pool: PoolKey) -> Answers:
        return {r.uid: self.said[r.name] for r in self.asked if r.name in self.said}

    def follow(self, pool: PoolKey, routers: Sequence[RouterPod]) -> None:
        self.asked = tuple(routers)


@dataclass
class World:
    """A cluster with a pool in it, and the operator's reconciler."""

    kube: FakeKube = field(default_factory=FakeKube)
    probes: FakeProbes = field(default_factory=FakeProbes)
    providers: FakeProviders = field(default_factory=FakeProviders)
    hub: FakeHub = field(default_factory=FakeHub)
    tables: FakeTables = field(default_factory=FakeTables)
    scaler: FakeScaler = field(default_factory=FakeScaler)
    downloads: FakeDownloads = field(default_factory=FakeDownloads)
    adapters: FakeAdapters = field(default_factory=FakeAdapters)
    images: Images = IMAGES
    now: datetime = NOW
    broken_groups: set[str] = field(default_factory=set)
    """Groups whose pods never run."""
    _ids: int = 0

    def reconciler(self, api: ObjectApi | None = None) -> Reconciler:
        """A new operator, with nothing remembered."""
        api = api if api is not None else self.kube
        cache = DirectCache(self.kube)
        recorder = Recorder(api, "test", lambda: self.now, self._new_id)
        executor = Executor(api, cache, recorder.record)
        probers = Probers(
            self.probes,
            self.providers,
            self.hub,
            self.tables,
            self.scaler,
            self.downloads,
            self.adapters,
        )
        return Reconciler(cache, api, executor, probers, self.images, lambda: self.now)

    async def settle(self, reconciler: Reconciler | None = None) -> None:
        """Let the operator and the cluster take turns until neither changes anything."""
        reconciler = reconciler if reconciler is not None else self.reconciler()
        for _ in range(50):
            before = self._state()
            await reconciler.reconcile(KEY)
            play_cluster(self.kube, self.broken_groups)
            self.probes.probe()
            self.adapters.load()
            if self._state() == before:
                return
        raise AssertionError("the pool does not settle")

    def _state(self) -> tuple[object, ...]:
        asked = dict(self.providers.asked)
        return (self.kube.version, self.probes.found, self.adapters.said, asked)

    async def reconcile(self) -> float | None:
        """One reconcile of a new operator."""
        return await self.reconciler().reconcile(KEY)

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        self.probes.now = self.now

    # What a person does.

    def apply_pool(self, **spec: Any) -> Json:
        """Create the pool of `crd_objects`, or replace its spec."""
        wanted = pool_object(**spec)
        admitted = InferencePool.from_object(wanted).spec.to_object()
        if any(_key_of(p) == KEY for p in self.kube.all(POOLS)):
            return self.edit_pool(lambda pool: pool.update(spec=admitted))
        return self.kube.put(POOLS, {**wanted, "spec": admitted})

    def edit_pool(self, change: Callable[[Json], None]) -> Json:
        """Edit the pool."""
        return self.kube.edit(POOLS, KEY.namespace, KEY.name, change)

    def edit_group(self, name: str, **fields: Any) -> None:
        """Edit a group of the pool."""

        def change(pool: Json) -> None:
            next(g for g in pool["spec"]["groups"] if g["name"] == name).update(fields)

        self.edit_pool(change)

    # What a person sees.

    @property
    def pool(self) -> InferencePool:
        return InferencePool.from_object(self.kube.read(POOLS, KEY.namespace, KEY.name))

    @property
    def status(self) -> InferencePoolStatus:
        return self.pool.status

    def condition(self, type_: str) -> tuple[str, str]:
        """Status and reason of a condition of the pool."""
        found = find_condition(self.status.conditions, type_)
        return (found.status, found.reason) if found is not None else ("", "")

    def message(self, type_: str = names.READY) -> str:
        """Message of a condition of the pool."""
        found = find_condition(self.status.conditions, type_)
        return found.message if found is not None else ""

    def deployment(self, name: str) -> Json:
        return self.kube.read(DEPLOYMENTS, KEY.namespace, name)

    def deployment_names(self) -> set[str]:
        return {d["metadata"]["name"] for d in self.kube.all(DEPLOYMENTS)}

    def pods(self, group: str) -> list[Json]:
        return [p for p in self.kube.all(PODS) if p["metadata"]["labels"].get(GROUP) == group]

    def pods_of_router(self) -> list[Json]:
        return [p for p in self.kube.all(PODS) if GROUP not in p["metadata"]["labels"]]

    def instances(self, group: str = "") -> list[Json]:
        found = self.kube.all(INSTANCES)
        return [i for i in found if not group or i["spec"].get("group") == group]

    def write_count(self) -> int:
        """Requests that write, identical applies included."""
        return len(self.kube.writes)

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:08d}"


GROUP = names.GROUP_LABEL


def instance_condition(instance: Json, type_: str = names.READY) -> Json:
    """A condition of an instance object."""
    return next((c for c in instance["status"]["conditions"] if c["type"] == type_), {})


def play_cluster(kube: FakeKube, broken_groups: Iterable[str] = ()) -> None:
    """One step of the controllers and the kubelet: pods come, run and go, garbage is collected."""
    broken = set(broken_groups)
    wanted = {d["metadata"]["uid"]: d for d in kube.all(DEPLOYMENTS)}
    for deployment in wanted.values():
        _roll(kube, deployment)
    for pod in kube.all(PODS):
        if "status" not in pod and pod["metadata"]["labels"].get(GROUP) not in broken:
            run_pod(kube, pod)
    for deployment in wanted.values():
        _count(kube, deployment)
    kube.collect_garbage()


def run_pod(kube: FakeKube, pod: Json, *, restarts: int = 0) -> None:
    """The pod's container runs."""
    number = int(hashlib.sha256(pod["metadata"]["name"].encode()).hexdigest()[:4], 16)
    container = pod["spec"]["containers"][0]["name"]
    started_at = NOW + timedelta(minutes=restarts)
    set_pod_status(
        kube,
        pod,
        phase="Running",
        podIP=f"10.1.{number >> 8}.{number & 255}",
        containerStatuses=[
            {
                "name": container,
                "restartCount": restarts,
                "state": {"running": {"startedAt": started_at.strftime("%Y-%m-%dT%H:%M:%SZ")}},
            }
        ],
    )


def set_pod_status(kube: FakeKube, pod: Json, **status: Any) -> None:
    """What the kubelet or the scheduler says of a pod."""
    meta = pod["metadata"]

    def change(live: Json) -> None:
        live["status"] = {**live.get("status", {}), **status}

    kube.edit(PODS, meta["namespace"], meta["name"], change)


def start_deleting(kube: FakeKube, kind: Kind, obj: Json) -> None:
    """The object has a deletionTimestamp, and is still there."""
    meta = obj["metadata"]

    def change(live: Json) -> None:
        live["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"

    kube.edit(kind, meta["namespace"], meta["name"], change)


def _roll(kube: FakeKube, deployment: Json) -> None:
    meta, spec = deployment["metadata"], deployment["spec"]
    # What a Deployment does not say, the API server fills in; the fake has no such defaults.
    count = spec.get("replicas", 1)
    digest = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:8]
    pods = [p for p in kube.all(PODS) if p["metadata"]["annotations"]["of"] == meta["uid"]]
    prefix = f"{meta['name']}-{digest}-"
    for pod in pods:
        index = pod["metadata"]["name"].removeprefix(prefix)
        if not index.isdecimal() or int(index) >= count:
            kube.remove(PODS, meta["namespace"], pod["metadata"]["name"])
    have = {p["metadata"]["name"] for p in kube.all(PODS)}
    for index in range(count):
        name = f"{prefix}{index}"
        if name not in have:
            kube.put(PODS, _pod(name, deployment))


def _pod(name: str, deployment: Json) -> Json:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "controller": True}
    meta = deployment["metadata"]
    return {
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": deployment["spec"]["template"]["metadata"]["labels"],
            "annotations": {
                **deployment["spec"]["template"]["metadata"].get("annotations", {}),
                "of": meta["uid"],
            },
            # The fake collects what has no owner left: the ReplicaSet is left out of the chain.
            "ownerReferences": [{**owner, "uid": meta["uid"]}],
        },
        "spec": deployment["spec"]["template"]["spec"],
    }


def _count(kube: FakeKube, deployment: Json) -> None:
    meta = deployment["metadata"]
    pods = [p for p in kube.all(PODS) if p["metadata"]["annotations"]["of"] == meta["uid"]]
    ready = sum(_is_up(pod) for pod in pods)

    def change(live: Json) -> None:
        live["status"] = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": len(pods),
            "updatedReplicas": len(pods),
            "readyReplicas": ready,
        }

    kube.edit(DEPLOYMENTS, meta["namespace"], meta["name"], change)


def _is_up(pod: Json) -> bool:
    """Whether its containers run and its readiness gates are open."""
    status = pod.get("status", {})
    is_open = {c["type"] for c in status.get("conditions", ()) if c["status"] == "True"}
    gates = {gate["conditionType"] for gate in pod["spec"].get("readinessGates", ())}
    return "containerStatuses" in status and gates <= is_open


def _key_of(obj: Mapping[str, Any]) -> PoolKey:
    return PoolKey(obj["metadata"]["namespace"], obj["metadata"]["name"])


def _is_labelled(obj: Mapping[str, Any], key: PoolKey) -> bool:
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    return meta.get("namespace") == key.namespace and labels.get(names.POOL_LABEL) == key.name
