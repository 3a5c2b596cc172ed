"""What a pool becomes on this machine: its router and its engines as processes.

Command lines of engines are those of the cluster; what differs is said here: the loopback address,
a free port, this user's caches, and GPUs chosen by what is free.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sagepool.laptop.backends import (
    Backends,
    backend_flag,
    backend_of,
    groups_at_urls,
)
from sagepool.laptop.errors import WrongUse
from sagepool.laptop.gpus import DEFAULT_FRACTION, Demand, Gpu, assign_gpus
from sagepool.laptop.home import Place
from sagepool.laptop.launch import PORT, Launch, PartLaunch
from sagepool.laptop.models import ADAPTER_CONFIG
from sagepool.laptop.process import GRACE_S
from sagepool.laptop.programs import require_program
from sagepool.laptop.secrets import Secrets
from sagepool_crds import names
from sagepool_crds.admission import Refused, admit
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import EngineType, Group, InferencePool
from sagepool_operator.autoscaling.replicas import replicas_of
from sagepool_operator.config import Images
from sagepool_operator.engines.catalog import build_engine
from sagepool_operator.engines.container import HUB_SCHEME, EngineContainer
from sagepool_operator.engines.processes import processes_of
from sagepool_router.sources.document import Document

_PROGRAMS: Final[Mapping[EngineType, str]] = {
    "vllm": "vllm",
    "tei": "text-embeddings-router",
    "simulator": "sagepool-simulator",
}
_HOST_FLAGS: Final[Mapping[EngineType, str]] = {
    "vllm": "--host",
    "tei": "--hostname",
    "simulator": "--host",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says beside the file."""

    host: str
    port: int
    admin_port: int
    log_level: str
    backends: Backends


def plan_pool(
    document: Document,
    place: Place,
    options: Options,
    secrets: Secrets,
    read_gpus: Callable[[], Sequence[Gpu]],
) -> Launch:
    """The launch of a pool.

    Args:
        document: the pool, its groups on the engines that run them here, and its instances
            elsewhere.
        place: where it will run.
        options: what the command line says.
        secrets: keys that the file names.
        read_gpus: asks for the GPUs; called only where an engine wants one.

    Raises:
        WrongUse: a program, a GPU or a key is missing.
    """
    pool = document.pool
    groups = _groups(pool, options.backends)
    engines = [
        part
        for group in groups
        for number in range(_count(pool, group))
        for part in _engine(pool, group, number, secrets)
    ]
    _give_gpus(engines, {group.name: group for group in groups}, read_gpus)
    elsewhere = [_at_url(pool, group, url) for group, url in groups_at_urls(pool, options.backends)]
    objects = [_pool_object(pool), *map(_instance_object, document.instances), *elsewhere]
    host = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host
    shown = f"[{host}]" if ":" in host else host
    return Launch(
        name=pool.metadata.name,
        parts=[_router(pool, place, options, secrets), *engines],
        address=f"http://{shown}:{options.port}",
        admin=f"http://127.0.0.1:{options.admin_port}",
        documents=objects,
    )


def downloading_processes(pool: InferencePool, options: Options) -> list[Group]:
    """Engine processes that, run here, load a model of the hub; each as a group of its own."""
    return [
        process
        for group in running_groups(pool, options)
        if group.engine.type != "simulator"
        for process in processes_of(group)
    ]


def running_groups(pool: InferencePool, options: Options) -> list[Group]:
    """Groups of which engines run here."""
    return [group for group in _groups(pool, options.backends) if _count(pool, group)]


def _groups(pool: InferencePool, backends: Backends) -> list[Group]:
    """The groups with as many engines as run here."""
    return [
        group.model_copy(update={"replicas": 0})
        if "://" in backend_of(group, backends)
        else _fixed(group)
        for group in pool.spec.groups
    ]


def _count(pool: InferencePool, group: Group) -> int:
    return replicas_of(pool, group, None, None).count


def _fixed(group: Group) -> Group:
    """The group with a number of engines. Nothing scales them here: there are as many as a cluster
    would keep, and one where that is none, so that it answers."""
    if group.scaling is None:
        return group
    count = 1 if group.scaling.is_external else max(1, group.scaling.least)
    return group.model_copy(update={"replicas": count, "scaling": None})


