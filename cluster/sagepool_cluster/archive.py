"""Container images that hold one static program and nothing else, written without any tool.

The layout is that of `docker save`, which docker, podman, kind and containerd all read.
"""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Go's and the image format's names of machines, by the kernel's."""

# Ownership and times are fixed, so that the same program always makes the same image.
_CREATED = "1970-01-01T00:00:00Z"
_UNPRIVILEGED = "65535:65535"


def write_program_image(archive: Path, reference: str, program: Path) -> None:
    """Write the archive of an image `reference` whose entry point is the program."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _add(tar, program.name, program.read_bytes(), mode=0o755)
    layer_bytes = layer.getvalue()
    layer_digest = hashlib.sha256(layer_bytes).hexdigest()
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": _CREATED,
            "config": {"Entrypoint": [f"/{program.name}"], "User": _UNPRIVILEGED},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{"created": _CREATED}],
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layer_name = f"{layer_digest}/layer.tar"
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]}]
    with tarfile.open(archive, mode="w") as tar:
        _add(tar, config_name, config)
        _add(tar, layer_name, layer_bytes)
        _add(tar, "manifest.json", json.dumps(manifest).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    tar.addfile(entry, io.BytesIO(content))
