"""Every bound, pattern, enum and type of the two specs, at its edge, on a real API server.

The cases are drawn from the schema itself: for each field a value that is just allowed and one
that is just not, put into an object that has every field set.
"""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import httpx
import pytest

from crd_objects import full_pool_object, instance_object
from kubectl import Kubectl
from sagepool_crds.admission import Refused, admit
from sagepool_crds.crd import build_crds

pytestmark = pytest.mark.cluster

FULL_POOL = full_pool_object()
FULL_INSTANCE = instance_object(
    group="chat",
    drain=False,
    maxConcurrency=256,
    pricePerHour=2.5,
    device="gpu-0",
    endpoints=[{"role": "llm", "url": "http://10.0.0.7:8000", "models": ["m"]}],
)
# Where the edge itself breaks a rule about the whole object, which has a case of its own.
ELSEWHERE = {
    "spec.groups[0].role",
    "spec.groups[0].engine.type",
    "spec.groups[1].role",
    "spec.groups[1].engine.type",
    "spec.groups[1].scaling.mode",
    "spec.groups[1].scaling.minReplicas",
    "spec.groups",
    "spec.cache.type",
    "spec.cloud.models",
    "spec.cloud.sameEmbeddingSpace",
    "spec.cloud.sameEmbeddingSpace[0]",
    "spec.endpoints",
}
# Lists of values: the i-th of many different ones. Groups and endpoints have cases of their own.
ITEMS: dict[str, Callable[[int], Any]] = {
    "args": lambda i: f"--flag-{i}",
    "aliases": lambda i: f"alias-{i}",
    "models": lambda i: f"model-{i}",
    "adapters": lambda i: {"name": f"adapter-{i}", "uri": "/models/adapter"},
    "env": lambda i: {"name": f"V{i}", "value": ""},
    "when": lambda i: ("absent", "starting", "overloaded", "always")[i],
    "sameEmbeddingSpace": lambda i: f"model-{i}",
}
# A text of the pattern, and one that is not, where the longest text of one letter is not enough.
TEXTS: dict[str, tuple[str, str]] = {
    "uri": ("hf://" + "a" * 96 + "/b", "gs://bucket/model"),
    "resourceName": ("example.com/fpga", "gpu"),
    "url": ("https://engine.example.com:65535/base", "http://engine:65536"),
    "name": ("a", "A=b"),
    "revision": ("refs/pr/7", ""),
    "image": ("a", ""),
    "fieldPath": ("metadata.name", ""),
    "poolRef": ("rag", ""),
    "group": ("a1", "A"),
    "key": ("a.b_c-D", "a b"),
    "value": ("", "x" * 8193),
    "cpu": ("1.5", "1 core"),
    "memory": ("512Mi", "half"),
    "args[]": ("", "x" * 2049),
    "aliases[]": ("Org/Model:v1", "a b"),
    "models[]": ("Org/Model:v1", "a b"),
    "sameEmbeddingSpace[]": ("bge", "a b"),
    "apiKeysSecret": ("rag-keys.v1", "Rag_Keys"),
    "claimName": ("models.v1", "My_Models"),
    "storageClassName": ("fast.v1", "Fast_SSD"),
    "size": ("1.5Ti", "all"),
    "device": ("gpu-0", "GPU_0"),
    "baseUrl": ("http://10.0.0.9:8080/compatible-mode/v1", "https://api.example.com/v1?key=1"),
    "bge": ("Org/Model:v1", ""),
    "qwen": ("any words, in the provider's way", ""),
}
# The longest text that is allowed, where a row of one letter is one.
LONGEST: dict[str, Callable[[int], str]] = {
    **dict.fromkeys(
        ("name", "key", "value", "fieldPath", "image", "revision", "group", "poolRef"),
        lambda length: "x" * length,
    ),
    **dict.fromkeys(
        ("apiKeysSecret", "claimName", "storageClassName", "device", "bge", "qwen"),
        lambda length: "x" * length,
    ),
    **dict.fromkeys(("args[]", "aliases[]", "models[]"), lambda length: "x" * length),
    "url": lambda length: "http://engine/".ljust(length, "x"),
    "baseUrl": lambda length: "https://provider/".ljust(length, "x"),
    "resourceName": lambda length: "example.com/".ljust(length, "x"),
}
WORDS = re.compile(r"\[\d+\]")
KEYS = re.compile(r"\[([a-z]+)\]")
"""The server writes a map's key in brackets."""


