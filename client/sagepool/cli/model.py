"""`sage model`: the models of this machine, and those of the cluster's pools.

On this machine they are in this user's Hugging Face cache, which pools here load from. A cluster's
pool has those that its spec names, and fetches and removes them itself: they are listed only.
"""

import dataclasses
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sagepool.cli import output
from sagepool.cli.cluster import (
    KubeconfigOption,
    NamespaceOption,
    Target,
    in_cluster,
    since,
)
from sagepool.cli.output import Output, columns
from sagepool.cli.values import object_name
from sagepool.laptop.errors import CommandError, NothingFound, WrongUse

if TYPE_CHECKING:
    from huggingface_hub import HFCacheInfo

_WATCH_S: Final = 2.0
_NAME: Final = re.compile(
    r"(?!.*(?:--|\.\.|\.git$))\w(?:[\w.-]*\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII
)
"""As the hub's own client takes it, with its owner."""

app: Final = typer.Typer(
    help="Models of this machine (your user's Hugging Face cache) and of the cluster's pools.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model on the hub.")]


@app.command("list")
def list_models(
    pool: Annotated[
        str,
        typer.Option(
            "--pool", help="Of a pool of the cluster.", show_default=False, callback=object_name
        ),
    ] = "",
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Of every pool of the cluster's namespace.")
    ] = False,
    form: Annotated[
        Output, typer.Option("--output", "-o", help="The form of the output.")
    ] = Output.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it until Ctrl-C.")] = False,
    namespace: NamespaceOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """List the models in this machine's cache, or those of pools and how far they are fetched."""
    interval_s = _WATCH_S if watch else None
    if pool and cluster:
        raise WrongUse("name a pool with --pool or give --cluster for all, not both")
    if pool or cluster:
        output.show(
            lambda: in_cluster(
                lambda target: _read_pool_models(target, pool), namespace, kubeconfig
            ),
            _pool_table,
            form,
            interval_s,
        )
        return
    if namespace or kubeconfig:
        raise WrongUse(
            "--namespace and --kubeconfig are for the models of a cluster's pools: add --pool or "
            "--cluster, or leave them out"
        )
    output.show(_read_cached_models, _cache_table, form, interval_s)


@app.command()
def download(
    name: Name,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.", show_default=False)] = "",
) -> None:
    """Download a model, so that a start finds it; what is there already is kept."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils.tqdm import disable_progress_bars

    _require_name(name)
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        path = snapshot_download(name, revision=revision or None)
    except OSError as error:  # what the hub refuses is one too
        is_absent = isinstance(error, RepositoryNotFoundError | RevisionNotFoundError)
        kind = CommandError
        if is_absent and not isinstance(error, GatedRepoError):
            kind = NothingFound
        raise kind(f"{name} cannot be downloaded: {_first_line(error)}") from error
    print(path)


@app.command()
def remove(name: Name) -> None:
    """Remove a model and all its revisions from the cache."""
    _require_name(name)
    cache = _cache()
    if cache is None:
        raise NothingFound(f"no model {name} is in the cache: there is no cache yet")
    found = [repo for repo in cache.repos if (repo.repo_type, repo.repo_id) == ("model", name)]
    if not found:
        known = ", ".join(sorted(repo.repo_id for repo in cache.repos)) or "none"
        raise NothingFound(f"no model {name} is in the cache: there are {known}")
    # Of this repository alone: a copy of it on the hub has the same commits.
    alone = dataclasses.replace(cache, repos=frozenset(found))
    strategy = alone.delete_revisions(*(r.commit_hash for r in found[0].revisions))
    strategy.execute()
    print(f"{name} is removed: {_size(strategy.expected_freed_size)} are free again")


def _cache() -> "HFCacheInfo | None":
    """This user's cache; None before the first download."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return scan_cache_dir()
    except CacheNotFound:
        return None
    except ValueError as error:
        raise WrongUse(f"{error}: set HF_HUB_CACHE to a folder") from error


def _read_cached_models() -> list[dict[str, Any]]:
    """The models of the cache, the largest first."""
    cache = _cache()
    found = [
        {
            "name": repo.repo_id,
            "bytes": repo.size_on_disk,
            "revisions": sorted(
                {ref for revision in repo.revisions for ref in revision.refs}
                or {revision.commit_hash[:12] for revision in repo.revisions}
            ),
            "lastUsed": datetime.fromtimestamp(repo.last_accessed, UTC).isoformat(),
        }
        for repo in (cache.repos if cache is not None else ())
        if repo.repo_type == "model"
    ]
    return sorted(found, key=lambda model: -model["bytes"])


async def _read_pool_models(target: Target, name: str) -> list[dict[str, Any]]:
    """The models of a pool, or of all of the namespace, as their status tells them."""
    from sagepool_kube.api import POOLS

    pools = [await target.get(POOLS, name)] if name else await target.list(POOLS)
    return [
        {"pool": pool["metadata"]["name"], **model}
        for pool in pools
        for model in pool.get("status", {}).get("models") or ()
    ]


def _require_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise WrongUse(f"{name!r} is no model: write OWNER/NAME, for example Qwen/Qwen2.5-7B")


def _cache_table(models: list[dict[str, Any]]) -> str:
    if not models:
        return "no models"
    rows = [
        (m["name"], _size(m["bytes"]), ",".join(m["revisions"]), since(m["lastUsed"]))
        for m in models
    ]
    return columns(("MODEL", "SIZE", "REVISIONS", "USED"), rows)


def _pool_table(models: list[dict[str, Any]]) -> str:
    if not models:
        return "no models"
    rows = []
    for model in models:
        cache = model.get("cache") or {}
        rows.append(
            (
                model["pool"],
                model["name"],
                model.get("role"),
                f"{model.get('ready', 0)}/{model.get('desired', 0)}",
                model.get("source"),
                cache.get("phase"),
                _progress(cache),
                cache.get("message"),
            )
        )
    head = ("POOL", "MODEL", "ROLE", "READY", "SOURCE", "CACHE", "FETCHED", "MESSAGE")
    return columns(head, rows)


def _progress(cache: dict[str, Any]) -> str:
    """What of a model is there: so much of so much, and how long the rest takes."""
    fetched, total = cache.get("bytes", 0), cache.get("totalBytes", 0)
    if not fetched and not total:
        return ""
    if fetched == total:
        return _size(total)
    left = cache.get("remainingSeconds")
    told = f"{_size(fetched)} of {_size(total)}" if total else _size(fetched)
    return told if left is None else f"{told}, {left}s left"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
