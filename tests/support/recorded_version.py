"""What a version of the operator has made of a pool, recorded for the versions after it.

`python tests/support/recorded_version.py FILE` records this version: once, when it is released.
The file is JSON: the CRDs as they were, and every object with who owns which of its fields.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, TypeAlias

from kube_fake import FakeKube
from operator_world import World
from sagepool_crds.crd import build_crds
from sagepool_kube.api import INSTANCES, PODS, POOLS
from sagepool_operator.snapshot import CHILD_KINDS

Json: TypeAlias = dict[str, Any]

KINDS = (POOLS, *CHILD_KINDS, PODS, INSTANCES)
SPEC: Json = {
    "groups": [
        {
            "name": "chat",
            "role": "llm",
            "engine": {"type": "vllm", "args": ["--max-model-len=8192"]},
            "model": {"uri": "hf://Qwen/Qwen2.5-7B-Instruct", "name": "qwen"},
            "gpu": {"count": 1},
            "replicas": 2,
        },
        {
            "name": "embed",
            "role": "embedding",
            "engine": {"type": "tei"},
            "model": {"uri": "hf://BAAI/bge-m3", "name": "bge-m3"},
            "replicas": 1,
        },
        {
            "name": "mixed",
            "role": "llm_embedding",
            "engine": {"type": "simulator"},
            "model": {"name": "small"},
            "embeddingModel": {"name": "bge-small"},
            "replicas": 1,
        },
    ]
}


async def record() -> Json:
    """The CRDs of this version, and a settled pool with all that it has."""
    world = World()
    world.apply_pool(**SPEC)
    await world.settle()
    objects = [
        {"object": obj, "owners": owners}
        for kind in KINDS
        for obj, owners in world.kube.owned(kind)
    ]
    return {"crds": list(build_crds().values()), "objects": objects}


def recall(kube: FakeKube, recorded: Json) -> None:
    """Let the objects of a record be there, as they were."""
    kinds = {(kind.api_version, kind.kind): kind for kind in KINDS}
    for one in recorded["objects"]:
        obj = one["object"]
        kube.put(kinds[obj["apiVersion"], obj["kind"]], obj, owners=one["owners"])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(f"{json.dumps(asyncio.run(record()), sort_keys=True)}\n")
