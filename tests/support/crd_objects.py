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
_KEY = {"name": "secret", "key": "token"}
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


def full_pool_object() -> dict[str, Any]:
    """A pool that has every field set, as far as they go together."""
    return pool_object(
        source="auto",
        suspend=False,
        groups=[
            {
                "name": "chat",
                "role": "llm",
                "engine": {
                    "type": "vllm",
                    "image": "vllm/vllm-openai:v0.25.0",
                    "args": ["--max-model-len=8192"],
                    "env": [
                        {"name": "A", "value": "1"},
                        {"name": "B", "valueFrom": {"secretKeyRef": _KEY}},
                        {"name": "C", "valueFrom": {"configMapKeyRef": _KEY}},
                        {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    ],
                    "port": 8000,
                },
                "model": {
                    "uri": "hf://Qwen/Qwen2.5-7B-Instruct",
                    "name": "qwen2.5-7b",
                    "aliases": ["gpt-4o-mini"],
                    "revision": "main",
                    "tokenSecret": _KEY,
                },
                "adapters": [{"name": "support-bot", "uri": "hf://acme/support-bot"}],
                "lora": {"maxLoras": 4, "maxRank": 16},
                "gpu": {
                    "count": 1,
                    "resourceName": "nvidia.com/gpu",
                    "memoryFraction": 0.9,
                    "memory": "80Gi",
                    "pricePerHour": 2.5,
                },
                "replicas": 2,
                "maxConcurrency": 256,
                "rollout": {"maxSurge": 1, "maxUnavailable": 1, "drainSeconds": 300},
            },
            {
                "name": "mixed",
                "role": "llm_embedding",
                "engine": {"type": "simulator"},
                "model": {"name": "small"},
                "embeddingModel": {"uri": "hf://BAAI/bge-m3", "name": "bge", "aliases": ["ada"]},
                "scaling": {
                    "mode": "auto",
                    "minReplicas": 0,
                    "maxReplicas": 4,
                    "target": {
                        "inFlight": 32,
                        "queuedRequests": 16,
                        "queuedTexts": 256,
                        "ttftMs": 500,
                    },
                    "scaleDownAfterSeconds": 300,
                    "idleToZeroSeconds": 900,
                    "holdSeconds": 300,
                },
            },
        ],
        scheduling={
            "policy": "hybrid",
            "llmPolicy": "adaptive",
            "embeddingBatchSize": 32,
            "embeddingBatchTokens": 16384,
            "maxEmbeddingWaitMs": 5,
            "embeddingPriority": "normal",
            "hybridInstanceRatio": 0.7,
            "preferSpecializedInstances": True,
            "prefixAffinity": True,
            "queue": {"maxRequests": 1000, "maxWaitSeconds": 60},
            "slo": {"chatTtftMs": 1000, "embeddingMs": 200},
        },
        cache={
            "type": "pvc",
            "claimName": "models",
            "size": "200Gi",
            "storageClassName": "fast",
            "accessMode": "ReadWriteMany",
            "reclaimPolicy": "Delete",
        },
        cloud={
            "baseUrl": "https://api.example.com/v1",
            "apiKeySecret": _KEY,
            "models": {"bge": "text-embedding", "qwen": "qwen-turbo"},
            "when": ["absent"],
            "sameEmbeddingSpace": ["bge"],
            "pricePerMillionTokens": {"input": 0.2, "output": 0.6},
        },
        router={
            "replicas": 2,
            "auth": {"apiKeysSecret": "rag-keys"},
            "service": {"type": "ClusterIP", "port": 80},
            "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
        },
    )


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


def pair_group_object(**fields: Any) -> dict[str, Any]:
    """The same on vLLM: two processes on one GPU; a field of None is left out."""
    pair = {
        "engine": {"type": "vllm"},
        "model": {"name": "small", "uri": "hf://Qwen/Qwen2.5-1.5B-Instruct"},
        "embeddingModel": {"name": "bge", "uri": "hf://BAAI/bge-small-en-v1.5"},
        "gpu": {"count": 1},
    }
    return mixed_group_object(**{**pair, **fields})


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
