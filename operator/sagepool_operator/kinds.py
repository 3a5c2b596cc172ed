"""Brings the CustomResourceDefinitions of a cluster to this version.

Helm cannot: it sends its changes of them as a strategic merge patch (`pkg/kube/client.go`, Helm 3),
in which a key `$patch` is a directive, and pod templates have a field of that name. Server-side
apply takes them as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sagepool_crds.crd import build_crds
from sagepool_kube.api import CUSTOM_RESOURCE_DEFINITIONS, ObjectApi
from sagepool_kube.errors import NotFound

_UNCHANGED: Final = "unchanged"
_UPDATED: Final = "updated"
_ABSENT: Final = "not there: it is left to who installs it"


async def update_kinds(api: ObjectApi, say: Callable[[str], None]) -> None:
    """Apply the spec of each CustomResourceDefinition of ours that the cluster has.

    One that is not there is left alone: whoever makes it is its owner. Labels and annotations stay.

    Args:
        api: the API server.
        say: takes a line for each.

    Raises:
        KubeError: the server refuses one, or cannot be reached.
    """
    for crd in build_crds().values():
        name = crd["metadata"]["name"]
        say(f"{name}: {await _update(api, name, crd['spec'])}")


async def _update(api: ObjectApi, name: str, spec: Mapping[str, Any]) -> str:
    try:
        before = await api.get(CUSTOM_RESOURCE_DEFINITIONS, None, name)
    except NotFound:
        return _ABSENT
    after = await api.apply(
        CUSTOM_RESOURCE_DEFINITIONS, None, {"metadata": {"name": name}, "spec": spec}
    )
    return _UPDATED if _generation(after) != _generation(before) else _UNCHANGED


def _generation(crd: Mapping[str, Any]) -> Any:
    """Counted up by the server with each change of the spec."""
    return crd["metadata"].get("generation")
