"""Images under further names."""

import io
import json
import tarfile
import tempfile
from pathlib import Path

from sagepool_cluster.image import build_image
from sagepool_cluster.progress import Silence
from sagepool_cluster.provider import Provider

_MANIFEST = "manifest.json"


def load_copy(provider: Provider, reference: str) -> str:
    """Load the image into the cluster under another tag, as a release after it; return its name."""
    image = build_image(Silence())
    assert image.reference == reference, f"{reference} is not built from this tree: build it anew"
    newer = f"{reference}-next"
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "image.tar"
        _rename(image.archive, archive, newer)
        provider.load_image(archive)
    return newer


def _rename(source: Path, target: Path, reference: str) -> None:
    """Copy an archive as `docker save` writes it, with another name inside."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for entry in old:
            content = old.extractfile(entry) if entry.isfile() else None
            if entry.name == _MANIFEST and content is not None:
                (manifest,) = json.load(content)
                text = json.dumps([{**manifest, "RepoTags": [reference]}]).encode()
                entry.size = len(text)
                new.addfile(entry, io.BytesIO(text))
            elif entry.name != "repositories":
                new.addfile(entry, content)
