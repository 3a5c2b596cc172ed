"""Which models a pool caches, and where each of them is. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sagepool_crds import names
from sagepool_crds.cache import Cache
from sagepool_crds.fields import KeyReference
from sagepool_crds.model import Model
from sagepool_crds.pool import Group, InferencePool, Role
from sagepool_operator.drift import digest
from sagepool_operator.engines.container import HUB_SCHEME

MOUNT: Final = "/models"
"""Where the cache is, in pods that fetch, wait or remove."""
CLAIM_SCHEME: Final = "pvc://"
_MOUNTS: Final = (("models", MOUNT), ("embedding-models", "/embedding-models"))
"""The volumes of an engine pod with models, and where they are: a second one where its two models
are not on the same."""
_DEFAULT_REVISION: Final = "main"
_MOST_OF_A_NAME: Final = 80
_KEY_LENGTH: Final = 10


@dataclass(frozen=True, slots=True)
class Download:
    """One model at one revision, on its way into the cache."""

    name: str
    """Of its Job: another one for each change of what the user has said of it."""
    uri: str
    revision: str
    """Empty where there are none."""
    folder: str
    """Of the model, below the cache: the same wherever the model is cached."""
    token_secret: KeyReference | None
    credentials_secret: str | None

    @property
    def source(self) -> str:
        """The model and its revision, for people."""
        return f"{self.uri}@{self.revision}" if self.revision else self.uri


@dataclass(frozen=True, slots=True)
class Pruning:
    """What a pool's cache is to keep; all else that was fetched for the pool goes."""

    name: str
    """Of its Job: another one for each set of models."""
    kept: tuple[str, ...]
    """Folders below the cache."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of an engine pod with models on it."""

    name: str
    mount: str
    """Where the engine has it."""
    claim: str
    """The claim that a user has put the model on; empty: it is the pool's cache."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a group's engines find a model that they serve."""

    role: Role
    model: Model
    volume: Volume | None = None
    """None where they fetch it for themselves, or load nothing."""
    path: str = ""
    """On the volume; empty: all of it."""
    download: Download | None = None
    """How it comes there; None where it lies there."""

    @property
    def folder(self) -> str:
        """The folder that the engine loads; empty: it fetches for itself."""
        return f"{self.volume.mount}/{self.path}".rstrip("/") if self.volume is not None else ""


def cache_of(pool: InferencePool) -> Cache | None:
    """The pool's cache; None where it has none."""
    cache = pool.spec.cache
    return cache if cache is not None and cache.type != "none" else None


def claim_of(pool: InferencePool) -> str:
    """Name of the claim that the cache is on; empty where it is on none."""
    cache = cache_of(pool)
    if cache is None or cache.type != "pvc":
        return ""
    return cache.claim_name or names.claim_name(pool.metadata.name)


def made_claim_of(pool: InferencePool) -> str:
    """Name of the claim that the pool has made; empty where it uses one as it is, or none."""
    cache = cache_of(pool)
    return claim_of(pool) if cache is not None and cache.size is not None else ""


def place_of(pool: InferencePool) -> str:
    """Where the cache is, for people."""
    cache = pool.spec.cache
    claim = claim_of(pool)
    return f"claim {claim}" if claim else f"hostPath {cache.path if cache else ''}"


def places_of(pool: InferencePool, group: Group) -> tuple[Place, ...]:
    """Where the group's engines find each model, in the order of `served`."""
    places: list[Place] = []
    # By the claim below it: a kubelet never mounts one claim twice into a pod.
    volumes: dict[str, Volume] = {}
    for role, model in group.served:
        place = Place(role, model)
        if not _loads_nothing(group):
            download = _download(pool, model)
            claim, path = _on_claim(model) or ("", download.folder if download else "")
            if claim or download is not None:
                below = claim or claim_of(pool)
                volume = volumes.setdefault(below, Volume(*_MOUNTS[len(volumes)], claim))
                place = Place(role, model, volume, path, download)
        places.append(place)
    return tuple(places)


def _download(pool: InferencePool, model: Model) -> Download | None:
    """How the model comes into the cache; None where it does not."""
    cache = cache_of(pool)
    if cache is None or not model.uri or _on_claim(model) is not None:
        return None
    is_on_hub = model.uri.startswith(HUB_SCHEME)
    revision = (model.revision or _DEFAULT_REVISION) if is_on_hub else ""
    place = claim_of(pool) or cache.path
    secret = model.token_secret.to_object() if model.token_secret is not None else None
    key = digest([model.uri, revision, place, secret if is_on_hub else model.credentials_secret])[
        :_KEY_LENGTH
    ]
    return Download(
        names.download_name(pool.metadata.name, key),
        model.uri,
        revision,
        _folder(model.uri, revision),
        model.token_secret if is_on_hub else None,
        model.credentials_secret,
    )


def _on_claim(model: Model) -> tuple[str, str] | None:
    """Claim and path of a model that lies on a claim, which engines have to mount."""
    uri = model.uri or ""
    if not uri.startswith(CLAIM_SCHEME):
        return None
    claim, _, path = uri.removeprefix(CLAIM_SCHEME).partition("/")
    return claim, path


def downloads_of(pool: InferencePool) -> tuple[Download, ...]:
    """Every model that the pool caches, once. None where no engine may ever run."""
    if pool.spec.source == "cloud":
        return ()
    return tuple(dict.fromkeys(download for _, download in _cached(pool)))


def pruning_of(pool: InferencePool) -> Pruning | None:
    """What the pool's cache is to keep; None where it keeps everything."""
    cache = cache_of(pool)
    if cache is None or cache.reclaim_policy == "Retain":
        return None
    # Whatever the source: a pool that asks a cloud today still names its models.
    kept = {download.folder for _, download in _cached(pool)} | set(_served_from_cache(pool))
    key = digest([claim_of(pool) or cache.path, sorted(kept)])[:_KEY_LENGTH]
    return Pruning(names.prune_name(pool.metadata.name, key), tuple(sorted(kept)))


def cached_models(pool: InferencePool) -> dict[str, str]:
    """Model name to the Job that fetches it."""
    return {model.name: download.name for model, download in _cached(pool)}


def _loads_nothing(group: Group) -> bool:
    return group.engine.type == "simulator"


def _cached(pool: InferencePool) -> Iterator[tuple[Model, Download]]:
    for place in _all_places(pool):
        if place.download is not None:
            yield place.model, place.download


def _served_from_cache(pool: InferencePool) -> Iterator[str]:
    """Folders of the cache that groups serve as those of a claim like any other."""
    claim = claim_of(pool)
    for place in _all_places(pool):
        found = _on_claim(place.model)
        if claim and found is not None and found[0] == claim and place.path:
            yield place.path.partition("/")[0]


def _all_places(pool: InferencePool) -> Iterator[Place]:
    for group in pool.spec.groups:
        yield from places_of(pool, group)


def _folder(uri: str, revision: str) -> str:
    """For people to find, and another one for each model and revision whatever they are called."""
    named = uri.partition("://")[2].replace("/", "--")[:_MOST_OF_A_NAME]
    return f"{named}--{digest([uri, revision])[:_KEY_LENGTH]}"
