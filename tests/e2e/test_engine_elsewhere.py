"""An engine that the operator has not made joins a pool."""

from typing import Any

from e2e_pool import CHAT_MODEL, Pool
from e2e_traffic import flowing_traffic
from kubectl import Kubectl
from sagepool_crds import names

NAME = "workstation"


def build_engine(image: str) -> dict[str, Any]:
    """A simulator without any of our labels."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "engine",
                    "image": image,
                    "command": ["sagepool-simulator", "serve"],
                    "args": ["--host=0.0.0.0", "--port=8000", f"--model={CHAT_MODEL}"],
                }
            ],
        },
    }


def build_instance(url: str) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.INSTANCE_KIND,
        "metadata": {"name": NAME},
        "spec": {
            "poolRef": "rag",
            "engine": "simulator",
            "endpoints": [{"role": "llm", "url": url, "models": [CHAT_MODEL]}],
        },
    }


def read_address(kubectl: Kubectl) -> str:
    return str(kubectl.get("pod", NAME)["status"].get("podIP", ""))


def test_an_engine_elsewhere_is_probed_routed_to_and_left_when_it_goes(
    pool: Pool, url: str, image: str
) -> None:
    pool.kubectl.apply(build_engine(image))
    try:
        pool.wait(lambda: read_address(pool.kubectl), "the engine has no address")
        pool.kubectl.apply(build_instance(f"http://{read_address(pool.kubectl)}:8000"))
        pool.wait(lambda: pool.phases().get(NAME) == "Ready", "it does not become Ready")
        with flowing_traffic(url) as traffic:
            traffic.wait_answers(NAME)
            pool.kubectl.run(
                "patch", "sinst", NAME, "--type=merge", '--patch={"spec":{"drain":true}}'
            )
            pool.wait(lambda: pool.phases()[NAME] == "Draining", "it does not drain")
        assert traffic.failures() == {}
        assert NAME not in pool.engines(), "the operator takes a foreign pod for its own"
        pool.kubectl.run("delete", "pod", NAME)
        pool.kubectl.run("patch", "sinst", NAME, "--type=merge", '--patch={"spec":{"drain":false}}')
        pool.wait(
            lambda: pool.phases()[NAME] not in ("Ready", "Draining"), "it is Ready though gone"
        )
    finally:
        pool.kubectl.run("delete", "sinst", NAME, "--ignore-not-found")
        pool.kubectl.run("delete", "pod", NAME, "--ignore-not-found", "--wait=false")
