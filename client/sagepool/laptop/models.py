"""Whether an engine will find what it loads, in this user's cache or on the hub, and what it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from sagepool.laptop.cache import find_snapshot, has_weights
from sagepool.laptop.errors import WrongUse

ADAPTER_CONFIG: Final = "adapter_config.json"
"""The file by which a folder is known as a LoRA adapter's."""
HUB_VARIABLES: Final = ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HOME")
"""By these an engine is told of a token, a hub and a cache."""
_CONFIGS: Final = {"model": "config.json", "adapter": ADAPTER_CONFIG}
_HUB_LIMIT_S: Final = 10.0
"""For each question."""

Kind: TypeAlias = Literal["model", "adapter"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an engine loads from the hub."""

    repository: str
    """OWNER/NAME, as it was given: it may be none."""
    wanted_by: str
    """Who loads it, in the user's words."""
    revision: str | None = None
    kind: Kind = "model"
    environment: Mapping[str, str] = field(default_factory=dict)
    """Those of HUB_VARIABLES that are the engine's own; the rest is this process'."""
    way_to_give_token: str = "set HF_TOKEN"
    """What the user can do so that the engine has a token."""

    def __str__(self) -> str:
        at = f" at {self.revision}" if self.revision else ""
        return f"{self.wanted_by}: {self.kind} {self.repository}{at}"

    @property
    def config(self) -> str:
        """The file that every engine reads first."""
        return _CONFIGS[self.kind]

    @property
    def token(self) -> str | None:
        """The engine's own; None: it has that of this process. A variable that is empty is none."""
        return self.environment.get("HF_TOKEN") or None

    @property
    def endpoint(self) -> str | None:
        """The engine's own hub; None: it is that of this process."""
        return self.environment.get("HF_ENDPOINT") or None

    @property
    def snapshot(self) -> Path | None:
        """What of it is in the cache. Raises as `find_snapshot` does."""
        home, cache = (self.environment.get(name) for name in ("HF_HOME", "HF_HUB_CACHE"))
        folder = Path(cache) if cache else Path(home, "hub") if home else None
        return find_snapshot(self.repository, self.revision, self.config, folder)


ModelCheck = Callable[[Wanted], None]
ConfigReader = Callable[[Wanted], bytes | None]


def check_model(wanted: Wanted) -> None:
    """See that a model or an adapter is cached or can be downloaded, with the engine's token.

    Raises:
        WrongUse: the name cannot be one, or the hub does not have it, does not give it or cannot be
            reached.
    """
    from huggingface_hub.errors import HFValidationError

    try:
        snapshot = wanted.snapshot
        if snapshot is None or not has_weights(snapshot):
            _ask_hub(wanted)
    except HFValidationError:
        raise WrongUse(
            f"{wanted.wanted_by}: {wanted.repository!r} is neither a folder here nor "
            f"{'an adapter' if wanted.kind == 'adapter' else 'a model'}'s name on the hub: "
            "write OWNER/NAME"
        ) from None
    except _network_errors() as error:
        raise WrongUse(_explain(wanted, error)) from error


def read_config(wanted: Wanted) -> bytes | None:
    """The content of its config.json, from the cache, else from the hub; None: it cannot be had.

    Nothing is written.
    """
    from huggingface_hub import get_session, get_token, hf_hub_url
    from huggingface_hub.errors import HFValidationError

    try:
        if (snapshot := wanted.snapshot) is not None:
            return (snapshot / wanted.config).read_bytes()
        url = hf_hub_url(
            wanted.repository, wanted.config, revision=wanted.revision, endpoint=wanted.endpoint
        )
        token = wanted.token or get_token()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = get_session().get(url, headers=headers, timeout=_HUB_LIMIT_S)
    except HFValidationError:
        return None
    except _network_errors():
        return None
    return answer.content if answer.is_success else None


def _ask_hub(wanted: Wanted) -> None:
    """Raises what the hub's client raises when it is not to be had."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    endpoint, revision = wanted.endpoint, wanted.revision
    api = huggingface_hub.HfApi(endpoint=endpoint, token=wanted.token)
    api.model_info(wanted.repository, revision=revision, timeout=_HUB_LIMIT_S)
    # Everybody may read about a gated model; its files are for those who have accepted its licence.
    # HfApi.auth_check would tell too: it knows no limit of time.
    url = huggingface_hub.hf_hub_url(
        wanted.repository, wanted.config, revision=revision, endpoint=endpoint
    )
    try:
        api.get_hf_file_metadata(url=url, timeout=_HUB_LIMIT_S)
    except EntryNotFoundError:
        if wanted.kind == "adapter":
            raise
        # Some models have none, and engines that know them.


def _explain(wanted: Wanted, error: Exception) -> str:
    """Why it is not to be had, and the way out."""
    from huggingface_hub import errors, get_token

    has_token = bool(wanted.token or get_token())
    way = wanted.way_to_give_token
    if isinstance(error, errors.GatedRepoError):
        if has_token:
            return f"{wanted} is gated: accept its licence on the hub with the token's account"
        return f"{wanted} is gated: accept its licence on the hub, and {way}"
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
        if has_token:
            way = "take the token of an account that may read it"
        return f"{wanted} is not on the hub, or not for you: correct its name, or {way}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{wanted} holds no {wanted.config} on the hub: name an adapter"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403) and has_token:
            return f"{wanted}: the hub does not take the token ({status}): put a valid one in place"
        return f"{wanted}: the hub answers {status}: try again later"
    return (
        f"{wanted} is not in the cache, or only a part of it is, and the hub cannot be reached: "
        "connect, or download it where you are connected and copy the cache "
        f"({type(error).__name__})"
    )


def _network_errors() -> tuple[type[Exception], ...]:
    """OSError, and the errors of the HTTP library, which differs between versions of the hub's
    client: its own error is made of both."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
