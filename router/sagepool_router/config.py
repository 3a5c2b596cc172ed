"""Every setting of the router: its flag, its environment variable, its default and its meaning.

A flag wins over the environment variable of the same name (`--admin-port` and
SAGEPOOL_ROUTER_ADMIN_PORT), which wins over the default.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast, get_args

from sagepool_crds.meta import PoolKey
from sagepool_router.limits import Limits

Source: TypeAlias = Literal["kubernetes", "file"]
LogFormat: TypeAlias = Literal["json", "text"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

ENV_PREFIX: Final = "SAGEPOOL_ROUTER_"
_DNS_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_DEFAULTS: Final = Limits()


class SettingsError(Exception):
    """A setting has no usable value; the message is one sentence that names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the router runs with."""

    source: Source
    pool: PoolKey | None = None
    config: Path | None = None
    host: str = "0.0.0.0"
    port: int = 8000
    admin_host: str = "0.0.0.0"
    admin_port: int = 9090
    grace_s: float = 30.0
    api_keys: Path | None = None
    cloud_api_key_file: Path | None = None
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    logs_requests: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as a person gives it."""

    name: str
    """The flag without its dashes."""
    read: Callable[[str], object]
    """Raises ValueError with the rule that the text breaks."""
    help: str
    default: str | None = None
    metavar: str = "TEXT"

    @property
    def flag(self) -> str:
        """As it stands on the command line."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that gives it too."""
        return ENV_PREFIX + self.name.upper().replace("-", "_")


def _one_of(literal: object) -> Callable[[str], str]:
    choices = get_args(literal)

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("must be yes or no")
    return text == "yes"


def _pool(text: str) -> PoolKey:
    namespace, slash, name = text.partition("/")
    if not slash or not _DNS_NAME.fullmatch(namespace) or not _DNS_NAME.fullmatch(name):
        raise ValueError("must be NAMESPACE/NAME, for example default/rag")
    return PoolKey(namespace, name)


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError("is not a file that can be read")
    return path


def _host(text: str) -> str:
    if not text or any(c.isspace() or c == "/" for c in text):
        raise ValueError("must be an address or a host name")
    return text


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        # isdecimal first: int() takes signs, spaces and underscores
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise ValueError(f"must be a whole number from {low} to {high}")
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return read


def _seconds(low: float, high: float) -> Callable[[str], float]:
    rule = f"must be a number of seconds from {low:g} to {high:g}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(rule) from None
        if not low <= value <= high:  # also refuses nan
            raise ValueError(rule)
        return value

    return read


OPTIONS: Final[tuple[Option, ...]] = (
    Option(
        "source",
        _one_of(Source),
        "where the pool is read from: kubernetes watches the API server, file watches a YAML file",
        metavar="kubernetes|file",
    ),
    Option(
        "pool",
        _pool,
        "the InferencePool to serve; with --source file only needed if the file holds several",
        metavar="NAMESPACE/NAME",
    ),
    Option(
        "config",
        _file,
        "the YAML file with one InferencePool and its InferenceInstances (--source file)",
        metavar="FILE",
    ),
    Option(
        "api-keys",
        Path,
        "the API keys that let clients in: a directory with a file for each, or one YAML file; "
        "left out: everybody is let in",
        metavar="PATH",
    ),
    Option(
        "cloud-api-key-file",
        Path,
        "file with the key of the pool's provider (spec.cloud)",
        metavar="FILE",
    ),
    Option("host", _host, "address that clients connect to", "0.0.0.0", "ADDRESS"),
    Option("port", _whole(0, 65535), "port that clients connect to; 0: any free one", "8000", "N"),
    Option("admin-host", _host, "address of the admin port", "0.0.0.0", "ADDRESS"),
    Option(
        "admin-port",
        _whole(0, 65535),
        "port of the read-only admin pages and metrics; 0: any free one",
        "9090",
        "N",
    ),
    Option(
        "grace-seconds",
        _seconds(0, 3600),
        "how long requests may finish after SIGTERM; below terminationGracePeriodSeconds",
        "30",
        "SECONDS",
    ),
    Option(
        "max-body-bytes",
        _whole(1, 1 << 30),
        "largest body of a request; larger ones are answered with 413",
        str(_DEFAULTS.max_body_bytes),
        "BYTES",
    ),
    Option(
        "body-budget-bytes",
        _whole(1, 1 << 40),
        "all bodies held at a time; beyond it requests are answered with 503",
        str(_DEFAULTS.body_budget_bytes),
        "BYTES",
    ),
    Option(
        "max-inflight",
        _whole(1, 1_000_000),
        "requests under way in this process; beyond it they are answered with 503",
        str(_DEFAULTS.max_inflight),
        "N",
    ),
    Option(
        "connect-timeout-seconds",
        _seconds(0.01, 60),
        "limit of connecting to an engine",
        f"{_DEFAULTS.connect_s:g}",
        "SECONDS",
    ),
    Option(
        "first-byte-timeout-seconds",
        _seconds(0.1, 86400),
        "from sending a request to an engine to the first byte of its answer",
        f"{_DEFAULTS.first_byte_s:g}",
        "SECONDS",
    ),
    Option(
        "gap-timeout-seconds",
        _seconds(0.1, 86400),
        "between two parts of an answer that has begun",
        f"{_DEFAULTS.gap_s:g}",
        "SECONDS",
    ),
    Option(
        "total-timeout-seconds",
        _seconds(0.1, 7 * 86400),
        "from the head of a request to the end of its answer",
        f"{_DEFAULTS.total_s:g}",
        "SECONDS",
    ),
    Option(
        "upload-timeout-seconds",
        _seconds(0.1, 3600),
        "from the head of a request to the end of its body",
        f"{_DEFAULTS.upload_s:g}",
        "SECONDS",
    ),
    Option(
        "stall-timeout-seconds",
        _seconds(0.1, 3600),
        "how long a client may leave its answer unread",
        f"{_DEFAULTS.stall_s:g}",
        "SECONDS",
    ),
    Option(
        "keepalive-timeout-seconds",
        _seconds(0.1, 3600),
        "how long a client's idle connection stays open",
        f"{_DEFAULTS.keepalive_s:g}",
        "SECONDS",
    ),
    Option(
        "engine-idle-seconds",
        _seconds(0, 3600),
        "how long an idle connection to an engine is kept; below the engine's own limit",
        f"{_DEFAULTS.pool_idle_s:g}",
        "SECONDS",
    ),
    Option(
        "log-format",
        _one_of(LogFormat),
        "json for machines, text for people",
        metavar="json|text",
        default="text",
    ),
    Option(
        "log-level",
        _one_of(LogLevel),
        "least severe level that is logged",
        metavar="debug|info|warning|error",
        default="info",
    ),
    Option(
        "log-requests",
        _yes_or_no,
        "write a line for each request: who, whereto, how long; never prompts or keys",
        metavar="yes|no",
        default="no",
    ),
)
"""Every setting, in the order of `--help`."""


