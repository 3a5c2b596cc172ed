"""The pool of the kubeconfig's cluster that `sage chat` and `sage embed` mean without a name."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from sagepool.cli.cluster import connect
from sagepool.laptop.errors import CommandError, NothingFound, WrongUse

if TYPE_CHECKING:
    from sagepool_kube.api import Object

_LIMIT_S: Final = 3.0
"""For a cluster that nobody has named, as of a VPN that is away."""


class OnlyPool(NamedTuple):
    """A pool, by its name and namespace."""

    name: str
    namespace: str


def find_only_pool(limit_s: float = _LIMIT_S) -> OnlyPool | None:
    """The only pool of the context's namespace, else of the cluster.

    None without a kubeconfig or a pool, and where the cluster cannot be asked, which is said on
    standard error.

    Args:
        limit_s: how long the cluster may take, in seconds.

    Raises:
        WrongUse: there are several.
    """
    if not _has_kubeconfig():
        return None
    try:
        pools = asyncio.run(_read_pools(limit_s))
    except NothingFound:  # a cluster without sagepool
        return None
    except TimeoutError:
        _say_passed_over(f"it did not answer within {limit_s:g} s")
        return None
    except CommandError as error:
        _say_passed_over(str(error))
        return None
    if len(pools) > 1:
        listed = ", ".join(sorted(f"{pool.namespace}/{pool.name}" for pool in pools))
        raise WrongUse(
            f"the cluster of the kubeconfig has several pools ({listed}): name one with --pool and "
            "--namespace"
        )
    return pools[0] if pools else None


def _has_kubeconfig() -> bool:
    usual = Path(os.environ.get("HOME", "")) / ".kube" / "config"
    return bool(os.environ.get("KUBECONFIG")) or usual.exists()


def _say_passed_over(why: str) -> None:
    print(f"sage: the cluster of the kubeconfig is passed over: {why}", file=sys.stderr)


async def _read_pools(limit_s: float) -> list[OnlyPool]:
    """Those of the context's namespace; those of all where it has none and all may be read."""
    from sagepool_kube.api import POOLS
    from sagepool_kube.errors import Forbidden

    async with asyncio.timeout(limit_s), connect() as target:
        found = await target.list(POOLS)
        if not found:
            try:
                found = await target.list(POOLS, everywhere=True)
            except Forbidden:
                return []
        return [_named(pool) for pool in found]


def _named(pool: "Object") -> OnlyPool:
    metadata = pool["metadata"]
    return OnlyPool(metadata["name"], metadata["namespace"])
