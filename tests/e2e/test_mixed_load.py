"""Chat and embeddings over pure and mixed engines, while the pool's policy changes."""

import json
from typing import Any

from e2e_endpoint import reach_router
from e2e_pool import EMBEDDING_MODEL, Pool, build_chat_group, build_embedding_group, build_pool
from e2e_traffic import flowing_traffic

POLICIES = ("fifo", "priority", "slo_aware", "cost_optimized", "adaptive", "hybrid")


def build_mixed_group(**more: Any) -> dict[str, Any]:
    """An engine that serves both models on one GPU."""
    group = build_chat_group(name="mixed", role="llm_embedding")
    return {**group, "embeddingModel": {"name": EMBEDDING_MODEL}, **more}


def policy_in_use(pool: Pool) -> str:
    """Who decides for chat in the pool's router, as its admin port says."""
    pod = pool.kubectl.get("pod", "-l", "app.kubernetes.io/component=router")["items"][0]
    said = pool.kubectl.run(
        "get", "--raw", f"/api/v1/namespaces/{pool.kubectl.namespace}/pods/"
        f"{pod['metadata']['name']}:9090/proxy/admin/policy"
    ).stdout  # fmt: skip
    lanes = json.loads(said)["lanes"]
    return next((lane["policy"] for lane in lanes if lane["role"] == "llm"), "")


def test_policies_change_under_a_mixed_load_and_no_request_fails(own_pool: Pool) -> None:
    own_pool.apply(
        build_pool(
            build_chat_group(), build_embedding_group(), build_mixed_group(), name=own_pool.name
        )
    )
    own_pool.wait_ready()
    mixed = own_pool.instances()[next(iter(own_pool.engines("mixed")))]
    assert sorted(e["role"] for e in mixed["spec"]["endpoints"]) == ["embedding", "llm"]
    with (
        reach_router(own_pool.kubectl, own_pool.name) as url,
        flowing_traffic(url, clients=12) as traffic,
    ):
        for policy in POLICIES:
            own_pool.change(
                {"op": "add", "path": "/spec/scheduling/policy", "value": policy},
                {
                    "op": "add",
                    "path": "/spec/scheduling/preferSpecializedInstances",
                    "value": False,
                },
            )
            own_pool.wait(
                lambda policy=policy: policy_in_use(own_pool).startswith(policy),
                f"the router does not use {policy}",
            )
            traffic.wait_more(20)
        traffic.wait_answers(*own_pool.engines())
    assert traffic.failures() == {}
