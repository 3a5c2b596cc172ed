"""The shape in which an engine says what it needs, and how a user's own words are merged in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sagepool_crds.environment import EnvVar
from sagepool_crds.pool import Group

HUB_SCHEME: Final = "hf://"


@dataclass(frozen=True, slots=True)
class EngineContainer:
    """The engine's container, before Kubernetes' own concerns are added."""

    image: str
    command: tuple[str, ...]
    """Empty: the image's own entrypoint."""
    args: tuple[str, ...]
    env: tuple[Mapping[str, Any], ...] = ()
    cache_path: str | None = None
    """Where it keeps what it downloads and compiles; lives as long as the pod."""
    load_limit_s: int = 3600
    """After so long without a healthy answer the kubelet starts it again."""
    probe_period_s: int = 10
    """How often the kubelet asks."""
    stop_limit_s: int = 30
    """From SIGTERM to SIGKILL."""
    is_ours: bool = False
    """It runs without root and without writing to its image."""
    pull_policy: str = "IfNotPresent"
    requests: Mapping[str, str] = field(default_factory=dict)
    """CPU and memory to reserve when the engine needs no GPU."""
    embedding_port: int = 0
    """Where a second process in it embeds; 0 where there is none."""
    health_command: tuple[str, ...] = ()
    """Tells in the container whether it is well, where no single address does; empty: GET /health
    does."""


def merge_args(ours: Iterable[str], theirs: Sequence[str]) -> tuple[str, ...]:
    """Our arguments without the flags that the user gives, then the user's.

    Ours are written `--flag=value` or `--flag`. Dropping them matters: some parsers refuse a flag
    that is given twice.
    """
    given = {argument.partition("=")[0] for argument in theirs if argument.startswith("--")}
    kept = (argument for argument in ours if argument.partition("=")[0] not in given)
    return (*kept, *theirs)


def merge_env(
    ours: Iterable[Mapping[str, Any]], theirs: Sequence[EnvVar]
) -> tuple[Mapping[str, Any], ...]:
    """Our variables without those that the user sets, then the user's."""
    given = {variable.name for variable in theirs}
    kept = (variable for variable in ours if variable["name"] not in given)
    return (*kept, *(variable.to_object() for variable in theirs))


def hub_token(group: Group, variable: str) -> tuple[Mapping[str, Any], ...]:
    """The variable with the hub's access token, when the group names a Secret."""
    secret = group.model.token_secret
    if secret is None:
        return ()
    return ({"name": variable, "valueFrom": {"secretKeyRef": secret.to_object()}},)


def hub_model(group: Group) -> str:
    """`OWNER/NAME` of the model on the hub."""
    # The API server demands uri for every engine but the simulator.
    return (group.model.uri or "").removeprefix(HUB_SCHEME)


def model_place(group: Group, cached_at: str) -> str:
    """What the engine is told to load: the folder where the model is cached, or `OWNER/NAME`."""
    return cached_at or hub_model(group)
