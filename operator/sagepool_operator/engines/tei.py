"""Text Embeddings Inference 1.9."""

from collections.abc import Sequence
from typing import Final

from sagepool_crds.pool import Group
from sagepool_operator.config import Images
from sagepool_operator.engines.container import (
    EngineContainer,
    hub_token,
    merge_args,
    merge_env,
    model_place,
)

_CACHE: Final = "/data"
_MOST_TEXTS: Final = 2048
"""As many as embeddingBatchSize may allow."""
_MOST_CALLS: Final = 8
"""So many of the largest fit at once; it counts each text as a request."""


def build(group: Group, images: Images, folders: Sequence[str]) -> EngineContainer:
    """The container that serves the group's model, on a GPU or on CPUs."""
    (cached_at,) = folders
    default = images.tei_cpu if group.gpu is None else images.tei_gpu
    return EngineContainer(
        image=group.engine.image or default,
        # Its GPU image holds a program for each generation of GPUs; the entrypoint picks one.
        command=(),
        args=merge_args(_flags(group, cached_at), group.engine.args),
        env=merge_env(
            (
                {"name": "HUGGINGFACE_HUB_CACHE", "value": _CACHE},
                # Its default cuts long texts in silence, where vLLM answers 400. It is a switch
                # on the command line: only the variable can say no.
                {"name": "AUTO_TRUNCATE", "value": "false"},
                *(hub_token(group, "HF_TOKEN") if not cached_at else ()),
            ),
            group.engine.env,
        ),
        cache_path=_CACHE,
        load_limit_s=1800,
        stop_limit_s=60,
    )


def _flags(group: Group, cached_at: str) -> list[str]:
    flags = [
        f"--model-id={model_place(group, cached_at)}",
        f"--served-model-name={group.model.name}",
        # It would read the variable HOSTNAME, which Kubernetes sets to the pod's name.
        "--hostname=0.0.0.0",
        f"--port={group.engine.port}",
        # How many texts travel together is the pool's to say (embeddingBatchSize, which can be
        # changed without a new engine): its own bounds of 32 a call and 512 in all would refuse
        # what the pool allows.
        f"--max-client-batch-size={_MOST_TEXTS}",
        f"--max-concurrent-requests={_MOST_CALLS * _MOST_TEXTS}",
    ]
    if group.model.revision is not None and not cached_at:
        flags.append(f"--revision={group.model.revision}")
    return flags
