"""The command line: `python -m sagepool_cluster up|down|status|tools|load-image|image|...`.

Standard output carries the one line that was asked for (a path, an image's name), so that it can
be used in `$(...)`; everything else goes to standard error. Status 1 after a ClusterError.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sagepool_cluster.cluster import find_provider
from sagepool_cluster.errors import ClusterError
from sagepool_cluster.image import TARGETS, build_image
from sagepool_cluster.progress import StderrProgress
from sagepool_cluster.provider import Provider


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        answer = options.command(options)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if answer is not None:
        print(answer)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sagepool_cluster",
        description="A Kubernetes cluster for the demo and the tests, and the image for it.",
    )
    parser.add_argument("--provider", help="given, kind or embedded; by default what fits here")
    parser.add_argument("--kubeconfig", type=Path, help="use this cluster (also: KUBECONFIG)")
    commands = parser.add_subparsers(title="commands", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], str | None], words: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=words, description=words)
        command.set_defaults(command=run)
        return command

    add("up", _up, "bring the cluster up, if it is not; print its kubeconfig's path")
    add("down", _down, "take down what `up` made")
    add("status", _status, "say what runs")
    add("tools", _tools, "print the folder with kubectl, helm and kubeconform")
    load = add("load-image", _load_image, "make the images of an archive known to the cluster")
    load.add_argument("archive", type=Path)
    add("stop-apiserver", _stop_api_server, "stop the API server alone (embedded)")
    add("start-apiserver", _start_api_server, "start the API server again (embedded)")
    image = add("image", _image, "build our image, if it is not built; print its name")
    image.add_argument("--target", choices=TARGETS, default=TARGETS[0], help="stage to build")
    image.add_argument("--tag", help="by default the version and a digest of the sources")
    image.add_argument("--load", action="store_true", help="also load it into the cluster")
    return parser


def _provider(options: argparse.Namespace) -> Provider:
    return find_provider(options.provider, options.kubeconfig, progress=StderrProgress())


def _up(options: argparse.Namespace) -> str:
    return str(_provider(options).up())


def _down(options: argparse.Namespace) -> None:
    _provider(options).down()


def _status(options: argparse.Namespace) -> str:
    provider = _provider(options)
    parts = [f"{part}: {state}" for part, state in provider.status().items()]
    return "\n".join([f"provider: {provider.name}", *parts])


def _tools(options: argparse.Namespace) -> str:
    return str(_provider(options).tools())


def _load_image(options: argparse.Namespace) -> None:
    archive: Path = options.archive
    if not archive.is_file():
        raise ClusterError(f"there is no image archive {archive}: build one with `image`")
    _provider(options).load_image(archive)


def _stop_api_server(options: argparse.Namespace) -> None:
    _provider(options).stop_api_server()


def _start_api_server(options: argparse.Namespace) -> None:
    _provider(options).start_api_server()


def _image(options: argparse.Namespace) -> str:
    image = build_image(StderrProgress(), target=options.target, tag=options.tag)
    if options.load:
        _provider(options).load_image(image.archive)
    return image.reference
