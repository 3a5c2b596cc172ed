"""`kubectl describe spool` says what is wrong and what to do about it."""

from e2e_pool import EMBEDDING_MODEL, Pool, build_chat_group, build_pool
from sagepool_crds import names


def wait_told(pool: Pool, *words: str) -> str:
    """Return the description once it has all the words."""
    pool.wait(
        lambda: all(word in pool.describe() for word in words),
        f"describe does not say {' ... '.join(words)}",
    )
    return pool.describe()


def test_an_image_that_cannot_be_pulled(own_pool: Pool) -> None:
    image = "registry.invalid/no/such-engine:1"
    own_pool.apply(build_pool(build_chat_group(engine={"type": "simulator", "image": image})))
    wait_told(own_pool, image, "engine.image")
    assert own_pool.condition(names.READY)["status"] == "False"
    assert "Warning" in own_pool.describe(), "no Event says it"


def test_no_node_with_a_gpu(own_pool: Pool) -> None:
    own_pool.apply(
        build_pool(build_chat_group(gpu={"count": 1, "resourceName": "example.com/gpu"}))
    )
    wait_told(own_pool, "example.com/gpu", "device plugin")
    assert own_pool.condition(names.SCHEDULED)["status"] == "False"
    (instance,) = own_pool.instances().values()
    assert "example.com/gpu" in instance["status"]["message"]


def test_a_flag_that_the_engine_does_not_know(own_pool: Pool) -> None:
    engine = {"type": "simulator", "args": ["--no-such-flag"]}
    own_pool.apply(build_pool(build_chat_group(engine=engine)))
    wait_told(own_pool, "unrecognized arguments: --no-such-flag", "EngineCrashing")

    def is_told_by_the_instance() -> bool:
        found = own_pool.instances().values()
        return any("--no-such-flag" in one["status"].get("message", "") for one in found)

    # For a moment after each restart it is an engine that has not been asked yet.
    own_pool.wait(is_told_by_the_instance, "the instance does not tell it")


def test_a_claim_that_does_not_exist(own_pool: Pool) -> None:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "no-such-claim"}}
    own_pool.apply(build_pool(build_chat_group(podTemplate={"spec": {"volumes": [volume]}})))
    wait_told(own_pool, "no-such-claim", "create the claim that group chat mounts")
    assert own_pool.condition(names.SCHEDULED)["status"] == "False"


def test_a_model_name_that_another_role_has_taken(own_pool: Pool) -> None:
    own_pool.apply(build_pool())
    own_pool.wait_ready()
    (engine,) = own_pool.engines("embed").values()
    url = f"http://{engine['status']['podIP']}:8000"
    own_pool.kubectl.apply(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.INSTANCE_KIND,
            "metadata": {"name": "impostor"},
            "spec": {
                "poolRef": "rag",
                "engine": "simulator",
                "endpoints": [{"role": "llm", "url": url, "models": [EMBEDDING_MODEL]}],
            },
        }
    )
    wait_told(own_pool, "ModelNameTaken", "impostor", EMBEDDING_MODEL)
    assert own_pool.phases()["impostor"] == "Failed"


def test_a_service_of_that_name_that_is_not_ours(own_pool: Pool) -> None:
    own_pool.kubectl.run("create", "service", "clusterip", "rag-router", "--tcp=80:80")
    own_pool.apply(build_pool(build_chat_group()))
    wait_told(own_pool, "rag-router", "Service")
    assert own_pool.condition(names.ROUTER_READY)["status"] == "False"
    own_pool.kubectl.run("delete", "service", "rag-router")
    own_pool.wait_ready()
