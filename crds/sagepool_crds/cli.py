"""`sagepool-crds`: prints the CRDs, or keeps the generated files of a checkout right."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sagepool_crds.generate import build_files, crds_yaml


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit code 0: done; 1: files are out of date; 2: wrong use."""
    parser = argparse.ArgumentParser(
        prog="sagepool-crds",
        description="Print the CustomResourceDefinitions of sagepool as YAML.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("print", "write", "check"),
        default="print",
        help="print: to standard output (the default). write: every generated file of the "
        "checkout. check: fail if one of them is out of date.",
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), help="root of the checkout, for write and check"
    )
    options = parser.parse_args(arguments)
    if options.command == "print":
        sys.stdout.write(crds_yaml())
        return 0
    if not (options.root / "crds" / "sagepool_crds").is_dir():
        parser.error(f"{options.root.resolve()} is no checkout of sagepool: give --root")
    return _write(options.root) if options.command == "write" else _check(options.root)


def _write(root: Path) -> int:
    for path, text in build_files().items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return 0


def _check(root: Path) -> int:
    stale = [
        str(path)
        for path, text in build_files().items()
        if not (root / path).is_file() or (root / path).read_text() != text
    ]
    for path in stale:
        print(f"{path} is out of date: run `sagepool-crds write`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
