"""kubectl, helm and kubeconform in one folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sagepool_cluster.build import TOOLS, Builder


@dataclass(frozen=True, slots=True)
class Tools:
    """The machine's own tools where it has them all, else those of the Go module."""

    builder: Builder
    which: Callable[[str], str | None]

    def folder(self) -> Path:
        """Return the folder; builds the tools the first time if need be."""
        found = {program: self.which(program) for program in TOOLS.programs}
        if not all(found.values()):
            return self.builder.ensure(TOOLS)
        folder = self.builder.cache / "tools-of-this-machine"
        folder.mkdir(parents=True, exist_ok=True)
        for program, path in found.items():
            link = folder / program
            if not link.exists() or str(link.readlink()) != path:
                link.unlink(missing_ok=True)
                link.symlink_to(str(path))
        return folder
