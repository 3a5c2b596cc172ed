"""`sage llm` and `sage finetune`: one vLLM engine on this machine, without a pool."""

import os
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sagepool.cli import places
from sagepool.cli.output import Output
from sagepool.cli.values import finite, not_empty
from sagepool.laptop.errors import CommandError, WrongUse

if TYPE_CHECKING:
    from sagepool.laptop.engine import EngineRequest
    from sagepool.laptop.home import Place
    from sagepool.laptop.launch import Launch

_LIMIT_S: Final = 1800.0

app: Final = typer.Typer(help="Run one vLLM engine on this machine.", no_args_is_help=True)
finetune_app: Final = typer.Typer(help="Serve what a fine-tuning left.", no_args_is_help=True)

Port = Annotated[
    int, typer.Option("--port", "-p", min=1, max=65535, help="Where the engine listens.")
]
Which = Annotated[
    int | None,
    typer.Option("--port", "-p", min=1, max=65535, help="Which, where several run."),
]
GpuMemory = Annotated[
    float | None,
    typer.Option(
        min=0.05,
        max=1,
        show_default="0.9",
        help="Share of each GPU's memory that it may take.",
        callback=finite,
    ),
]
TensorParallel = Annotated[
    int | None,
    typer.Option(min=1, max=16, show_default="1", help="GPUs to split the model over."),
]
Cpu = Annotated[bool, typer.Option("--cpu", help="Run without a GPU.")]
Background = Annotated[
    bool, typer.Option("--background", "-b", help="Go on without this terminal.")
]
Timeout = Annotated[
    float, typer.Option(min=1, help="Seconds until it must be ready.", callback=finite)
]


@app.command()
def run(
    model: Annotated[
        str, typer.Argument(help="OWNER/NAME on the hub, or a folder.", callback=not_empty)
    ],
    port: Port = 8001,
    gpu_memory: GpuMemory = None,
    tensor_parallel: TensorParallel = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ADAPTER", help="A LoRA adapter, a folder or OWNER/NAME; may be repeated."
        ),
    ] = None,
    cpu: Cpu = False,
    background: Background = False,
    timeout: Timeout = _LIMIT_S,
) -> None:
    """Start an engine and wait until it answers.

    Without --background it runs until Ctrl-C.
    """
    from sagepool.laptop.engine import EngineRequest, read_adapter

    request = EngineRequest(
        model,
        port,
        **_gpu_options(gpu_memory, tensor_parallel, on_cpu=cpu),
        adapters=dict(read_adapter(text) for text in lora or ()),
    )
    _start(request, timeout, background=background)


@app.command()
def stop(port: Which = None) -> None:
    """Stop an engine."""
    from sagepool.laptop import control

    place = places.choose("engine", _name(port), way="give --port")
    control.stop(place)
    print(f"engine {place.name} is stopped")


@app.command()
def status(
    port: Which = None,
    form: Annotated[
        Output, typer.Option("--output", "-o", help="The form of the output.")
    ] = Output.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it until Ctrl-C.")] = False,
) -> int:
    """Show the engines that run. Exit code 0: ready; 1: not all are; 3: none runs."""
    return places.print_statuses("engine", _name(port), form, watch=watch)


@app.command()
def logs(
    port: Which = None,
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Of its end.")] = 50,
) -> None:
    """Print an engine's log; it stays until the next start on that port."""
    place = places.choose("engine", _name(port), with_logs=True, way="give --port")
    places.print_logs(place, "vllm", lines, follow=follow)


@finetune_app.command()
def serve(
    name: Annotated[
        str,
        typer.Argument(
            help="A folder, or the name of one in ~/.sage/finetuned.", callback=not_empty
        ),
    ],
    port: Port = 8001,
    gpu_memory: GpuMemory = None,
    tensor_parallel: TensorParallel = None,
    cpu: Cpu = False,
    background: Background = False,
    timeout: Timeout = _LIMIT_S,
) -> None:
    """Serve a merged model, or a LoRA adapter on its base model.

    It runs as `sage llm run` does; `sage llm stop`, `status` and `logs` are for it too.
    """
    import msgspec

    from sagepool.laptop.engine import find_tuned_model

    request = msgspec.structs.replace(
        find_tuned_model(name, places.home()),
        port=port,
        **_gpu_options(gpu_memory, tensor_parallel, on_cpu=cpu),
    )
    _start(request, timeout, background=background)


@finetune_app.callback()
def _finetune() -> None:
    """Keeps `serve` a command of its own."""


def _gpu_options(
    gpu_memory: float | None, tensor_parallel: int | None, *, on_cpu: bool
) -> dict[str, Any]:
    """These fields of a request."""
    if on_cpu and (gpu_memory is not None or tensor_parallel is not None):
        raise WrongUse(
            "--gpu-memory and --tensor-parallel are for GPUs, and --cpu uses none: give one or the "
            "other"
        )
    given = {"gpu_memory": gpu_memory, "tensor_parallel": tensor_parallel, "on_cpu": on_cpu}
    return {name: value for name, value in given.items() if value is not None}


def _start(request: "EngineRequest", limit_s: float, *, background: bool) -> None:
    from sagepool.cli.starting import start
    from sagepool.laptop import ports
    from sagepool.laptop.claims import read_claims, take_off
    from sagepool.laptop.engine import plan_engine, wanted_of_engine
    from sagepool.laptop.gpus import read_gpus
    from sagepool.laptop.models import check_model

    home = places.home()
    place = home.place("engine", str(request.port))
    if place.is_taken():
        raise CommandError(
            f"an engine runs on port {request.port} already: choose another with --port, or stop "
            f"it with `sage llm stop --port {request.port}`"
        )
    ports.refuse_busy_port("127.0.0.1", request.port, home)

    def prepare() -> "tuple[Place, Launch]":
        left = lambda: take_off(read_gpus(os.environ), read_claims(home, place))  # noqa: E731
        launch = plan_engine(request, left)
        for wanted in wanted_of_engine(request):
            check_model(wanted)
        return place, launch

    start(prepare, limit_s, background=background)


def _name(port: int | None) -> str:
    return "" if port is None else str(port)
