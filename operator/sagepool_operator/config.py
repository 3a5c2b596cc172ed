"""The operator's settings, read once from the environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sagepool_crds.fields import URL_PATTERN
from sagepool_operator.errors import SettingsError

_PREFIX: Final = "SAGEPOOL_OPERATOR_"
_OBJECT_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ADDRESS: Final = re.compile(URL_PATTERN)
_MIN_LEASE_S: Final = 5


@dataclass(frozen=True, slots=True)
class Images:
    """Where pods come from: container images for groups that name none, how ours is pulled, and the
    hub."""

    own: str
    """Our programs: the router and the simulator."""
    vllm: str = "vllm/vllm-openai:v0.25.0"
    tei_gpu: str = "ghcr.io/huggingface/text-embeddings-inference:cuda-1.9.3"
    tei_cpu: str = "ghcr.io/huggingface/text-embeddings-inference:cpu-1.9.3"
    pull_policy: str = "IfNotPresent"
    """Of our own image."""
    pull_secrets: tuple[str, ...] = ()
    """For our own image: Secrets with registry credentials, in each pool's namespace."""
    hub: str = ""
    """Address of the hub that models are cached from; empty: the public one."""


@dataclass(frozen=True, slots=True)
class ProbeIntervals:
    """How often and how long engines and providers are asked."""

    starting_s: float = 1.0
    """Between probes of an engine that is not ready, or has just failed one."""
    ready_s: float = 5.0
    """Between probes of a ready engine."""
    timeout_s: float = 5.0
    """Limit of each call."""
    failures: int = 3
    """Failed probes in a row that make a ready engine unready, or a provider unreachable."""
    provider_s: float = 60.0
    """Between probes of a cloud provider that can be reached."""


