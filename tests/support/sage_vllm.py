"""A machine with vLLM and one model in the cache, without a network: a simulator underneath."""

import os
import sys
from pathlib import Path

from sage_command import Sage

PROGRAM = """#!{python}
import json, os, subprocess, sys
from pathlib import Path
model = sys.argv[2]
if not Path(model).is_dir() and (model.count("/") != 1 or model[0] in "./"):
    sys.exit(f"{{model}} is neither a folder nor a name on the hub")
# As vLLM's core: a process of its own, which goes on when the server is killed.
core = subprocess.Popen(["sleep", "600"])
seen = {{"arguments": sys.argv[1:], "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
    "core": core.pid}}
Path({seen!r}).write_text(json.dumps(seen))
flags = dict(word[2:].split("=", 1) for word in sys.argv[3:] if "=" in word)
os.execv({python!r}, [{python!r}, "-m", "sagepool_simulator.cli", "serve", "--host=127.0.0.1",
    "--port=" + flags["port"], "--model=" + flags["served-model-name"]
    + ("=embedding" if flags.get("runner") == "pooling" else "")])
"""


def sage_with_vllm(folder: Path) -> Sage:
    """The command on such a machine; what vLLM was started with is in `folder/seen.json`."""
    programs = folder / "bin"
    programs.mkdir()
    vllm = programs / "vllm"
    vllm.write_text(PROGRAM.format(python=sys.executable, seen=str(folder / "seen.json")))
    vllm.chmod(0o755)
    model = folder / "hub" / "models--Qwen--Tiny"
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").touch()
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HF_HUB_CACHE": str(folder / "hub"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    return Sage(folder / "home", environment)
