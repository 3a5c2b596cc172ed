"""What a pool's cache is made of: claim, Jobs that fetch or remove, what engine pods have of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pod_template import WAIT_CONTAINER
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import JOBS, PERSISTENT_VOLUME_CLAIMS, Object
from sagepool_operator.builders import identity, podpatch, registry, security
from sagepool_operator.caching import (
    MOUNT,
    Download,
    Place,
    Pruning,
    Volume,
    cache_of,
    claim_of,
    places_of,
)
from sagepool_operator.config import Images

PORT: Final = 9093
"""Where a download serves its progress."""
WAIT_LIMIT_S: Final = 24 * 3600
_PROGRAM: Final = "sagepool-downloader"
_PRUNE: Final = "prune"
_FOLDER: Final = "--folder="
_KEEP: Final = "--keep="
_CONTAINER: Final = "download"
_VOLUME: Final = "models"
_TMP: Final = "/tmp"
_FOR_EVER: Final = 2**31 - 1
_AWS: Final[Mapping[str, bool]] = {
    "AWS_ACCESS_KEY_ID": False,
    "AWS_SECRET_ACCESS_KEY": False,
    "AWS_SESSION_TOKEN": True,
    "AWS_REGION": True,
    "AWS_ENDPOINT_URL": True,
}
"""Keys of a Secret that opens a bucket, and whether one may be left out."""
_PLACEMENT: Final = ("nodeSelector", "tolerations", "affinity")


def build_claim(pool: InferencePool) -> dict[str, Any] | None:
    """The claim, where the pool has one made. It has no owner: it outlives the pool."""
    cache = cache_of(pool)
    if cache is None or cache.size is None:
        return None
    storage_class = cache.storage_class_name
    claim = identity.child(
        pool,
        PERSISTENT_VOLUME_CLAIMS,
        claim_of(pool),
        identity.cache_labels(pool),
        spec={
            "accessModes": [cache.access_mode or "ReadWriteMany"],
            **({"storageClassName": storage_class} if storage_class is not None else {}),
            "resources": {"requests": {"storage": cache.size}},
        },
    )
    del claim["metadata"]["ownerReferences"]
    return claim


def build_job(pool: InferencePool, download: Download, images: Images) -> dict[str, Any]:
    """The Job that fetches a model."""
    container = _fetching(pool, download, images)
    return _job(pool, download.name, container, _placement(pool, {download.folder}), images)


def build_prune_job(pool: InferencePool, pruning: Pruning, images: Images) -> dict[str, Any]:
    """The Job that removes the models which the pool wants no longer."""
    container = _removing(pool, pruning, images)
    return _job(pool, pruning.name, container, _placement(pool, set(pruning.kept)), images)


def _job(
    pool: InferencePool,
    name: str,
    container: Mapping[str, Any],
    placement: Mapping[str, Any],
    images: Images,
) -> dict[str, Any]:
    """A Job over the cache. It never gives up: what is wrong is repaired outside of it."""
    labels = {**identity.cache_labels(pool), names.DOWNLOAD_LABEL: name}
    return identity.child(
        pool,
        JOBS,
        name,
        labels,
        spec={
            "backoffLimit": _FOR_EVER,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    **registry.credentials(images.pull_secrets),
                    **placement,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    # In the same pod, which keeps saying why the last attempt has failed.
                    "restartPolicy": "OnFailure",
                    "securityContext": security.restricted_pod(),
                    "containers": [container],
                    "volumes": [_cache_volume(pool, _VOLUME), {"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    )


def build_volume(pool: InferencePool, volume: Volume) -> dict[str, Any]:
    """A volume with models, of a pod that serves them."""
    if not volume.claim:
        return _cache_volume(pool, volume.name)
    source = {"claimName": volume.claim, "readOnly": True}
    return {"name": volume.name, "persistentVolumeClaim": source}


def build_mount(volume: Volume) -> dict[str, Any]:
    """The volume in a container that only reads it."""
    return {"name": volume.name, "mountPath": volume.mount, "readOnly": True}


def build_wait(pool: InferencePool, places: Sequence[Place], images: Images) -> dict[str, Any]:
    """The init container that keeps an engine from starting before its models are there.

    `places` are those whose models are fetched into the cache, one at least.
    """
    folders = [place.path for place in places]
    volume = next(place.volume for place in places if place.volume is not None)
    return {
        "name": WAIT_CONTAINER,
        "image": images.own,
        "imagePullPolicy": images.pull_policy,
        "command": [_PROGRAM, "wait"],
        "args": [*_place(pool, folders), f"--wait-seconds={WAIT_LIMIT_S}"],
        "resources": {
            "requests": {"cpu": "5m", "memory": "64Mi"},
            "limits": {"memory": "256Mi"},
        },
        "securityContext": {**security.restricted_container(), **security.own_user()},
        "volumeMounts": [{"name": volume.name, "mountPath": MOUNT, "readOnly": True}],
    }


def folders_of_pod(spec: Mapping[str, Any]) -> frozenset[str]:
    """The folders of models that a pod fetches, or waits for; none when it does neither."""
    return frozenset(_values(spec, _FOLDER))


def kept_by(job: Object) -> frozenset[str] | None:
    """The folders that a Job keeps while it removes others; None where it removes none."""
    spec: Mapping[str, Any] = job["spec"]["template"]["spec"]
    is_pruning = _PRUNE in spec["containers"][0].get("command", ())
    return frozenset(_values(spec, _KEEP)) if is_pruning else None


def is_finished(job: Object) -> bool:
    """Whether its work is done: the model is there, or those to remove have gone."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def is_outdated(wanted: Object, live: Object) -> bool:
    """Whether a Job has to be made anew: its image or the nodes that it may run on are others, and
    may be what keeps it from ending."""
    return not is_finished(live) and _what_may_keep_it(wanted) != _what_may_keep_it(live)