@dataclass(frozen=True, slots=True)
class LeaseName:
    """The Lease that operators of one installation share."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """`NAMESPACE/NAME`, as it is set."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Each field's variable is SAGEPOOL_OPERATOR_ and the name in capitals."""

    images: Images
    """From IMAGE (required), IMAGE_PULL_POLICY, IMAGE_PULL_SECRETS, VLLM_IMAGE, TEI_GPU_IMAGE and
    TEI_CPU_IMAGE; its hub from HUB."""
    namespace: str | None = None
    """NAMESPACE: watch this one only; unset or empty: all."""
    lease: LeaseName | None = None
    """LEASE: of several operators the one that holds this Lease works; unset or empty: this one
    works, and must be the only one."""
    lease_s: int = 10
    """LEASE_SECONDS: how long the others wait for a leader that has fallen silent."""
    workers: int = 16
    """WORKERS: pools reconciled at the same time."""
    resync_s: float = 600.0
    """RESYNC_SECONDS: every pool is looked at again so often, though nothing seems to change."""
    hub: str = "https://huggingface.co"
    """HUB: where models are cached from, and where config.json is read for groups with gpu.memory.
    none: nothing is read, and models come from the public hub."""
    probe: ProbeIntervals = ProbeIntervals()
    """From PROBE_STARTING_SECONDS, PROBE_READY_SECONDS, PROBE_TIMEOUT_SECONDS, PROBE_FAILURES
    and PROBE_PROVIDER_SECONDS."""
    liveness_port: int = 8081
    """LIVENESS_PORT: GET /healthz."""
    log_format: str = "json"
    """LOG_FORMAT: json or text."""
    log_level: str = "INFO"
    """LOG_LEVEL: DEBUG, INFO, WARNING or ERROR."""


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from environment variables.

    Raises:
        SettingsError: one is missing, malformed or unknown.
    """
    reader = _Reader(environ)
    defaults = Settings(images=Images(own=reader.text("IMAGE")))
    hub = reader.address("HUB", defaults.hub)
    settings = Settings(
        images=Images(
            own=defaults.images.own,
            vllm=reader.text("VLLM_IMAGE", defaults.images.vllm),
            tei_gpu=reader.text("TEI_GPU_IMAGE", defaults.images.tei_gpu),
            tei_cpu=reader.text("TEI_CPU_IMAGE", defaults.images.tei_cpu),
            pull_policy=reader.choice("IMAGE_PULL_POLICY", ("IfNotPresent", "Always", "Never")),
            pull_secrets=reader.object_names("IMAGE_PULL_SECRETS"),
            hub=hub,
        ),
        namespace=reader.text("NAMESPACE", "") or None,
        lease=reader.lease("LEASE"),
        lease_s=reader.whole("LEASE_SECONDS", defaults.lease_s, least=_MIN_LEASE_S),
        workers=reader.whole("WORKERS", defaults.workers),
        resync_s=reader.seconds("RESYNC_SECONDS", defaults.resync_s),
        hub=hub,
        probe=ProbeIntervals(
            starting_s=reader.seconds("PROBE_STARTING_SECONDS", defaults.probe.starting_s),
            ready_s=reader.seconds("PROBE_READY_SECONDS", defaults.probe.ready_s),
            timeout_s=reader.seconds("PROBE_TIMEOUT_SECONDS", defaults.probe.timeout_s),
            failures=reader.whole("PROBE_FAILURES", defaults.probe.failures),
            provider_s=reader.seconds("PROBE_PROVIDER_SECONDS", defaults.probe.provider_s),
        ),
        liveness_port=reader.whole("LIVENESS_PORT", defaults.liveness_port),
        log_format=reader.choice("LOG_FORMAT", ("json", "text")),
        log_level=reader.choice("LOG_LEVEL", ("INFO", "DEBUG", "WARNING", "ERROR")),
    )
    reader.refuse_unknown()
    return settings


class _Reader:
    """Reads variables and remembers which there are."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._values = {k: v for k, v in environ.items() if k.startswith(_PREFIX)}
        self._known: set[str] = set()

    def text(self, name: str, default: str | None = None) -> str:
        value = self._value(name)
        if value:
            return value
        if default is None:
            raise SettingsError(
                f"{_PREFIX}{name} is not set: set it to the image of sagepool's own programs, "
                "which runs routers and simulators"
            )
        return default

    def whole(self, name: str, default: int, *, least: int = 1) -> int:
        value = self._value(name)
        if not value:
            return default
        if not value.isdecimal() or int(value) < least:
            raise SettingsError(
                f"{_PREFIX}{name} is {value!r}: write a whole number from {least} on"
            )
        return int(value)

    def seconds(self, name: str, default: float) -> float:
        value = self._value(name)
        if not value:
            return default
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= 86400:
            raise SettingsError(f"{_PREFIX}{name} is {value!r}: write seconds, above 0, to 86400")
        return seconds

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self._value(name) or choices[0]
        if value not in choices:
            raise SettingsError(f"{_PREFIX}{name} is {value!r}: write one of {', '.join(choices)}")
        return value

    def object_names(self, name: str) -> tuple[str, ...]:
        items = [item.strip() for item in self._value(name).split(",")]
        found = tuple(dict.fromkeys(item for item in items if item))
        for item in found:
            if _OBJECT_NAME.fullmatch(item) is None:
                raise SettingsError(
                    f"{_PREFIX}{name} has {item!r}: write names of Secrets, separated by commas"
                )
        return found

    def lease(self, name: str) -> LeaseName | None:
        value = self._value(name)
        if not value:
            return None
        namespace, _, own = value.partition("/")
        if _NAMESPACE.fullmatch(namespace) is None or _OBJECT_NAME.fullmatch(own) is None:
            raise SettingsError(
                f"{_PREFIX}{name} is {value!r}: write NAMESPACE/NAME, for example "
                "sagepool-system/sagepool-operator"
            )
        return LeaseName(namespace, own)

    def address(self, name: str, default: str) -> str:
        value = self._value(name) or default
        if value == "none":
            return ""
        if _ADDRESS.fullmatch(value) is None:
            raise SettingsError(
                f"{_PREFIX}{name} is {value!r}: write an address such as {default}, or none"
            )
        return value

    def refuse_unknown(self) -> None:
        unknown = sorted(self._values.keys() - self._known)
        if unknown:
            known = ", ".join(sorted(self._known))
            raise SettingsError(f"{unknown[0]} is unknown: remove it; there are {known}")

    def _value(self, name: str) -> str:
        self._known.add(_PREFIX + name)
        return self._values.get(_PREFIX + name, "")
