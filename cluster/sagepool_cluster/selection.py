"""Which provider is right here."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from sagepool_cluster.build import Builder
from sagepool_cluster.commands import succeeds
from sagepool_cluster.config import ClusterConfig
from sagepool_cluster.embedded import EmbeddedProvider
from sagepool_cluster.errors import Unsupported
from sagepool_cluster.given import GivenProvider
from sagepool_cluster.kind import KindProvider, node_images
from sagepool_cluster.prerequisites import Host
from sagepool_cluster.progress import Progress
from sagepool_cluster.provider import Provider
from sagepool_cluster.tools import Tools

ProviderName: TypeAlias = Literal["given", "kind", "embedded"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the choice depends on."""

    host: Host
    kubeconfig: Path | None
    """The one that was asked for, by option or KUBECONFIG."""
    own_kubeconfig: Path
    """The embedded cluster's."""
    docker_answers: Callable[[], bool]
    node_image_at_hand: Callable[[], bool]


def look_around(
    config: ClusterConfig, host: Host, environ: Mapping[str, str], kubeconfig: Path | None
) -> Surroundings:
    """Return the surroundings as they are; of several files in KUBECONFIG the first counts."""
    asked = environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Surroundings(
        host=host,
        kubeconfig=kubeconfig or (Path(asked) if asked else None),
        own_kubeconfig=config.kubeconfig,
        docker_answers=lambda: succeeds(["docker", "version"], timeout_s=10),
        node_image_at_hand=lambda: bool(node_images()),
    )


def choose(around: Surroundings) -> ProviderName:
    """Return the provider for these surroundings.

    A kubeconfig wins, unless it is the embedded cluster's own: then there is more that we can do
    with it. Then kind where it can start at once, then embedded, then kind with a download.
    Raises Unsupported where none can work.
    """
    if around.kubeconfig is not None:
        is_own = around.kubeconfig.absolute() == around.own_kubeconfig.absolute()
        return "embedded" if is_own else "given"
    can_kind = around.host.which("kind") is not None and around.docker_answers()
    if can_kind and around.node_image_at_hand():
        return "kind"
    refusal = around.host.refusal()
    if refusal is None:
        return "embedded"
    if can_kind:
        return "kind"
    raise Unsupported(
        "no way to a Kubernetes cluster. Set KUBECONFIG to one you have; or start Docker and "
        f"install kind; or run as root on Linux to have one made here ({refusal})"
    )


def parse_provider(name: str) -> ProviderName:
    """Return the provider of this name; raise Unsupported for any other."""
    if name not in get_args(ProviderName):
        raise Unsupported(f"provider {name!r}: use one of {', '.join(get_args(ProviderName))}")
    return cast("ProviderName", name)


def make_provider(
    name: ProviderName, config: ClusterConfig, around: Surroundings, progress: Progress
) -> Provider:
    """Return the provider; raises Unsupported for `given` without a kubeconfig."""
    builder = Builder(config.cache, progress)
    tools = Tools(builder, around.host.which)
    match name:
        case "embedded":
            return EmbeddedProvider(config, around.host, progress, builder)
        case "kind":
            return KindProvider(config, tools, progress)
        case "given":
            if around.kubeconfig is None:
                raise Unsupported("the provider given needs KUBECONFIG or --kubeconfig")
            return GivenProvider(around.kubeconfig, tools)
