"""The Python client in a pod finds its pool's router and talks to it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from e2e_pool import CHAT_MODEL, EMBEDDING_MODEL, Pool
from e2e_waiting import wait_until
from sagepool_crds import names

PROGRAM = """
import json, sagepool
with sagepool.UnifiedInferenceClient.create_auto() as client:
    chat = client.chat("hello", max_tokens=3, return_result=True)
    vectors = client.embed(["a", "b"], return_result=True)
    print(json.dumps({
        "llm": client.detection.llm.base_url,
        "embedding": client.detection.embedding.base_url,
        "models": [chat.model, vectors.model],
        "instances": [chat.metadata["instance"], vectors.metadata["instance"]],
        "words": len(chat.content.split()),
        "vectors": len(vectors.content),
    }))
"""


def run_in_a_pod(pool: Pool, image: str, name: str, variables: Mapping[str, str]) -> Any:
    """What the program prints in a pod of the pool's namespace."""
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", PROGRAM],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    pool.kubectl.run("delete", "pod", name, "--ignore-not-found", "--wait=true")
    pool.kubectl.apply(pod)

    def phase() -> str:
        return str(pool.kubectl.get("pod", name)["status"]["phase"])

    wait_until(lambda: phase() in ("Succeeded", "Failed"), "the client's pod does not end", 60)
    told = pool.kubectl.run("logs", name).stdout
    assert phase() == "Succeeded", told
    return json.loads(told.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("client-links", {}),
        ("client-name", {"SAGEPOOL_POOL": "rag"}),
        ("client-namespace", {"SAGEPOOL_POOL": "{namespace}/rag"}),
    ],
    ids=["by its Service's variables", "by the pool's name", "by namespace and name"],
)
def test_a_pod_finds_its_pools_router(
    pool: Pool, image: str, name: str, variables: Mapping[str, str]
) -> None:
    namespace = pool.kubectl.namespace
    service = pool.kubectl.get("service", names.router_name(pool.name))["spec"]
    address = {
        "client-links": f"http://{service['clusterIP']}:{service['ports'][0]['port']}/v1",
        "client-name": "http://rag-router/v1",
        "client-namespace": f"http://rag-router.{namespace}.svc/v1",
    }[name]
    given = {key: value.format(namespace=namespace) for key, value in variables.items()}
    said = run_in_a_pod(pool, image, name, given)
    assert (said["llm"], said["embedding"]) == (address, address)
    assert said["models"] == [CHAT_MODEL, EMBEDDING_MODEL]
    assert said["instances"][0] in pool.engines("chat")
    assert said["instances"][1] in pool.engines("embed")
    assert (said["words"], said["vectors"]) == (3, 2)