def _leaves(
    schema: dict[str, Any], value: Any, path: str
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every field that the object sets: its path, schema, and whether it is required."""
    for name, child in schema.get("properties", {}).items():
        if isinstance(value, dict) and name in value:
            here = f"{path}.{name}"
            yield here, child, name in schema.get("required", ()) and "default" not in child
            yield from _leaves(child, value[name], here)
    if "additionalProperties" in schema:
        for name in value:
            yield f"{path}.{name}", schema["additionalProperties"], False
    if "items" in schema and isinstance(value, list):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", schema["items"], False
            yield from _leaves(schema["items"], item, f"{path}[{index}]")


def _edges(path: str, node: dict[str, Any]) -> Iterator[tuple[Any, bool]]:
    """Values and whether the server takes them."""
    if "enum" in node:
        yield from ((value, True) for value in node["enum"])
        yield "no-such-value", False
    elif node["type"] == "boolean":
        yield True, True
        yield "yes", False
    elif node["type"] in ("integer", "number"):
        step = 1 if node["type"] == "integer" else 0.01
        yield node["maximum"], True
        yield node["maximum"] + step, False
        yield node["minimum"], not node.get("exclusiveMinimum", False)
        yield node["minimum"] - step, False
        yield "1", False
    elif node["type"] == "string":
        leaf = WORDS.sub("[]", path.rsplit(".", 1)[-1])
        good, bad = TEXTS[leaf]
        yield good, True
        yield bad, False
        if leaf in LONGEST:
            yield LONGEST[leaf](node["maxLength"]), True
        yield "x" * (node["maxLength"] + 1), False
        yield 7, False
    else:
        yield "text", False
        yield from _sizes(path.rsplit(".", 1)[-1], node)


def _sizes(leaf: str, node: dict[str, Any]) -> Iterator[tuple[Any, bool]]:
    """Lists and maps that are just long or short enough, or just not."""
    if node["type"] == "array":
        yield [], node.get("minItems", 0) == 0
        if leaf in ITEMS:
            most = node["maxItems"]
            yield [ITEMS[leaf](i) for i in range(most)], True
            yield [ITEMS[leaf](i) for i in range(most + 1)], False
    elif "additionalProperties" in node:
        most = node["maxProperties"]
        yield {f"example.com/r{i}": "1" for i in range(most)}, True
        yield {f"example.com/r{i}": "1" for i in range(most + 1)}, False
        yield {}, node.get("minProperties", 0) == 0


def _cases() -> Iterator[Any]:
    crds = build_crds()
    for plural, full in (("inferencepools", FULL_POOL), ("inferenceinstances", FULL_INSTANCE)):
        root = crds[plural]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for path, node, required in _leaves(root["properties"]["spec"], full["spec"], "spec"):
            for value, accepted in _edges(path, node):
                if not (accepted and path in ELSEWHERE):
                    shown = repr(value) if len(repr(value)) < 24 else f"{len(str(value))} letters"
                    yield pytest.param(full, path, value, accepted, id=f"{path}={shown}", marks=())
            if required:
                yield pytest.param(full, path, None, False, id=f"{path} left out")


def _set(obj: dict[str, Any], path: str, value: Any) -> None:
    """Set the field at `path`; None takes it away."""
    steps = [int(s) if s.isdigit() else s for s in re.findall(r"[^.\[\]]+", path)]
    place: Any = obj
    for step in steps[:-1]:
        place = place[step]
    if value is None:
        del place[steps[-1]]
    else:
        place[steps[-1]] = value


@pytest.fixture(scope="module")
def client(crds: Kubectl) -> Iterator[httpx.Client]:
    with crds.proxy() as url, httpx.Client(base_url=url, timeout=20) as http:
        yield http


def _try(client: httpx.Client, obj: dict[str, Any]) -> tuple[int, str]:
    plural = obj["kind"].lower() + "s"
    answer = client.post(
        f"/apis/{obj['apiVersion']}/namespaces/default/{plural}",
        params={"dryRun": "All", "fieldValidation": "Strict"},
        json=obj,
    )
    return answer.status_code, answer.json().get("message", "")


@pytest.mark.parametrize("full", [FULL_POOL, FULL_INSTANCE], ids=["pool", "instance"])
def test_object_with_every_field_is_accepted(client: httpx.Client, full: dict[str, Any]) -> None:
    assert _try(client, full) == (201, "")


@pytest.mark.parametrize(("full", "path", "value", "accepted"), list(_cases()))
def test_edge(
    client: httpx.Client, full: dict[str, Any], path: str, value: Any, *, accepted: bool
) -> None:
    obj = deepcopy(full)
    _set(obj, path, value)
    status, words = _try(client, obj)
    if accepted:
        assert (status, words) == (201, "")
    else:
        assert status == 422
        assert WORDS.sub("", path) in KEYS.sub(r".\1", WORDS.sub("", words))
    assert_read_the_same(obj, words)


def assert_read_the_same(obj: dict[str, Any], words: str) -> None:
    """Without a cluster the verdict is the same, and nothing is said that the server does not say.

    The server goes on where one field is out of its bounds, in no fixed order, and may complain of
    more; the rules that it skipped are a sentence of their own.
    """
    said: tuple[str, ...] = ()
    try:
        admit(obj)
    except Refused as refused:
        said = tuple(map(str, refused.problems))
    assert bool(said) == bool(words)
    assert [sentence for sentence in said if sentence not in words] == []
