"""A model's way into a pool's cache: real bytes from a hub in the cluster, over a kill."""

import hashlib
from random import Random
from typing import Any

import pytest

from e2e_installation import Installation
from e2e_pods import run_as_root, serve_in_pod
from e2e_pool import Pool, build_pool
from e2e_waiting import wait_until
from kubectl import Kubectl
from sagepool_crds import names
from sagepool_crds.pod_template import WAIT_CONTAINER

SIZE = 8_000_000
HELD = 3_000_000
RIGHT = hashlib.sha256(Random(7).randbytes(SIZE)).hexdigest()
HUB = f"""
import sys
from random import Random
sys.path.insert(0, "/srv")
from model_hub import HubModel, ModelHub
files = {{"config.json": b"{{}}", "model.safetensors": Random(7).randbytes({SIZE})}}
small = HubModel({{"config.json": b"{{}}"}})
models = {{"acme/tiny": HubModel(files, token="right"), "acme/a": small, "acme/b": small}}
hub = ModelHub(models, ("0.0.0.0", 8080))
hub.faults.hold_after["model.safetensors"] = {HELD}
hub.faults.hold_limit_s = 15.0
hub.serve_forever()
"""
BUCKET = f"""
import sys
from random import Random
sys.path.insert(0, "/srv")
from bucket_server import BucketServer
weights = Random(7).randbytes({SIZE})
files = {{"acme/tiny/config.json": b"{{}}", "acme/tiny/model.safetensors": weights}}
BucketServer("models", files, "right", ("0.0.0.0", 8080)).serve_forever()
"""
GROUP = {
    "name": "chat",
    "role": "llm",
    "engine": {"type": "vllm"},
    "model": {
        "name": "tiny",
        "uri": "hf://acme/tiny",
        "tokenSecret": {"name": "hub", "key": "token"},
    },
    "replicas": 1,
}


@pytest.fixture
def hub(own_pool: Pool, image: str) -> str:
    """The address of a hub in the namespace of the pool; its model wants a token."""
    kubectl = own_pool.kubectl
    kubectl.run("create", "secret", "generic", "hub", "--from-literal=token=wrong")
    return serve_in_pod(kubectl, image, "hub", "model_hub.py", HUB)


@pytest.fixture
def storage(own_pool: Pool, image: str) -> str:
    """The address of a storage in the namespace of the pool; its bucket wants a key."""
    return serve_in_pod(own_pool.kubectl, image, "storage", "bucket_server.py", BUCKET)


def downloads(pool: Pool) -> list[dict[str, Any]]:
    """Pods that fetch, which have not been told to go."""
    found = pool.kubectl.get("pod", "-l", names.DOWNLOAD_LABEL)["items"]
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


def cache_of(pool: Pool) -> dict[str, Any]:
    models = pool.get().get("status", {}).get("models", [])
    return next((model.get("cache", {}) for model in models), {})


def test_a_model_is_fetched_once_over_a_wrong_token_and_a_kill(
    installation: Installation, own_pool: Pool, image: str, volume: str, hub: str
) -> None:
    pool, kubectl = own_pool, own_pool.kubectl
    setting = "operator.extraEnv[0]"
    installation.install(f"{setting}.name=SAGEPOOL_OPERATOR_HUB", f"{setting}.value={hub}")
    try:
        cache = {"type": "pvc", "size": "1Gi", "storageClassName": volume}
        pool.apply(build_pool(GROUP, cache=cache))
        pool.wait(
            lambda: pool.condition(names.MODELS_CACHED).get("reason") == "TokenRefused",
            "a wrong token is not told",
        )
        assert "does not open acme/tiny" in pool.condition(names.READY)["message"]

        secret = {"name": "renewed", "key": "token"}
        kubectl.run("create", "secret", "generic", "renewed", "--from-literal=token=right")
        path = "/spec/groups/0/model/tokenSecret"
        pool.change({"op": "replace", "path": path, "value": secret})
        pool.wait(
            lambda: HELD <= cache_of(pool).get("bytes", 0) < SIZE, "the status tells no progress"
        )
        assert cache_of(pool)["phase"] == "Downloading"
        assert set(pool.phases().values()) == {"Downloading"}

        (running,) = [one for one in downloads(pool) if one["status"]["phase"] == "Running"]
        kubectl.run("delete", "pod", running["metadata"]["name"], "--force", "--grace-period=0")
        pool.wait(
            lambda: pool.condition(names.MODELS_CACHED).get("status") == "True",
            "the model does not come",
        )
        assert cache_of(pool)["phase"] == "Cached"
        wait_until(lambda: has_waited(pool), "the engine still waits for its model")
        assert digest_of_weights(kubectl, image, "acme--tiny--*") == RIGHT

        kubectl.run("delete", "spool", pool.name)
        wait_until(lambda: not kubectl.get("job")["items"], "the Job outlives its pool")
        assert [one["metadata"]["name"] for one in kubectl.get("pvc")["items"]] == ["rag-models"]
    finally:
        installation.install()


