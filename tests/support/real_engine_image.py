"""The environment of vLLM as an image, for pods of the test cluster."""

import os
import shutil
from pathlib import Path
from typing import Final

from real_engines import Engines
from sagepool_cluster.config import read_config
from sagepool_cluster.imagebase import find_podman_bases
from sagepool_cluster.imagebuild import build_archive, choose_tool
from sagepool_cluster.prerequisites import this_host
from sagepool_cluster.progress import Silence
from sagepool_cluster.provider import Provider

_NAME: Final = "localhost/sagepool-vllm"
_PLACE: Final = "/opt/vllm"
_NUMA: Final = "libnuma.so.1"
"""vLLM for CPUs asks it where memory is; wheels do not bring it."""
_DOCKERFILE: Final = f"""
ARG BASE
FROM ${{BASE}}
COPY {_NUMA} /usr/lib/
RUN ldconfig && cp -a /engines {_PLACE}
COPY --chmod=755 vllm {_PLACE}/bin/vllm
ENV PATH={_PLACE}/bin:$PATH
"""
# As pip writes it; the installed one names the Python of another folder. Engine processes are
# started anew from this file, and must not serve a second time.
_PROGRAM: Final = f"""#!{_PLACE}/bin/python3
import sys
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""


def load_engine_image(engines: Engines, provider: Provider) -> str:
    """Build the image once for an environment and load it into the cluster; return its name."""
    environment = engines.python.parents[1]
    tag = environment.name.removeprefix("engines-")
    reference = f"{_NAME}:{tag}"
    folder = read_config(os.environ, Path.home()).cache / "images"
    archive = folder / f"vllm-{tag}.tar"
    if not archive.exists():
        tool = choose_tool(this_host(), Silence())
        base = find_podman_bases(folder, Silence()).runtime if tool == "podman" else None
        context = folder / f"vllm-{tag}"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(_DOCKERFILE)
        (context / "vllm").write_text(_PROGRAM)
        (library,) = Path("/usr/lib").glob(f"*-linux-gnu/{_NUMA}")
        shutil.copy(library, context / _NUMA)
        options = [
            f"--build-arg=BASE={base or 'python:3.11-slim'}",
            f"--volume={environment}:/engines:ro",
        ]
        build_archive(tool, reference, context, options, archive, os.environ)
    provider.load_image(archive)
    return reference
