"""A pool and its instances in one YAML file, read as an API server reads them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from sagepool_crds import names
from sagepool_crds.admission import Refused, admit
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.manifests import load_manifests
from sagepool_crds.meta import PoolKey
from sagepool_crds.pool import InferencePool
from sagepool_router.sources.objects import Unreadable, read_instance, read_pool


class DocumentError(Exception):
    """The file cannot be used; the message is a sentence that says where and why."""


@dataclass(frozen=True, slots=True)
class Document:
    """What the file says of one pool."""

    pool: InferencePool
    instances: tuple[InferenceInstance, ...]


def read_document(text: str | bytes, key: PoolKey | None) -> Document:
    """Read a pool and its instances.

    Args:
        text: YAML with one object per document.
        key: which pool; needed only when the file holds several.

    Raises:
        DocumentError: it is not YAML, an API server would refuse an object, a name comes twice,
            or the pool is not there. The file is taken whole or not at all.
    """
    pools: list[InferencePool] = []
    instances: list[InferenceInstance] = []
    for obj in _objects(text):
        found = _read(obj)
        if isinstance(found, InferencePool):
            pools.append(found)
        else:
            instances.append(found)
    pool = _choose(pools, key)
    _refuse_twins(instances)
    _refuse_strays(instances, pools)
    namespace, name = pool.metadata.namespace, pool.metadata.name
    # the number of routers is the operator's to know; whoever starts one by hand has one
    alone = pool.spec.router.model_copy(update={"replicas": 1})
    pool = pool.model_copy(update={"spec": pool.spec.model_copy(update={"router": alone})})
    return Document(
        pool,
        tuple(
            i for i in instances if i.spec.pool_ref == name and i.metadata.namespace == namespace
        ),
    )


def _objects(text: str | bytes) -> list[Mapping[str, Any]]:
    try:
        found = load_manifests(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DocumentError(f"it is not YAML: {' '.join(str(error).split())}") from None
    for number, obj in enumerate(found, 1):
        if not isinstance(obj, Mapping):
            raise DocumentError(f"document {number} is not an object")
    return found


def _read(obj: Mapping[str, Any]) -> InferencePool | InferenceInstance:
    kind, version = obj.get("kind"), obj.get("apiVersion")
    if version != names.API_VERSION or kind not in (names.POOL_KIND, names.INSTANCE_KIND):
        raise DocumentError(
            f"it holds {kind} of {version}: only {names.POOL_KIND} and {names.INSTANCE_KIND} "
            f"of {names.API_VERSION} belong here"
        )
    try:
        admitted = admit(obj)
    except Refused as refused:
        raise DocumentError(str(refused)) from None
    read = read_pool if kind == names.POOL_KIND else read_instance
    found = read(admitted)
    if isinstance(found, Unreadable):
        raise DocumentError(f"{found.kind} {found.name}: {found.reason}")
    if isinstance(found, InferenceInstance):
        for endpoint in found.spec.endpoints:
            if endpoint.url is None:
                raise DocumentError(
                    f"InferenceInstance {found.metadata.name} has an endpoint without url: write "
                    "the engine's address, for example http://127.0.0.1:8001"
                )
    return found


def _choose(pools: Sequence[InferencePool], key: PoolKey | None) -> InferencePool:
    keys = [PoolKey(p.metadata.namespace, p.metadata.name) for p in pools]
    if not pools:
        raise DocumentError("it holds no InferencePool")
    if len(set(keys)) < len(keys):
        raise DocumentError("two InferencePools have the same name")
    if key is None:
        if len(pools) > 1:
            listed = ", ".join(map(str, keys))
            raise DocumentError(f"it holds several pools ({listed}): say which one with --pool")
        return pools[0]
    if key not in keys:
        raise DocumentError(f"it holds no InferencePool {key}, but {', '.join(map(str, keys))}")
    return pools[keys.index(key)]


def _refuse_twins(instances: Sequence[InferenceInstance]) -> None:
    seen = set()
    for instance in instances:
        name = (instance.metadata.namespace, instance.metadata.name)
        if name in seen:
            raise DocumentError(f"two InferenceInstances are called {instance.metadata.name}")
        seen.add(name)


def _refuse_strays(instances: Sequence[InferenceInstance], pools: Sequence[InferencePool]) -> None:
    known = {(p.metadata.namespace, p.metadata.name) for p in pools}
    for instance in instances:
        if (instance.metadata.namespace, instance.spec.pool_ref) not in known:
            raise DocumentError(
                f"InferenceInstance {instance.metadata.name} belongs to pool "
                f"{instance.metadata.namespace}/{instance.spec.pool_ref}, which is not in the file"
            )
