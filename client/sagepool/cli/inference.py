"""`sage inference`: a pool on this machine."""

import enum
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sagepool.cli import output, places
from sagepool.cli.output import Output
from sagepool.cli.values import finite
from sagepool.laptop.errors import NothingFound, WrongUse

if TYPE_CHECKING:  # what commands need is imported when they run
    from collections.abc import Callable

    from sagepool.laptop.home import Place
    from sagepool.laptop.launch import Launch
    from sagepool.laptop.request import Prepared, StartRequest

_START_LIMIT_S: Final = 1800.0

app: Final = typer.Typer(
    help="Run a pool on this machine: its router and its engines.", no_args_is_help=True
)


class Policy(enum.StrEnum):
    """How requests are placed."""

    HYBRID = "hybrid"
    ADAPTIVE = "adaptive"
    SLO_AWARE = "slo_aware"
    PRIORITY = "priority"
    COST_OPTIMIZED = "cost_optimized"
    FIFO = "fifo"


class LogLevel(enum.StrEnum):
    """How much the router logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


File = Annotated[
    str,
    typer.Option("--file", "--config", "-f", "-c", help="The pool file.", show_default=False),
]
PoolName = Annotated[
    str, typer.Argument(metavar="[POOL]", help="Which pool, where several run.", show_default=False)
]
OutputForm = Annotated[Output, typer.Option("--output", "-o", help="The form of the output.")]


@app.command()
def start(
    file: File = "",
    pool: Annotated[
        str, typer.Option("--pool", help="Which pool of the file.", show_default=False)
    ] = "",
    port: Annotated[
        int, typer.Option("--port", "-p", min=1, max=65535, help="Where the router listens.")
    ] = 8000,
    host: Annotated[str, typer.Option(help="Address that clients connect to.")] = "127.0.0.1",
    llm_model: Annotated[
        str, typer.Option("--llm-model", "-l", help="A chat model, without a file: OWNER/NAME.")
    ] = "",
    llm_backend: Annotated[
        str, typer.Option(help="What runs chat models: vllm, simulator, or an engine's URL.")
    ] = "",
    embedding_model: Annotated[
        str, typer.Option("--embedding-model", "-e", help="An embedding model, without a file.")
    ] = "",
    embedding_backend: Annotated[
        str,
        typer.Option(help="What runs embedding models: vllm, tei, simulator, or an engine's URL."),
    ] = "",
    scheduling_policy: Annotated[
        Policy | None, typer.Option("--scheduling-policy", "-s", help="In place of the file's.")
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", "-b", help="Go on without this terminal.")
    ] = False,
    log_level: Annotated[LogLevel, typer.Option(help="Of the router.")] = LogLevel.INFO,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds until all must be ready.", callback=finite)
    ] = _START_LIMIT_S,
) -> None:
    """Start a pool and wait until it answers.

    Without --background it runs until Ctrl-C.
    """
    from sagepool.laptop.request import StartRequest

    request = StartRequest(
        file=str(Path(file).absolute()) if file else "",
        pool=pool,
        port=port,
        host=host,
        llm_model=llm_model,
        llm_backend=llm_backend,
        embedding_model=embedding_model,
        embedding_backend=embedding_backend,
        scheduling_policy=scheduling_policy.value if scheduling_policy else "",
        log_level=log_level.value,
    )
    _start(request, timeout, background=background)


@app.command()
def stop(
    pool: PoolName = "",
    every: Annotated[bool, typer.Option("--all", help="Every pool of this user.")] = False,
) -> None:
    """Stop a pool; nothing of it is left but its logs."""
    from sagepool.laptop import control

    if every and pool:
        raise WrongUse("name a pool or give --all, not both")
    found = places.known("pool") if every else [places.choose("pool", pool)]
    if not found:
        raise NothingFound("no pool runs here")
    for place in found:
        try:
            control.stop(place)
        except NothingFound:
            if not every:  # what is left of one must not keep the others running
                raise
        else:
            print(f"pool {place.name} is stopped")


@app.command()
def restart(
    pool: PoolName = "",
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds until all must be ready.", callback=finite)
    ] = _START_LIMIT_S,
) -> None:
    """Stop a pool and start it as it was started, in the background; its file is read anew.

    A file that cannot be used leaves the pool running.
    """
    import msgspec

    from sagepool.laptop import control
    from sagepool.laptop.record import read_record
    from sagepool.laptop.request import StartRequest

    place = places.choose("pool", pool)
    record = read_record(place)
    if record is None:
        raise NothingFound(f"pool {place.name} does not run")
    request = msgspec.convert(record.request, StartRequest)
    _prepare(request, is_restart=place.is_taken())
    _start(request, timeout, background=True, stop_first=lambda: control.stop(place))


@app.command()
def status(
    pool: PoolName = "",
    form: OutputForm = Output.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --output json.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it until Ctrl-C.")] = False,
) -> int:
    """Show what runs and its load.

    Exit code 0: ready; 1: something is wrong or still starting; 3: no pool runs.
    """
    return places.print_statuses("pool", pool, Output.JSON if as_json else form, watch=watch)


@app.command()
def logs(
    part: Annotated[
        str, typer.Argument(help="router, supervisor or an engine; all when left out.")
    ] = "",
    pool: Annotated[str, typer.Option("--pool", help="Which pool, where several ran.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Of each log.")] = 50,
) -> None:
    """Print the logs of a pool; they stay when it has ended."""
    place = places.choose("pool", pool, with_logs=True, way="give --pool")
    places.print_logs(place, part, lines, follow=follow)


@app.command()
def config(
    file: File = "",
    pool: Annotated[
        str, typer.Option("--pool", help="Which pool, where several run.", show_default=False)
    ] = "",
    form: Annotated[Output, typer.Option("--output", "-o", help="yaml or json.")] = Output.YAML,
) -> None:
    """Print a pool with every default: of a file, or as it runs.

    A file is read exactly as a cluster would read it; a file that one takes, the other takes.
    """
    from sagepool.laptop import manifest

    if form is Output.TABLE:
        raise WrongUse("a pool is no table: choose --output yaml or json")
    path = Path(file) if file else places.choose("pool", pool, way="give --pool").router_file
    objects = manifest.read_objects(path)
    if pool and file:
        manifest.choose_pool(objects, pool, str(path))
    if form is Output.JSON:
        output.write(objects, form, str)
    else:
        import yaml

        print(yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True), end="")


def _start(
    request: "StartRequest",
    limit_s: float,
    *,
    background: bool,
    stop_first: "Callable[[], object]" = lambda: None,
) -> None:
    from sagepool.cli.starting import start as start_launch

    def prepare() -> "tuple[Place, Launch]":
        stop_first()  # not earlier: another start would take the GPUs
        prepared = _prepare(request)
        return prepared.place, prepared.launch

    start_launch(prepare, limit_s, background=background)


def _prepare(request: "StartRequest", *, is_restart: bool = False) -> "Prepared":
    from sagepool.laptop.gpus import read_gpus
    from sagepool.laptop.models import check_model, read_config
    from sagepool.laptop.request import prepare

    return prepare(
        request,
        places.home(),
        read_gpus=lambda: read_gpus(os.environ),
        check_model=check_model,
        read_config=read_config,
        is_restart=is_restart,
    )
