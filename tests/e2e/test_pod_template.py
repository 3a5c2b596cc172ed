"""A group's podTemplate: in its pods, rolled when it changes, explained when it is wrong."""

from typing import Any

from e2e_pool import Pool, build_chat_group, build_pool


def patched(**spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"team": "search"}},
        "spec": {
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "containers": [
                {
                    "name": "engine",
                    "env": [{"name": "COLOUR", "value": "blue"}],
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                }
            ],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1024Mi"}}],
            **spec,
        },
    }
    return build_pool(build_chat_group(podTemplate=template))


def the_engine(pool: Pool) -> dict[str, Any]:
    (pod,) = pool.engines("chat").values()
    return pod


def test_is_in_the_pods_and_rolls_them_when_it_changes_and_only_then(own_pool: Pool) -> None:
    own_pool.apply(patched())
    own_pool.wait_ready()
    first = the_engine(own_pool)
    assert first["metadata"]["labels"]["team"] == "search"
    assert first["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    (engine,) = first["spec"]["containers"]
    assert {"name": "COLOUR", "value": "blue"} in engine["env"]
    assert "/scratch" in {mount["mountPath"] for mount in engine["volumeMounts"]}

    own_pool.apply(patched(nodeSelector={"kubernetes.io/os": "linux"}))
    own_pool.kubectl.run("annotate", "spool/rag", "example.com/note=x")
    own_pool.wait_ready()
    assert the_engine(own_pool)["metadata"]["uid"] == first["metadata"]["uid"]

    own_pool.apply(patched(nodeSelector={"kubernetes.io/arch": "amd64"}))
    own_pool.wait(
        lambda: (
            [pod["spec"]["nodeSelector"] for pod in own_pool.engines("chat").values()]
            == [{"kubernetes.io/arch": "amd64"}]
        ),
        "the pod is not replaced",
        limit_s=120,
    )
    own_pool.wait_ready()


def test_what_no_pod_can_be_is_said_and_the_engines_go_on(own_pool: Pool) -> None:
    own_pool.apply(patched())
    own_pool.wait_ready()
    before = the_engine(own_pool)["metadata"]["uid"]
    own_pool.apply(patched(volumes=[]))
    own_pool.wait(
        lambda: "spec.template.spec.containers[0].volumeMounts" in own_pool.describe(),
        "the refusal is not told",
    )
    assert the_engine(own_pool)["metadata"]["uid"] == before
    own_pool.apply(patched())
    own_pool.wait_ready()
    assert the_engine(own_pool)["metadata"]["uid"] == before