def _at_url(pool: InferencePool, group: Group, url: str) -> dict[str, Any]:
    instance = _own_instance(pool, group, f"{group.name}-elsewhere")
    del instance["spec"]["group"]
    instance["spec"]["engine"] = "vllm"  # that is: it speaks as OpenAI's API does
    for endpoint in instance["spec"]["endpoints"]:
        endpoint["url"] = url.removesuffix("/").removesuffix("/v1")
    try:
        return admit(instance)
    except Refused as refused:
        raise WrongUse(f"{backend_flag(group)}: {refused}") from None


def _router(pool: InferencePool, place: Place, options: Options, secrets: Secrets) -> PartLaunch:
    command = [
        require_program("sagepool-router", f"pool {pool.metadata.name}"),
        "serve",
        "--source=file",
        f"--config={place.router_file}",
        f"--host={options.host}",
        f"--port={options.port}",
        "--admin-host=127.0.0.1",
        f"--admin-port={options.admin_port}",
        f"--grace-seconds={GRACE_S}",
        f"--log-level={options.log_level}",
    ]
    for flag, path in _router_keys(pool, secrets):
        command.append(f"{flag}={path}")
    return PartLaunch(
        name="router",
        kind="router",
        command=command,
        health_path="/ready",
        port=options.port,
        health_port=options.admin_port,
    )


def _router_keys(pool: InferencePool, secrets: Secrets) -> Iterator[tuple[str, Path]]:
    if pool.spec.router.auth is not None:
        secret = pool.spec.router.auth.api_keys_secret
        yield "--api-keys", secrets.api_keys(secret, "spec.router.auth.apiKeysSecret")
    cloud = pool.spec.cloud
    if cloud is not None and pool.spec.source != "local":
        reference = cloud.api_key_secret
        yield (
            "--cloud-api-key-file",
            secrets.key_file(reference.name, reference.key, "spec.cloud.apiKeySecret"),
        )


def _engine(
    pool: InferencePool, group: Group, number: int, secrets: Secrets
) -> Iterator[PartLaunch]:
    """The processes of one instance: those that its pod would have."""
    name = f"{group.name}-{number}"
    instance, unit = _own_instance(pool, group, name), ""
    for process in processes_of(group):
        part = _process(group, process, f"{name}-{process.role}" if unit else name, secrets)
        part.unit, part.instance = unit, None if unit else instance
        yield part
        unit = name


def _process(group: Group, process: Group, name: str, secrets: Secrets) -> PartLaunch:
    """One process of the group's engine; `process` is it as a group of its own."""
    engine_type, model = process.engine.type, process.model
    uri = model.uri or ""
    if engine_type != "simulator" and not uri.startswith(HUB_SCHEME):
        raise WrongUse(
            f"group {group.name}: {uri} is for a cluster, which mounts or caches it: name a model "
            "on the hub, hf://OWNER/NAME"
        )
    program = require_program(
        _PROGRAMS[engine_type],
        f"group {group.name}",
        f"run it on the simulator with {_simulator_flags(group)}",
    )
    # Given as the user's own, they take the place of the cluster's.
    here = [f"{_HOST_FLAGS[engine_type]}=127.0.0.1", f"--port={PORT}"]
    if engine_type == "vllm":
        here.append(f"--shutdown-timeout={GRACE_S}")
    here += _adapters(process)
    args = [*process.engine.args, *here]
    local = process.model_copy(update={"engine": process.engine.model_copy(update={"args": args})})
    container = build_engine(local, Images(own=""))
    served = process.served
    return PartLaunch(
        name=name,
        kind="engine",
        command=[program, *container.command[1:], *container.args],
        health_path="/health",
        group=group.name,
        engine=engine_type,
        models=[*(model.name for _, model in served), *(a.name for a in process.adapters)],
        environment=_environment(container, process, secrets),
        roles=[role for role, _ in served],
    )