def read_settings(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Settings:
    """The settings from the command line and the environment.

    Args:
        flags: by `Option.name`; None or absent: not given.
        environ: the environment.

    Raises:
        SettingsError: a value is missing, out of its range, or does not fit the others.
    """
    values = {option.name: _read(option, flags, environ) for option in OPTIONS}
    pool = cast("PoolKey | None", values["pool"])
    config = cast("Path | None", values["config"])
    source = values["source"]
    if source is None:
        raise SettingsError("--source is missing: say kubernetes or file")
    if source == "kubernetes" and pool is None:
        raise SettingsError("--pool is missing: --source kubernetes needs NAMESPACE/NAME")
    if source == "kubernetes" and config is not None:
        raise SettingsError("--config belongs to --source file: remove it or change --source")
    if source == "file" and config is None:
        raise SettingsError("--config is missing: --source file needs the path of a YAML file")
    limits = _limits(values)
    if limits.max_body_bytes > limits.body_budget_bytes:
        raise SettingsError(
            "--max-body-bytes is larger than --body-budget-bytes: no such body could be held"
        )
    return Settings(
        source=cast("Source", source),
        pool=pool,
        config=config,
        host=cast("str", values["host"]),
        port=cast("int", values["port"]),
        admin_host=cast("str", values["admin-host"]),
        admin_port=cast("int", values["admin-port"]),
        grace_s=cast("float", values["grace-seconds"]),
        api_keys=cast("Path | None", values["api-keys"]),
        cloud_api_key_file=cast("Path | None", values["cloud-api-key-file"]),
        log_format=cast("LogFormat", values["log-format"]),
        log_level=cast("LogLevel", values["log-level"]),
        logs_requests=cast("bool", values["log-requests"]),
        limits=limits,
    )


def _read(
    option: Option, flags: Mapping[str, str | None], environ: Mapping[str, str]
) -> object | None:
    given, place = flags.get(option.name), option.flag
    if given is None:
        given, place = _from_environment(option, environ), option.variable
    if given is None:
        given = option.default
    if given is None:
        return None
    try:
        return option.read(given)
    except ValueError as error:
        raise SettingsError(f"{place} {error}, not {given!r}") from None


def _from_environment(option: Option, environ: Mapping[str, str]) -> str | None:
    given = environ.get(option.variable, "")
    # Kubernetes gives every pod NAME_PORT=tcp://... for a Service called NAME: one called
    # sagepool-router would otherwise look like our --port.
    is_service_link = option.name == "port" and given.startswith(("tcp://", "udp://"))
    # An empty variable counts as absent: charts and shells leave such behind.
    return None if is_service_link or not given else given


def _limits(values: Mapping[str, object]) -> Limits:
    def seconds(name: str) -> float:
        return cast("float", values[name])

    def whole(name: str) -> int:
        return cast("int", values[name])

    return Limits(
        connect_s=seconds("connect-timeout-seconds"),
        first_byte_s=seconds("first-byte-timeout-seconds"),
        gap_s=seconds("gap-timeout-seconds"),
        total_s=seconds("total-timeout-seconds"),
        upload_s=seconds("upload-timeout-seconds"),
        stall_s=seconds("stall-timeout-seconds"),
        keepalive_s=seconds("keepalive-timeout-seconds"),
        pool_idle_s=seconds("engine-idle-seconds"),
        max_body_bytes=whole("max-body-bytes"),
        body_budget_bytes=whole("body-budget-bytes"),
        max_inflight=whole("max-inflight"),
    )
