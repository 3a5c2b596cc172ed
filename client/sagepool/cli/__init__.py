"""The command line: `sage`, also installed as `sagepool`."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        import typer  # noqa: F401 - asked for first: `pip install sagepool` is the client alone
    except ImportError:
        sys.exit("sage: the command line is an extra: pip install 'sagepool[cli]'")
    from sagepool.cli.app import run

    sys.exit(run(sys.argv[1:]))
