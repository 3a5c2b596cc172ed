"""The program `sagepool-operator`."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Final

from sagepool_kube.auth import load_configuration
from sagepool_kube.client import KubeClient
from sagepool_kube.errors import KubeError, NoCluster
from sagepool_operator.config import Settings, read_settings
from sagepool_operator.errors import SettingsError
from sagepool_operator.handlers import serve
from sagepool_operator.kinds import update_kinds
from sagepool_operator.log import configure_logging
from sagepool_operator.runtime import Operator

EXIT_FAILED: Final = 1
"""A part of the operator has ended; the log says why. Start it again."""
EXIT_MISCONFIGURED: Final = 2
"""A setting is wrong, or there is no cluster. Starting it again does not help."""

_logger: Final = logging.getLogger(__name__)
_EPILOG: Final = """\
Settings of `run` are environment variables SAGEPOOL_OPERATOR_*; IMAGE (the image of sagepool's own
programs) is required. In a pod the cluster is the pod's own, elsewhere that of KUBECONFIG.

exit codes:
  0  stopped by SIGTERM or SIGINT; the CustomResourceDefinitions are of this version
  1  a part of it has ended, or the API server refuses: start it again
  2  a setting is wrong, or there is no cluster
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and do it; ends the process with an exit code."""
    parser = argparse.ArgumentParser(
        prog="sagepool-operator",
        description="Makes the engines and routers of InferencePools, and keeps them right.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("sagepool"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("run", help="reconcile pools until SIGTERM")
    commands.add_parser(
        "update-crds",
        help="bring the CustomResourceDefinitions that the cluster has to this version, and end",
    )
    chosen = parser.parse_args(arguments).command
    sys.exit(run(os.environ) if chosen == "run" else update_crds(os.environ))


def run(environ: Mapping[str, str]) -> int:
    """Run with settings from the environment. Returns the exit code."""
    try:
        settings = read_settings(environ)
    except SettingsError as error:
        print(f"sagepool-operator: {error}", file=sys.stderr)
        return EXIT_MISCONFIGURED
    configure_logging(settings.log_format, settings.log_level)
    try:
        return asyncio.run(_serve(settings, environ))
    except NoCluster as error:
        _logger.critical("there is no cluster", extra={"error": str(error)})
        return EXIT_MISCONFIGURED
    except asyncio.CancelledError:
        return 0
    except Exception:  # whatever it is, it goes to the log in the log's form
        _logger.critical("the operator has ended", exc_info=True)
        return EXIT_FAILED


def update_crds(environ: Mapping[str, str]) -> int:
    """Update the CustomResourceDefinitions, with a line for each. Returns the exit code."""
    try:
        asyncio.run(_update_crds(environ))
    except (NoCluster, KubeError) as error:
        print(f"sagepool-operator: {error}", file=sys.stderr)
        return EXIT_MISCONFIGURED if isinstance(error, NoCluster) else EXIT_FAILED
    return 0


async def _update_crds(environ: Mapping[str, str]) -> None:
    configuration = await load_configuration(environ)
    async with KubeClient(configuration, user_agent="sagepool-operator") as api:
        await update_kinds(api, print)


async def _serve(settings: Settings, environ: Mapping[str, str]) -> int:
    configuration = await load_configuration(environ)
    stop_flag = asyncio.Event()
    async with KubeClient(configuration, user_agent="sagepool-operator") as api:
        await serve(lambda: Operator(api, settings), settings, stop_flag)
    return EXIT_FAILED if stop_flag.is_set() else 0


if __name__ == "__main__":
    main()
