"""`sage model`: the models in this user's Hugging Face cache, which pools on this machine use."""

import dataclasses
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sagepool.cli import output
from sagepool.cli.cluster import since
from sagepool.cli.output import Output, columns
from sagepool.laptop.errors import CommandError, NothingFound, WrongUse

if TYPE_CHECKING:
    from huggingface_hub import HFCacheInfo

_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

app: Final = typer.Typer(
    help="Models on this machine: the Hugging Face cache of your user.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model on the hub.")]


@app.command("list")
def list_models(
    form: Annotated[
        Output, typer.Option("--output", "-o", help="The form of the output.")
    ] = Output.TABLE,
) -> None:
    """List the models in the cache, the largest first."""

    def read() -> list[dict[str, Any]]:
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
            for repo in _cache().repos
            if repo.repo_type == "model"
        ]
        return sorted(found, key=lambda model: -model["bytes"])

    output.show(read, _table, form, None)


@app.command()
def download(
    name: Name,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.", show_default=False)] = "",
) -> None:
    """Download a model, so that a start finds it; what is there already is kept."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    _require_name(name)
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        path = snapshot_download(name, revision=revision or None)
    except OSError as error:  # what the hub refuses is one too
        raise CommandError(f"{name} cannot be downloaded: {_first_line(error)}") from error
    print(path)


@app.command()
def remove(name: Name) -> None:
    """Remove a model and all its revisions from the cache."""
    _require_name(name)
    cache = _cache()
    found = [repo for repo in cache.repos if (repo.repo_type, repo.repo_id) == ("model", name)]
    if not found:
        known = ", ".join(sorted(repo.repo_id for repo in cache.repos)) or "none"
        raise NothingFound(f"no model {name} is in the cache: there are {known}")
    # Of this repository alone: a copy of it on the hub has the same commits.
    alone = dataclasses.replace(cache, repos=frozenset(found))
    strategy = alone.delete_revisions(*(r.commit_hash for r in found[0].revisions))
    strategy.execute()
    print(f"{name} is removed: {_size(strategy.expected_freed_size)} are free again")


def _cache() -> "HFCacheInfo":
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return scan_cache_dir()
    except CacheNotFound as error:
        raise NothingFound(
            f"there is no cache of models at {error.cache_dir}: `sage model download` makes it"
        ) from error


def _require_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise WrongUse(f"{name!r} is no model: write OWNER/NAME, for example Qwen/Qwen2.5-7B")


def _table(models: list[dict[str, Any]]) -> str:
    if not models:
        return "no models"
    rows = [
        (m["name"], _size(m["bytes"]), ",".join(m["revisions"]), since(m["lastUsed"]))
        for m in models
    ]
    return columns(("MODEL", "SIZE", "REVISIONS", "USED"), rows)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