def _adapters(group: Group) -> list[str]:
    """Adapters are there from an engine's start on: nobody loads any into it later."""
    for adapter in group.adapters:
        folder = Path(adapter.uri)
        if folder.is_absolute() and not (folder / ADAPTER_CONFIG).is_file():
            raise WrongUse(
                f"group {group.name}: adapter {adapter.name}: {folder} holds no {ADAPTER_CONFIG} "
                "on this machine: name an adapter's folder here, or hf://OWNER/NAME"
            )
    if not group.adapters:
        return []
    places = (f"{a.name}={a.uri.removeprefix(HUB_SCHEME)}" for a in group.adapters)
    return ["--lora-modules", *places]


def _simulator_flags(group: Group) -> str:
    if group.role == "llm_embedding":
        return "--llm-backend simulator --embedding-backend simulator"
    return f"{backend_flag(group)} simulator"


def _environment(container: EngineContainer, group: Group, secrets: Secrets) -> dict[str, str]:
    """The engine's variables; where its pod keeps what it downloads, this user has own caches."""
    given = {variable.name for variable in group.engine.env}
    cache = container.cache_path
    kept = [
        variable
        for variable in container.env
        if variable["name"] in given
        or cache is None
        or not str(variable.get("value", "")).startswith(cache)
    ]
    return secrets.environment(kept, f"group {group.name}")


def _give_gpus(
    engines: Sequence[PartLaunch],
    groups: Mapping[str, Group],
    read_gpus: Callable[[], Sequence[Gpu]],
) -> None:
    """Tell engines which GPUs they see, routers which share one, and who loads after whom."""
    demands = []
    for engine in engines:
        group = groups[engine.group]
        if engine.engine != "simulator":
            engine.environment["CUDA_VISIBLE_DEVICES"] = ""
            if group.gpu is not None and not engine.unit:  # of a unit, the first asks for all
                demands.append(
                    Demand(
                        engine.name,
                        f"group {engine.group}",
                        group.gpu.count,
                        _fraction(group),
                        without_gpu="set engine.type to simulator, or run the pool where a GPU is",
                        with_less="lower gpu.memoryFraction, gpu.count or replicas",
                    )
                )
    given = assign_gpus(read_gpus(), demands) if demands else {}
    last: dict[str, str] = {}
    for engine in engines:
        chosen = given.get(engine.unit or engine.name, ())
        if chosen:
            engine.environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in chosen)
            engine.after = sorted({last[gpu.uuid] for gpu in chosen if gpu.uuid in last})
            last.update({gpu.uuid: engine.name for gpu in chosen})
            if not engine.unit:
                share = _fraction(groups[engine.group])
                engine.gpus = {gpu.uuid: share for gpu in chosen}
        if len(chosen) == 1 and engine.instance is not None:
            engine.instance["spec"]["device"] = f"gpu-{chosen[0].index}"


def _fraction(group: Group) -> float:
    """What an engine takes of a GPU, with all of its processes."""
    gpus = [process.gpu for process in processes_of(group)]
    return sum(gpu.memory_fraction or DEFAULT_FRACTION for gpu in gpus if gpu is not None)


def _pool_object(pool: InferencePool) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.POOL_KIND,
        "metadata": {"name": pool.metadata.name, "namespace": pool.metadata.namespace},
        "spec": pool.spec.to_object(),
    }


def _instance_object(instance: InferenceInstance) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.INSTANCE_KIND,
        "metadata": {
            "name": instance.metadata.name,
            "namespace": instance.metadata.namespace,
        },
        "spec": instance.spec.to_object(),
    }


def _own_instance(pool: InferencePool, group: Group, name: str) -> dict[str, Any]:
    price = group.gpu.price_per_hour if group.gpu is not None else None
    count = group.gpu.count if group.gpu is not None else 0
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.INSTANCE_KIND,
        "metadata": {"name": name, "namespace": pool.metadata.namespace},
        "spec": {
            "poolRef": pool.metadata.name,
            "group": group.name,
            "engine": group.engine.type,
            "endpoints": [{"role": role, "models": [model.name]} for role, model in group.served],
            "maxConcurrency": group.max_concurrency,
            **({"pricePerHour": price * count} if price is not None else {}),
        },
    }
