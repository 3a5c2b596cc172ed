"""Compiles the router's request path with mypyc, where a build asks for it.

The sources stay plain Python: in a checkout and in a wheel built as usual they are interpreted.
`HATCH_BUILD_HOOK_ENABLE_CUSTOM=true pip wheel .` puts their extension modules beside them; so are
the image and the environment of the benchmarks made. pyproject.toml lists them, decision 24 tells
what is gained and why it is not all of the router.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileHook(BuildHookInterface[Any]):
    """Adds the extension modules of `sources` (patterns below the root) to the wheel."""

    _built: Path | None = None
    """Where they are until the wheel is written."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile them; an editable installation stays as it is.

        Raises:
            FileNotFoundError: a pattern names no file.
            SystemExit: mypy or the C compiler refuses a source; it has printed why.
        """
        if version == "editable":
            return
        self._built = built = Path(mkdtemp(prefix="sagepool-compiled-"))
        _compile(list(self._sources()), built)
        for module in built.joinpath("lib").rglob("*.so"):
            build_data["force_include"][str(module)] = str(module.relative_to(built / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written: what it was made of is not needed any more."""
        if self._built is not None:
            shutil.rmtree(self._built)

    def _sources(self) -> Iterator[str]:
        for pattern in self.config["sources"]:
            found = sorted(Path(self.root).glob(pattern))
            if not found:
                raise FileNotFoundError(f"pyproject.toml: {pattern} names no source to compile")
            yield from (str(path.relative_to(self.root)) for path in found)


def _compile(sources: list[str], built: Path) -> None:
    # not at the top: a build without compiling needs neither
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    modules = mypycify(
        sources,
        opt_level="3",
        debug_level="0",
        target_dir=str(built / "c"),
        group_name="sagepool_router",
    )
    command = build_ext(Distribution({"name": "sagepool", "ext_modules": modules}))
    command.build_lib = str(built / "lib")
    command.build_temp = str(built / "objects")
    command.ensure_finalized()
    command.run()