def _what_may_keep_it(job: Object) -> list[Any]:
    spec: Mapping[str, Any] = job["spec"]["template"]["spec"]
    return [spec["containers"][0]["image"], *(spec.get(field) or None for field in _PLACEMENT)]


def _cache_volume(pool: InferencePool, name: str) -> dict[str, Any]:
    claim = claim_of(pool)
    if claim:
        return {"name": name, "persistentVolumeClaim": {"claimName": claim}}
    cache = pool.spec.cache
    path = cache.path if cache is not None else None
    # A folder that the kubelet makes would belong to root, and hide that the share is not mounted.
    return {"name": name, "hostPath": {"path": path, "type": "Directory"}}


def _values(spec: Mapping[str, Any], flag: str) -> list[str]:
    """What a flag of ours is given in a pod."""
    containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    ours = (c for c in containers if _PROGRAM in c.get("command", ()))
    given = (argument for c in ours for argument in c.get("args", ()))
    return [a.removeprefix(flag) for a in given if a.startswith(flag)]


def _placement(pool: InferencePool, folders: Collection[str]) -> dict[str, Any]:
    """The nodes of the engines that want these models, those of the first group that says which.

    A volume that binds to its first consumer, or a folder of the nodes, has to be where they are.
    """
    for group in pool.spec.groups:
        patch = (group.pod_template or {}).get("spec", {})
        chosen = {field: patch[field] for field in _PLACEMENT if field in patch}
        wanted = {place.path for place in places_of(pool, group) if place.download is not None}
        if chosen and not wanted.isdisjoint(folders):
            affinity = chosen.pop("affinity", {})
            # Which other pods engines want to be near, or far from, is nothing to a download.
            if "nodeAffinity" in affinity:
                chosen["affinity"] = {"nodeAffinity": affinity["nodeAffinity"]}
            placement: dict[str, Any] = podpatch.merge({}, {"spec": chosen})["spec"]
            return placement
    return {}


def _fetching(pool: InferencePool, download: Download, images: Images) -> dict[str, Any]:
    hub = [f"--hub={images.hub}"] if images.hub else []
    return {
        **_container(images),
        "command": [_PROGRAM, "fetch"],
        "args": [
            f"--uri={download.uri}",
            *((f"--revision={download.revision}",) if download.revision else ()),
            *_place(pool, [download.folder]),
            f"--port={PORT}",
            *hub,
        ],
        # What its library keeps for itself must not be looked for in a home that is not there.
        "env": [{"name": "HF_HOME", "value": _TMP}, *_token(download), *_credentials(download)],
        "ports": [{"name": "progress", "containerPort": PORT, "protocol": "TCP"}],
    }


def _removing(pool: InferencePool, pruning: Pruning, images: Images) -> dict[str, Any]:
    return {
        **_container(images),
        "command": [_PROGRAM, _PRUNE],
        "args": [
            f"--root={MOUNT}",
            f"--pool={pool.metadata.uid}",
            *(f"{_KEEP}{folder}" for folder in pruning.kept),
        ],
    }


def _container(images: Images) -> dict[str, Any]:
    return {
        "name": _CONTAINER,
        "image": images.own,
        "imagePullPolicy": images.pull_policy,
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "1Gi"},
        },
        "securityContext": security.restricted_container(),
        "volumeMounts": [
            {"name": _VOLUME, "mountPath": MOUNT},
            {"name": "tmp", "mountPath": _TMP},
        ],
    }


def _place(pool: InferencePool, folders: Sequence[str]) -> list[str]:
    named = (f"{_FOLDER}{folder}" for folder in folders)
    return [f"--root={MOUNT}", *named, f"--pool={pool.metadata.uid}"]


def _token(download: Download) -> list[dict[str, Any]]:
    secret = download.token_secret
    if secret is None:
        return []
    return [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret.to_object()}}]


def _credentials(download: Download) -> Iterator[dict[str, Any]]:
    secret = download.credentials_secret
    if secret is not None:
        for name, is_optional in _AWS.items():
            key = {"name": secret, "key": name, **({"optional": True} if is_optional else {})}
            yield {"name": name, "valueFrom": {"secretKeyRef": key}}
