"""A patch over a pod template: merged as Kubernetes merges it, field by field of the schema."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crd_objects import group_object, pool_object
from kubectl import Kubectl
from operator_world import IMAGES
from sagepool_crds.admission import admit
from sagepool_crds.core_schema import INT_OR_STRING, MERGE_KEY, pod_template
from sagepool_crds.pod_template import PATCH, patch_schema, recorded
from sagepool_crds.pool import InferencePool
from sagepool_operator.builders.podpatch import merge
from sagepool_operator.builders.podspec import build_template
from sagepool_operator.drift import has_drifted
from sagepool_operator.engines.catalog import build_engine

Node = dict[str, Any]


def template(**fields: Any) -> Node:
    """The pod template of a group of vLLM on two GPUs."""
    group = group_object(
        engine={"type": "vllm", "env": [{"name": "A", "value": "1"}]},
        model={"name": "m", "uri": "hf://o/m"},
        gpu={"count": 2},
        **fields,
    )
    pool = InferencePool.from_object(admit(pool_object(groups=[group])))
    found = pool.spec.groups[0]
    return build_template(pool, found, build_engine(found, IMAGES, ""), IMAGES)


def pod(**spec: Any) -> Node:
    return {"spec": spec}


def engine(**fields: Any) -> Node:
    return pod(containers=[{"name": "engine", **fields}])


def named(items: list[Node], name: str) -> Node:
    return next(item for item in items if item["name"] == name)


PATCHES: Mapping[str, Node] = {
    "nothing": {},
    "labels and annotations": {
        "metadata": {"labels": {"team": "search"}, "annotations": {"example.com/note": "x"}}
    },
    "node selection": pod(
        nodeSelector={"gpu": "h100"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                    ]
                }
            }
        },
        topologySpreadConstraints=[
            {
                "topologyKey": "kubernetes.io/hostname",
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"team": "search"}},
            }
        ],
    ),
    "names": pod(
        runtimeClassName="nvidia",
        priorityClassName="urgent",
        serviceAccountName="engines",
        automountServiceAccountToken=True,
        schedulerName="other",
        imagePullSecrets=[{"name": "private"}],
        hostAliases=[{"ip": "10.0.0.1", "hostnames": ["hub"]}],
        dnsConfig={"options": [{"name": "ndots", "value": "1"}]},
    ),
    "env: another value, a new one, one from a Secret": engine(
        env=[
            {"name": "NEW", "value": "x"},
            {"name": "A", "value": "2"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]
    ),
    "env: one taken away": engine(env=[{"name": "A", "$patch": "delete"}]),
    "env of the engine's own": engine(env=[{"name": "Z"}], envFrom=[{"secretRef": {"name": "s"}}]),
    "resources": engine(resources={"requests": {"cpu": "4", "memory": "32Gi"}}),
    "resources in place of the former": engine(
        resources={"$patch": "replace", "limits": {"amd.com/gpu": 1}, "requests": {"cpu": 2}}
    ),
    "security context in place of the former": pod(
        securityContext={"$patch": "replace", "runAsNonRoot": True}
    ),
    "security context emptied": pod(securityContext={"$patch": "replace"}),
    "a volume more": {
        "spec": {
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "containers": [
                {"name": "engine", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
            ],
        }
    },
    "a volume of another source": pod(
        volumes=[
            {"name": "cache", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/mnt"}}
        ]
    ),
    "a volume larger": pod(volumes=[{"name": "shared-memory", "emptyDir": {"sizeLimit": "64Gi"}}]),
    "a volume taken away": pod(
        volumes=[{"name": "shared-memory", "$patch": "delete"}],
        containers=[
            {
                "name": "engine",
                "volumeMounts": [{"mountPath": "/dev/shm", "$patch": "delete"}],
            }
        ],
    ),
    "containers more, before and behind": pod(
        containers=[
            {"name": "logs", "image": "logs:1", "ports": [{"containerPort": 24224}]},
            {"name": "engine", "workingDir": "/tmp"},
            {"name": "metrics", "image": "metrics:1"},
        ],
        initContainers=[
            {"name": "tune", "image": "tune:1", "command": ["sysctl"]},
            {"name": "sidecar", "resources": {"requests": {"cpu": "10m"}}},
        ],
    ),
    "zeros, ports without names, sizes in other words": {
        "spec": {
            "hostNetwork": False,
            "shareProcessNamespace": False,
            "volumes": [{"name": "shared-memory", "emptyDir": {"sizeLimit": "65536Mi"}}],
            "containers": [
                {
                    "name": "engine",
                    "stdin": False,
                    "startupProbe": {"initialDelaySeconds": 0},
                    "volumeMounts": [{"mountPath": "/dev/shm", "readOnly": False}],
                },
                {
                    "name": "logs",
                    "image": "logs:1",
                    "ports": [{"containerPort": 1}, {"containerPort": 2, "hostPort": 0}],
                    "env": [
                        {
                            "name": "CPU",
                            "valueFrom": {
                                "resourceFieldRef": {"resource": "limits.cpu", "divisor": "1000m"}
                            },
                        }
                    ],
                },
            ],
        }
    },
    "probe times": engine(
        startupProbe={"failureThreshold": 9999}, livenessProbe={"periodSeconds": 60}
    ),
    "lists that are replaced": engine(command=["/bin/sh", "-c"], args=["vllm serve m"]),
}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_patch_is_one_that_the_crd_takes(patch: Node) -> None:
    assert template(podTemplate=patch) == merge(template(), patch)


def test_tells_items_apart_by_their_key_and_replaces_other_lists() -> None:
    spec = template(
        podTemplate=pod(
            tolerations=[{"key": "a"}],
            containers=[
                {
                    "name": "engine",
                    "env": [{"name": "A", "value": "2"}],
                    "volumeMounts": [{"mountPath": "/dev/shm", "readOnly": True}],
                    "args": ["x"],
                }
            ],
        )
    )["spec"]
    (container,) = spec["containers"]
    assert named(container["env"], "A") == {"name": "A", "value": "2"}
    assert named(container["volumeMounts"], "shared-memory")["readOnly"] is True
    assert container["args"] == ["x"]
    assert spec["tolerations"] == [{"key": "a"}]


def test_item_is_taken_away_and_fields_give_way_to_others() -> None:
    spec = merge(
        template(),
        pod(
            securityContext={"$patch": "replace", "runAsNonRoot": True},
            volumes=[
                {"name": "shared-memory", "$patch": "delete"},
                {"name": "cache", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/m"}},
            ],
        ),
    )["spec"]
    assert spec["securityContext"] == {"runAsNonRoot": True}
    assert spec["volumes"] == [{"name": "cache", "hostPath": {"path": "/m"}}]


ORDERS = [
    ("ab", "b", "ab"),
    ("ab", "a", "ab"),
    ("ab", "x", "xab"),
    ("ab", "xb", "xab"),
    ("ab", "bx", "abx"),
    ("abc", "ca", "bca"),
    ("abc", "bxc", "abxc"),
]
"""Items that were there, those of a patch, and what comes of it; a letter is an item."""


def volumes(letters: str) -> Node:
    return pod(volumes=[{"name": letter, "emptyDir": {}} for letter in letters])


@pytest.mark.parametrize(("had", "patch", "merged"), ORDERS)
def test_items_stand_in_the_order_that_the_server_gives_them(
    had: str, patch: str, merged: str
) -> None:
    assert merge(volumes(had), volumes(patch)) == volumes(merged)


def test_directive_on_something_that_is_not_there_leaves_no_trace() -> None:
    patch = pod(
        hostAliases=[{"ip": "10.0.0.1", "$patch": "delete"}],
        dnsConfig={"$patch": "replace", "searches": ["a"]},
    )
    spec = merge(template(), patch)["spec"]
    assert spec["hostAliases"] == []
    assert spec["dnsConfig"] == {"searches": ["a"]}


def test_engine_is_found_wherever_it_stands() -> None:
    """Its startup probe says how long the Deployment waits."""
    before = pod(containers=[{"name": "logs", "image": "logs:1"}])
    containers = template(podTemplate=before)["spec"]["containers"]
    assert [one["name"] for one in containers] == ["logs", "engine"]


def values(schema: Node, action: str = "") -> st.SearchStrategy[Any]:
    """What a field may hold, with few names so that items meet; `action` is for list items."""
    if schema.get(INT_OR_STRING):
        return st.sampled_from([1, "1", "2Gi"])
    if "properties" in schema:
        fields = {
            name: values(child)
            for name, child in schema["properties"].items()
            if name in ("name", "value", "env", "volumeMounts", "mountPath", "command", "volumes")
            or name in ("containers", "metadata", "labels", "spec", "emptyDir", "sizeLimit")
            or name in ("hostPath", "path", "tolerations", "key", "resources", "limits")
        }
        return st.fixed_dictionaries({}, optional=fields)
    if MERGE_KEY in schema:
        key = schema[MERGE_KEY]
        item = st.builds(lambda fields, name: {**fields, key: name}, values(schema["items"]), NAMES)
        return st.lists(item, max_size=3, unique_by=lambda one: str(one[key]))
    if schema.get("type") == "array":
        return st.lists(values(schema["items"]), max_size=2)
    if "additionalProperties" in schema:
        return st.dictionaries(NAMES, values(schema["additionalProperties"]), max_size=2)
    return {"boolean": st.booleans(), "integer": st.integers(1, 9)}.get(schema["type"], NAMES)


NAMES = st.sampled_from(["a", "b", "c"])
TEMPLATES = values(recorded())


@given(TEMPLATES, TEMPLATES)
def test_a_patch_is_in_what_it_makes_and_makes_no_more_the_second_time(
    original: Node, patch: Node
) -> None:
    kept = deepcopy((original, patch))
    once = merge(original, patch)
    assert merge(once, patch) == once
    assert merge(original, {}) == original
    assert merge({}, patch) == patch
    assert (original, patch) == kept


@given(TEMPLATES, TEMPLATES)
def test_no_item_is_lost_and_each_is_there_once(original: Node, patch: Node) -> None:
    def containers(of: Node) -> list[str]:
        return [one["name"] for one in of.get("spec", {}).get("containers", [])]

    merged = containers(merge(original, patch))
    assert sorted(merged) == sorted({*containers(original), *containers(patch)})
    # Each in its own order, as far as the other does not say another one.
    assert [name for name in merged if name in containers(patch)] == containers(patch)


def leaf_patches(schema: Node) -> Iterator[tuple[str, Any]]:
    """A patch for every field of the schema, by path; lists that are merged have one item."""
    if "properties" not in schema:
        yield "", example(schema)
        return
    for name, child in schema["properties"].items():
        items = child.get("items", {})
        if MERGE_KEY in child:
            for path, value in leaf_patches(items):
                item = {child[MERGE_KEY]: example(items["properties"][child[MERGE_KEY]]), **value}
                yield f"{name}[].{path}", {name: [item]}
        else:
            for path, value in leaf_patches(child):
                yield f"{name}.{path}", {name: value}


def example(schema: Node) -> Any:
    if schema.get(INT_OR_STRING):
        return "1"
    if "properties" in schema:
        return {name: example(child) for name, child in schema["properties"].items()}
    if schema["type"] == "array":
        return [example(schema["items"])]
    if "additionalProperties" in schema:
        return {"k": example(schema["additionalProperties"])}
    return {"boolean": True, "integer": 1, "number": 1}.get(schema["type"], "x")


def test_every_field_of_a_pod_can_be_reached() -> None:
    patches = dict(leaf_patches(recorded()))
    assert len(patches) > 500
    assert {path for path, patch in patches.items() if merge({}, patch) != patch} == set()


def test_crd_has_a_directive_nowhere_but_where_the_merge_reads_it() -> None:
    def directives(node: Node, path: str = "") -> Iterator[tuple[str, list[str]]]:
        for name, child in node.get("properties", {}).items():
            if name == PATCH:
                yield path, child["enum"]
            yield from directives(child, f"{path}.{name}")
        if "items" in node:
            yield from directives(node["items"], f"{path}[]")

    found = dict(directives(patch_schema()))
    assert found[".spec.containers[]"] == found[".spec.initContainers[]"] == ["merge"]
    assert found[".spec.containers[].env[]"] == ["delete"]
    assert found[".spec.securityContext"] == ["replace"]
    assert not {"", ".metadata", ".spec", ".spec.tolerations[]"} & found.keys()


@pytest.fixture(scope="module")
def client(crds: Kubectl) -> Iterator[httpx.Client]:
    with crds.proxy() as url, httpx.Client(base_url=url, timeout=20) as found:
        yield found


@pytest.mark.cluster
def test_recorded_schema_is_the_servers(client: httpx.Client) -> None:
    """Of a Kubernetes of another version the record may lack fields."""
    assert pod_template(client.get("/openapi/v2").json()) == recorded()


@pytest.mark.cluster
def test_merges_as_the_api_server_does(client: httpx.Client, namespace: Kubectl) -> None:
    url = f"/apis/apps/v1/namespaces/{namespace.namespace}/deployments"
    made = template()
    labels = {"app": "x"}
    made["metadata"]["labels"].update(labels)
    deployment = {
        "metadata": {"name": "x"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": made},
    }
    answer = client.post(url, json=deployment)
    assert answer.status_code == 201, answer.text
    live = client.get(f"{url}/x").json()
    dry = {"dryRun": "All", "fieldValidation": "Strict"}
    for name, patch in PATCHES.items():
        theirs = client.patch(
            f"{url}/x",
            params=dry,
            json={"spec": {"template": patch}},
            headers={"content-type": "application/strategic-merge-patch+json"},
        )
        merged = merge(live["spec"]["template"], patch)
        del live["metadata"]["resourceVersion"]
        live["metadata"].pop("managedFields", None)
        ours = client.put(
            f"{url}/x", params=dry, json={**live, "spec": {**live["spec"], "template": merged}}
        )
        assert (theirs.status_code, ours.status_code) == (200, 200), (name, theirs.text, ours.text)
        found, expected = (one.json()["spec"]["template"] for one in (ours, theirs))
        assert found == expected, name
        # What is applied is found again in what is stored: a settled pool writes nothing.
        assert not has_drifted(merge(made, patch), expected), name
        live = client.get(f"{url}/x").json()


@pytest.mark.cluster
def test_order_of_items_is_the_servers(client: httpx.Client, namespace: Kubectl) -> None:
    url = f"/apis/apps/v1/namespaces/{namespace.namespace}/deployments"
    labels = {"app": "x"}
    containers = {"containers": [{"name": "c", "image": "c:1"}]}
    for number, (had, patch, merged) in enumerate(ORDERS):
        found = {"spec": {**volumes(had)["spec"], **containers}, "metadata": {"labels": labels}}
        name = f"x{number}"
        spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": found}
        made = client.post(url, json={"metadata": {"name": name}, "spec": spec})
        assert made.status_code == 201, made.text
        patched = client.patch(
            f"{url}/{name}",
            json={"spec": {"template": volumes(patch)}},
            headers={"content-type": "application/strategic-merge-patch+json"},
        ).json()
        assert [v["name"] for v in patched["spec"]["template"]["spec"]["volumes"]] == [*merged]
