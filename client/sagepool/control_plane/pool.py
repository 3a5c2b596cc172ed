"""Instances as people give them, as the pool that a router reads. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sagepool.errors import ConfigurationError
from sagepool_crds import names
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import EngineType, GroupRole, InferencePool, Role
from sagepool_router.sources.objects import Unreadable, read_instance, read_pool

_POOL: Final = "control-plane"


class Instance(BaseModel):
    """One engine, as it is given to `create_with_control_plane`."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    host: str = Field(min_length=1)
    """Name or address."""
    port: int = Field(ge=1, le=65535)
    model_name: str = Field(min_length=1)
    """Its model; of llm_embedding the one that chats."""
    instance_type: GroupRole = "llm"
    """What it answers: llm, embedding or llm_embedding."""
    embedding_model_name: str | None = None
    """Of llm_embedding: the model that embeds."""
    embedding_port: int | None = Field(default=None, ge=1, le=65535)
    """Of llm_embedding: where it embeds; None: at `port`."""
    engine: EngineType = "vllm"
    """How it is probed and its errors are read: vllm, tei or simulator."""
    max_concurrency: int = Field(default=256, ge=1, le=65536)
    """Requests in flight on it at most."""
    price_per_hour: float | None = Field(default=None, gt=0)
    """For the policy cost_optimized."""

    @field_validator("instance_type", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    def endpoints(self) -> list[dict[str, Any]]:
        """As an InferenceInstance has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        url = f"http://{host}:{self.port}"
        if self.instance_type != "llm_embedding":
            return [{"role": self.instance_type, "url": url, "models": [self.model_name]}]
        embedding_url = f"http://{host}:{self.embedding_port or self.port}"
        return [
            {"role": "llm", "url": url, "models": [self.model_name]},
            {"role": "embedding", "url": embedding_url, "models": [self.embedding_model_name]},
        ]


def build_pool(
    given: Sequence[Mapping[str, Any]], policy: str, scheduling: Mapping[str, Any]
) -> tuple[InferencePool, list[InferenceInstance]]:
    """The pool and its instances.

    Args:
        given: the engines.
        policy: of scheduling.
        scheduling: further fields of `spec.scheduling`.

    Raises:
        ConfigurationError: something in them is wrong; names the field.
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise ConfigurationError(f"instances must be a list, not {type(given).__name__}")
    if not given:
        raise ConfigurationError("instances is empty: name at least one engine")
    engines = [_read(number, instance) for number, instance in enumerate(given)]
    pool = read_pool(_pool(engines, {**scheduling, "policy": policy}), is_manifest=True)
    if isinstance(pool, Unreadable):
        raise ConfigurationError(f"the scheduling is wrong: {pool.reason}")
    return pool, [_instance(number, engine) for number, engine in enumerate(engines)]


def _read(number: int, given: Mapping[str, Any]) -> Instance:
    place = f"instances[{number}]"
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{place} must be a mapping, not {type(given).__name__}")
    try:
        engine = Instance.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigurationError(
            f"{'.'.join([place, *map(str, first['loc'])])}: {first['msg']}; an instance has "
            + ", ".join(Instance.model_fields)
        ) from None
    is_mixed = engine.instance_type == "llm_embedding"
    if is_mixed != (engine.embedding_model_name is not None):
        raise ConfigurationError(
            f"{place}.embedding_model_name belongs to llm_embedding, and there it is needed"
        )
    if engine.engine == "tei" and engine.instance_type != "embedding":
        raise ConfigurationError(f"{place}.engine: tei serves embeddings only")
    return engine


def _pool(engines: Sequence[Instance], scheduling: Mapping[str, Any]) -> dict[str, Any]:
    """The groups are only names of models and their roles: the instances say the rest."""
    roles: dict[str, Role] = {}
    for engine in engines:
        for endpoint in engine.endpoints():
            (model,) = endpoint["models"]
            if roles.setdefault(model, endpoint["role"]) != endpoint["role"]:
                raise ConfigurationError(
                    f"model_name {model!r} is given as llm and as embedding: a model has one role"
                )
    groups = [
        {"name": f"group-{number}", "role": role, "engine": {"type": "vllm"}, "model": {"name": m}}
        for number, (m, role) in enumerate(roles.items())
    ]
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.POOL_KIND,
        "metadata": {"name": _POOL},
        "spec": {"groups": groups, "scheduling": scheduling},
    }


def _instance(number: int, engine: Instance) -> InferenceInstance:
    found = read_instance(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.INSTANCE_KIND,
            "metadata": {"name": f"{_POOL}-{number}"},
            "spec": {
                "poolRef": _POOL,
                "engine": engine.engine,
                "endpoints": engine.endpoints(),
                "maxConcurrency": engine.max_concurrency,
                **(
                    {} if engine.price_per_hour is None else {"pricePerHour": engine.price_per_hour}
                ),
            },
        },
        is_manifest=True,
    )
    if isinstance(found, Unreadable):
        raise ConfigurationError(f"instances[{number}] is wrong: {found.reason}")
    return found
