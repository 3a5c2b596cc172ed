"""What `sage inference start` was asked for, and the launch that it becomes."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sagepool.laptop import ports
from sagepool.laptop.claims import read_claims, take_off
from sagepool.laptop.errors import CommandError, WrongUse
from sagepool.laptop.gpus import Gpu
from sagepool.laptop.home import Home, Place
from sagepool.laptop.launch import Launch
from sagepool.laptop.models import ConfigReader, ModelCheck
from sagepool.laptop.secrets import Secrets
from sagepool_crds import names

if TYPE_CHECKING:
    from sagepool.laptop.backends import Backends
    from sagepool_crds.pool import InferencePool

PORT: Final = 8000
_ADMIN_PORT: Final = 9090
_ENGINES: Final = {"llm": ("vllm", "simulator"), "embedding": ("vllm", "tei", "simulator")}
"""By role, those that a pool file takes too."""
_FRACTIONS: Final = {1: 0.9, 2: 0.45}
"""Of the GPU's memory, by how many engines of a pool made of flags share it."""


class StartRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Everything that `start` takes; `restart` finds it in the record."""

    file: str = ""
    pool: str = ""
    """Which pool of the file."""
    port: int = PORT
    host: str = "127.0.0.1"
    llm_model: str = ""
    llm_backend: str = ""
    embedding_model: str = ""
    embedding_backend: str = ""
    scheduling_policy: str = ""
    log_level: str = "info"


class Prepared(msgspec.Struct):
    """A launch and where it goes."""

    place: Place
    launch: Launch


def prepare(
    request: StartRequest,
    home: Home,
    *,
    read_gpus: Callable[[], Sequence[Gpu]],
    check_model: ModelCheck,
    read_config: ConfigReader,
    is_restart: bool = False,
) -> Prepared:
    """Read, check and plan; nothing is started or written.

    Args:
        request: what was asked for.
        home: where the state is kept.
        read_gpus: asks for the GPUs.
        check_model: sees that a model or an adapter can be had.
        read_config: reads what a model is; None: it cannot be had.
        is_restart: the pool runs: its port is its own, and so may be what its GPUs hold. Whether
            they have room is found out when it has stopped.

    Raises:
        WrongUse: the request, the file, a program, a GPU, a model or a key is wrong or missing,
            or a model is too large.
        CommandError: the pool runs already, or the port is busy.
    """
    # Not at the top: a status needs none of it.
    from sagepool.laptop import manifest, plan
    from sagepool.laptop.backends import move_groups
    from sagepool.laptop.downloads import wanted_of_pool
    from sagepool.laptop.fitting import refuse_large_models

    backends = _backends(request)
    objects, origin = _objects(request)
    document = manifest.choose_pool(objects, request.pool or None, origin)
    _refuse_unused_backends(document.pool, backends)
    document = replace(document, pool=move_groups(document.pool, backends))
    place = home.place("pool", document.pool.metadata.name)
    if not is_restart:
        _refuse_taken_place(place)
        ports.refuse_busy_port(request.host, request.port, home)
    options = plan.Options(
        host=request.host,
        port=request.port,
        admin_port=ports.choose_port({request.port}, [_ADMIN_PORT]),
        log_level=request.log_level,
        backends=backends,
    )
    secrets = Secrets(home.secrets)
    gpus = _as_if_empty(read_gpus) if is_restart else read_gpus
    left = functools.cache(lambda: take_off(gpus(), read_claims(home, place)))
    launch = plan.plan_pool(document, place, options, secrets, left)
    models = list(wanted_of_pool(document.pool, options, secrets))
    for wanted in models:
        check_model(wanted)
    refuse_large_models(
        plan.running_groups(document.pool, options), launch, left, models, read_config
    )
    launch.file, launch.request = request.file, msgspec.to_builtins(request)
    return Prepared(place, launch)


def _refuse_unused_backends(pool: "InferencePool", backends: "Backends") -> None:
    from sagepool.laptop.backends import unused_backends

    for role in unused_backends(pool, backends):
        raise WrongUse(
            f"--{role}-backend is given, and pool {pool.metadata.name} has no group of role "
            f"{role}: leave it out (a group of role llm_embedding takes an engine that is given "
            "for both roles)"
        )


def _refuse_taken_place(place: Place) -> None:
    if place.is_taken():
        raise CommandError(
            f"pool {place.name} runs already: see `sage inference status`, or stop it with "
            f"`sage inference stop {place.name}`"
        )


def _as_if_empty(read_gpus: Callable[[], Sequence[Gpu]]) -> Callable[[], Sequence[Gpu]]:
    return lambda: [replace(gpu, free_bytes=gpu.total_bytes) for gpu in read_gpus()]


def _backends(request: StartRequest) -> dict[str, str]:
    given = {"llm": request.llm_backend, "embedding": request.embedding_backend}
    for role, backend in given.items():
        if backend and backend not in _ENGINES[role] and "://" not in backend:
            raise WrongUse(
                f"--{role}-backend is {backend!r}: write {', '.join(_ENGINES[role])}, or the URL "
                "of an engine that runs"
            )
    return {role: backend for role, backend in given.items() if backend}


def _objects(request: StartRequest) -> tuple[list[dict[str, Any]], str]:
    """The objects of the file, or of the flags; the policy is what the command line says."""
    from sagepool.laptop import manifest

    if request.file and (request.llm_model or request.embedding_model):
        raise WrongUse("give a pool file or models, not both: the file names its models")
    if not request.file and not request.llm_model and not request.embedding_model:
        raise WrongUse(
            "say what to run: a pool file with --file, or --llm-model and --embedding-model"
        )
    if not request.file:
        return manifest.admit_objects([_pool_of_flags(request)], "the options"), "the options"
    objects = manifest.read_objects(Path(request.file))
    if request.scheduling_policy:
        for obj in objects:
            if obj["kind"] == names.POOL_KIND:
                obj["spec"]["scheduling"]["policy"] = request.scheduling_policy
        objects = manifest.admit_objects(objects, "--scheduling-policy")
    return objects, request.file


def _pool_of_flags(request: StartRequest) -> dict[str, Any]:
    groups = [
        _group(name, role, model, backend)
        for name, role, model, backend in (
            ("chat", "llm", request.llm_model, request.llm_backend),
            ("embed", "embedding", request.embedding_model, request.embedding_backend),
        )
        if model
    ]
    on_gpu = [group for group in groups if "gpu" in group]
    for group in on_gpu:
        group["gpu"]["memoryFraction"] = _FRACTIONS[len(on_gpu)]
    policy = request.scheduling_policy
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.POOL_KIND,
        "metadata": {"name": "local"},
        "spec": {
            "groups": groups,
            **({"scheduling": {"policy": policy}} if policy else {}),
        },
    }


def _group(name: str, role: str, model: str, backend: str) -> dict[str, Any]:
    engine = backend if backend in ("tei", "simulator") else "vllm"
    served: Mapping[str, Any] = {"name": model}
    if "://" in backend:
        engine = "simulator"  # never run: the group's engine is the one at the URL
    if engine != "simulator":
        served = {"name": model, "uri": f"hf://{model}"}
    group: dict[str, Any] = {
        "name": name,
        "role": role,
        "engine": {"type": engine},
        "model": dict(served),
    }
    if engine == "vllm":
        group["gpu"] = {"count": 1}
    return group