def test_a_model_is_fetched_from_a_bucket_with_the_keys_of_its_secret(
    own_pool: Pool, image: str, volume: str, storage: str
) -> None:
    pool, kubectl = own_pool, own_pool.kubectl

    def make_keys(name: str, key_id: str) -> None:
        said = {
            "AWS_ACCESS_KEY_ID": key_id,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL": storage,
        }
        literals = [f"--from-literal={key}={value}" for key, value in said.items()]
        kubectl.run("create", "secret", "generic", name, *literals)

    make_keys("keys", "wrong")
    model = {"name": "tiny", "uri": "s3://models/acme/tiny", "credentialsSecret": "keys"}
    cache = {"type": "pvc", "size": "1Gi", "storageClassName": volume}
    pool.apply(build_pool({**GROUP, "model": model}, cache=cache))
    pool.wait(
        lambda: pool.condition(names.MODELS_CACHED).get("reason") == "AccessDenied",
        "a wrong key is not told",
    )
    assert "InvalidAccessKeyId: correct the keys" in pool.condition(names.MODELS_CACHED)["message"]
    (engine,) = pool.engines()

    make_keys("renewed", "right")
    path = "/spec/groups/0/model/credentialsSecret"
    pool.change({"op": "replace", "path": path, "value": "renewed"})
    pool.wait(lambda: cache_of(pool).get("phase") == "Cached", "the model does not come")
    assert cache_of(pool)["bytes"] > SIZE
    wait_until(lambda: has_waited(pool), "the engine still waits for its model")
    assert [*pool.engines()] == [engine]
    assert digest_of_weights(kubectl, image, "models--acme--tiny--*") == RIGHT


def test_a_model_that_no_pool_names_any_more_is_removed(
    installation: Installation, own_pool: Pool, image: str, volume: str, hub: str
) -> None:
    pool, kubectl = own_pool, own_pool.kubectl
    setting = "operator.extraEnv[0]"
    installation.install(f"{setting}.name=SAGEPOOL_OPERATOR_HUB", f"{setting}.value={hub}")
    show = "import pathlib; print(*[p.name for p in pathlib.Path('/var/tmp').glob('acme--*')])"
    claim = {"persistentVolumeClaim": {"claimName": "rag-models"}}
    group = {**GROUP, "model": {"name": "tiny", "uri": "hf://acme/a"}, "replicas": 0}
    try:
        cache = {"type": "pvc", "size": "1Gi", "storageClassName": volume}
        pool.apply(build_pool(group, cache={**cache, "reclaimPolicy": "Delete"}))
        pool.wait(lambda: cache_of(pool).get("phase") == "Cached", "the model does not come")
        (before,) = run_as_root(kubectl, image, "before", show, claim).split()
        assert before.startswith("acme--a--")

        pool.change({"op": "replace", "path": "/spec/groups/0/model/uri", "value": "hf://acme/b"})
        wait_until(lambda: told(kubectl), "nothing is told of a removal")
        (note,) = told(kubectl)
        assert note.startswith(f"removed {before} from claim rag-models: ")
        (after,) = run_as_root(kubectl, image, "after", show, claim).split()
        assert after.startswith("acme--b--")
    finally:
        installation.install()


def digest_of_weights(kubectl: Kubectl, image: str, folder: str) -> str:
    """Of those that lie in the cache's only folder of that pattern."""
    show = (
        f"import hashlib, pathlib; (found,) = pathlib.Path('/var/tmp').glob('{folder}');"
        "print(hashlib.sha256((found / 'model.safetensors').read_bytes()).hexdigest())"
    )
    claim = {"persistentVolumeClaim": {"claimName": "rag-models"}}
    return run_as_root(kubectl, image, "show", show, claim).strip()


def told(kubectl: Kubectl) -> list[str]:
    found = kubectl.get("events.v1.events.k8s.io")["items"]
    return [one["note"] for one in found if one["reason"] == "ModelsRemoved"]


def has_waited(pool: Pool) -> bool:
    """Whether the engine pod's init container has seen the model."""
    (engine,) = pool.engines().values()
    statuses = engine["status"].get("initContainerStatuses", [])
    found = next(s["state"] for s in statuses if s["name"] == WAIT_CONTAINER)
    return bool(found.get("terminated", {}).get("exitCode", 1) == 0)
