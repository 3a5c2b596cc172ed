"""A pool file is taken whole or refused with a sentence that says where and why."""

import subprocess
import sys
from typing import Any

import pytest
import yaml

from crd_objects import pool_object
from crd_pod_rules import POD_RULES
from crd_rules import RULES, Rule
from router_app_objects import named_instance
from sagepool_crds.admission import Refused, admit
from sagepool_crds.meta import PoolKey
from sagepool_router.sources.document import DocumentError, read_document


def dump(*objects: Any) -> str:
    return yaml.safe_dump_all(objects)


def other_pool() -> dict[str, Any]:
    pool = pool_object()
    pool["metadata"]["name"] = "other"
    return pool


def test_a_pool_and_its_instances_are_read():
    document = read_document(dump(pool_object(), named_instance("a"), named_instance("b")), None)
    assert document.pool.metadata.name == "rag"
    assert [i.metadata.name for i in document.instances] == ["a", "b"]


def test_a_router_of_a_file_is_the_only_one_whatever_the_pool_says():
    pool = pool_object()
    pool["spec"]["router"] = {"replicas": 3}
    assert read_document(dump(pool), None).pool.spec.router.replicas == 1


def test_empty_documents_are_passed_over():
    text = "---\n" + dump(pool_object()) + "---\n"
    assert read_document(text, None).instances == ()


def test_one_of_several_pools_is_chosen_by_key():
    stray = named_instance("theirs", poolRef="other")
    text = dump(pool_object(), other_pool(), named_instance("mine"), stray)
    document = read_document(text, PoolKey("default", "other"))
    assert [i.metadata.name for i in document.instances] == ["theirs"]


def broken_url() -> dict[str, Any]:
    return named_instance("a", "http://127.0.0.1:99999")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "it is not YAML"),
        (b"\xff\xfe\xff", "it is not YAML"),
        ("", "it holds no InferencePool"),
        ("- 1", "document 1 is not an object"),
        (dump({"apiVersion": "v1", "kind": "Pod"}), "it holds Pod of v1: only InferencePool"),
        (dump(pool_object(), other_pool()), "several pools (default/rag, default/other)"),
        (dump(pool_object(), pool_object()), "two InferencePools have the same name"),
        (dump(pool_object(groups=[])), 'InferencePool.sagepool.dev "rag" is invalid: spec.groups'),
        (
            dump(pool_object(), named_instance("a", engine="gpt")),
            'InferenceInstance.sagepool.dev "a" is invalid: spec.eng',
        ),
        (dump(pool_object(), broken_url()), '"a" is invalid: spec.endpoints[0].url'),
        (dump(pool_object(replica=2)), 'strict decoding error: unknown field "spec.replica"'),
        (dump(pool_object(), named_instance("a"), named_instance("a")), "two InferenceInstances"),
        (dump(pool_object(), named_instance("a", poolRef="x")), "belongs to pool default/x"),
        (
            dump(
                pool_object(),
                named_instance("a", endpoints=[{"role": "llm", "models": ["m"]}], group="chat"),
            ),
            "has an endpoint without url",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(text: str | bytes, said: str):
    with pytest.raises(DocumentError) as caught:
        read_document(text, None)
    assert said in str(caught.value)


def test_a_pool_that_is_not_there_is_named():
    with pytest.raises(DocumentError, match="no InferencePool a/b, but default/rag"):
        read_document(dump(pool_object()), PoolKey("a", "b"))


def test_values_of_a_broken_object_are_not_told():
    secret = pool_object(groups=[{"name": "chat", "apiKey": "sk-secret"}])
    with pytest.raises(DocumentError) as caught:
        read_document(dump(secret), None)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("rule", [*RULES, *POD_RULES], ids=lambda r: r.says[:40] + "|" + r.names)
def test_what_an_api_server_refuses_is_refused_in_its_words(rule: Rule):
    with pytest.raises(Refused) as server:
        admit(rule.bad)
    with pytest.raises(DocumentError) as file:
        read_document(dump(rule.bad), None)
    assert str(file.value) == str(server.value)
    assert rule.says in str(file.value)


SEEN = """
import sys
import sagepool_router.serve, sagepool_router.sources.kubernetes
from sagepool_router.sources.document import read_document
assert "cel.cel" not in sys.modules
read_document(sys.stdin.read(), None)
asked = ("cel.cel", "prompt_toolkit", "sagepool_crds.schema")
print([name for name in asked if name in sys.modules])
"""


def test_reading_a_file_loads_the_rules_evaluator_and_nothing_around_it():
    done = subprocess.run(
        [sys.executable, "-c", SEEN],
        input=dump(pool_object()),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "['cel.cel']\n"
