"""Valid objects of the two kinds, for tests to start from."""

from copy import deepcopy
from typing import Any

from sagepool_crds import names

_POOL: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.POOL_KIND,
    "metadata": {"name": "rag", "namespace": "default"},
    "spec": {
        "groups": [
            {
                "name": "chat",
                "role": "llm",
                "engine": {"type": "simulator"},
                "model": {"name": "qwen2.5-7b", "aliases": ["gpt-4o-mini"]},
                "replicas": 2,
            },
            {
                "name": "embed",
                "role": "embedding",
                "engine": {"type": "simulator"},
                "model": {"name": "bge-m3"},
                "replicas": 1,
            },
        ]
    },
}
_INSTANCE: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.INSTANCE_KIND,
    "metadata": {"name": "elsewhere", "namespace": "default"},
    "spec": {
        "poolRef": "rag",
        "engine": "vllm",
        "endpoints": [
            {"role": "llm", "url": "http://10.0.0.7:8000", "models": ["qwen2.5-7b"]},
        ],
    },
}


def pool_object(**spec: Any) -> dict[str, Any]:
    """A pool with a chat group of 2 and an embedding group of 1; `spec` replaces fields."""
    pool = deepcopy(_POOL)
    pool["spec"].update(deepcopy(spec))
    return pool


def group_object(**fields: Any) -> dict[str, Any]:
    """A chat group on the simulator; a field of None is left out."""
    group = deepcopy(_POOL["spec"]["groups"][0])
    group.update(deepcopy(fields))
    return {key: value for key, value in group.items() if value is not None}


def mixed_group_object(**fields: Any) -> dict[str, Any]:
    """A group that serves a chat model and an embedding model; a field of None is left out."""
    mixed = {
        "name": "mixed",
        "role": "llm_embedding",
        "model": {"name": "small", "aliases": ["mini"]},
        "embeddingModel": {"name": "bge", "aliases": ["ada"]},
    }
    return group_object(**{**mixed, **fields})


def cloud_object(**fields: Any) -> dict[str, Any]:
    """A provider for both models of the pool."""
    cloud = {
        "baseUrl": "https://api.example.com/v1",
        "apiKeySecret": {"name": "provider", "key": "token"},
        "models": {"qwen2.5-7b": "their-chat", "bge-m3": "their-embedding"},
    }
    return {**cloud, **deepcopy(fields)}


def instance_object(**spec: Any) -> dict[str, Any]:
    """An instance that runs elsewhere; `spec` replaces fields, None leaves one out."""
    instance = deepcopy(_INSTANCE)
    instance["spec"].update(deepcopy(spec))
    instance["spec"] = {k: v for k, v in instance["spec"].items() if v is not None}
    return instance
