"""Every flag that the catalogue builds is one that vLLM's own parser takes."""

from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from crd_objects import group_object, pair_group_object
from real_engines import Engines
from sagepool_crds.pool import Group
from sagepool_operator.config import Images
from sagepool_operator.engines.vllm import build
from sagepool_operator.programs.pair import SEPARATOR

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

POOLS: Final[Mapping[str, Mapping[str, object]]] = {
    "chat": {},
    "embeddings": {"role": "embedding"},
    "a revision": {"model": {"name": "m", "uri": "hf://o/m", "revision": "v1"}},
    "two GPUs": {"gpu": {"count": 2}},
    "part of a GPU": {"gpu": {"count": 1, "memoryFraction": 0.4}},
    "adapters": {"adapters": [{"name": "bot", "uri": "hf://o/bot"}], "lora": {"maxRank": 32}},
    "the user's own": {"engine": {"type": "vllm", "args": ["--max-model-len=512"]}},
}


PAIRS: Final[Mapping[str, Mapping[str, object]]] = {
    "two processes": {},
    "on two GPUs": {"gpu": {"count": 2, "memoryFraction": 0.8, "embeddingMemoryFraction": 0.1}},
    "with adapters": {"adapters": [{"name": "bot", "uri": "hf://o/bot"}]},
    "the user's own": {"engine": {"type": "vllm", "embeddingArgs": ["--max-model-len=512"]}},
}


def arguments(fields: Mapping[str, object], cached_at: str = "") -> list[str]:
    defaults = {
        "name": "g",
        "role": "llm",
        "replicas": 1,
        "engine": {"type": "vllm"},
        "model": {"name": "m", "uri": "hf://o/m"},
    }
    group = Group.model_validate(group_object(**{**defaults, **fields}))
    return list(build(group, Images(own=""), [cached_at]).args)


def both_arguments(fields: Mapping[str, object], *folders: str) -> Iterator[list[str]]:
    """What follows `vllm serve` for each process of a group of two."""
    group = Group.model_validate(pair_group_object(**fields))
    _, _, _, *words = build(group, Images(own=""), folders).args
    cut = words.index(SEPARATOR)
    for command in (words[:cut], words[cut + 1 :]):
        assert command[:2] == ["vllm", "serve"]
        yield command[2:]


def test_vllm_takes_every_flag_that_we_pass(engines: Engines) -> None:
    commands = [arguments(fields, at) for fields in POOLS.values() for at in ("", "/models/m")]
    commands += [
        command
        for fields in PAIRS.values()
        for folders in (("", ""), ("/models/m", "/models/e"))
        for command in both_arguments(fields, *folders)
    ]
    ended = engines.parse(commands)
    assert ended.returncode == 0, ended.stderr


def test_a_flag_that_vllm_does_not_know_is_found(engines: Engines) -> None:
    unknown = {"engine": {"type": "vllm", "args": ["--no-such-flag=1"]}}
    ended = engines.parse([arguments(unknown)])
    assert ended.returncode == 2
    assert "--no-such-flag" in ended.stderr
