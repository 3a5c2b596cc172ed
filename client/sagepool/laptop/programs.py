"""The programs that a pool needs on this machine."""

import shutil
import sys
from pathlib import Path
from typing import Final

from sagepool.laptop.errors import WrongUse

# Before 0.24 vLLM takes no UUID of a GPU in CUDA_VISIBLE_DEVICES.
_WAYS_OUT: Final = {
    "vllm": "install it with `pip install 'vllm>=0.24'`",
    "text-embeddings-router": "install Text Embeddings Inference so that it is on the PATH",
    "sagepool-router": "install it with `pip install 'sagepool[cli]'`",
    "sagepool-simulator": "install it with `pip install 'sagepool[cli]'`",
}


def find_program(name: str) -> str | None:
    """The path of a program: beside this Python, else on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.is_file() else shutil.which(name)


def require_program(name: str, wanted_by: str, instead: str = "") -> str:
    """The path of a program.

    Args:
        name: of the program.
        wanted_by: who needs it, for the message.
        instead: what else can be done, for the message.

    Raises:
        WrongUse: it is not installed.
    """
    path = find_program(name)
    if path is None:
        ways = [_WAYS_OUT.get(name, "install it"), *([instead] if instead else [])]
        raise WrongUse(
            f"{wanted_by} needs {name}, which is not installed here: {', or '.join(ways)}"
        )
    return path
