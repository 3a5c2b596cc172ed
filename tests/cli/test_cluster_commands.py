"""`sage pool` and `sage instance` against a real API server; the operator is away."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from crd_objects import instance_object, pool_object
from kubectl import Kubectl
from sage_command import Ended, Sage, terminal

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

Run = Callable[..., Ended]


@pytest.fixture
def run(sage: Sage, namespace: Kubectl) -> Run:
    """`sage ...` in a namespace of the test's own."""
    there = (f"--kubeconfig={namespace.kubeconfig}", f"--namespace={namespace.namespace}")

    def run_there(words: str) -> Ended:
        return sage.run(*words.split(), *there)

    return run_there


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "pool.yaml", pool_object())


def write(path: Path, *objects: dict[str, Any]) -> Path:
    for obj in objects:
        obj["metadata"].pop("namespace", None)
    path.write_text(yaml.safe_dump_all(objects))
    return path


def spec(namespace: Kubectl) -> dict[str, Any]:
    found: dict[str, Any] = namespace.get("inferencepools.sagepool.dev", "rag")["spec"]
    return found


def set_status(namespace: Kubectl, kind: str, name: str, **status: Any) -> None:
    patch = json.dumps({"status": status})
    namespace.run("patch", kind, name, "--subresource=status", "--type=merge", f"--patch={patch}")


def test_apply_creates_changes_and_leaves_alone(run: Run, namespace: Kubectl, file: Path) -> None:
    assert run(f"pool apply -f {file}") == Ended(0, "InferencePool rag created\n", "")
    assert run(f"pool apply -f {file}") == Ended(0, "InferencePool rag unchanged\n", "")
    write(file, pool_object(source="local"))
    assert run(f"pool apply -f {file}") == Ended(0, "InferencePool rag changed\n", "")
    assert spec(namespace)["source"] == "local"


def test_a_dry_run_shows_the_difference_and_changes_nothing(
    run: Run, namespace: Kubectl, file: Path
) -> None:
    new = run(f"pool apply -f {file} --dry-run")
    assert new.code == 0
    assert new.out.startswith("--- cluster: nothing\n+++ file: InferencePool ")
    assert run("pool get rag").code == 3
    run(f"pool apply -f {file}")
    write(file, pool_object(source="local"))
    told = run(f"pool apply -f {file} --dry-run").out
    changed = [line for line in told.splitlines() if line[:1] in "+-" and line[1:2] == " "]
    assert changed == ["-  source: auto", "+  source: local"]
    assert spec(namespace)["source"] == "auto"


def test_what_the_cluster_would_refuse_is_refused_in_the_same_words(
    run: Run, namespace: Kubectl, file: Path
) -> None:
    run(f"pool apply -f {file}")
    roles = pool_object()
    roles["spec"]["groups"][1]["role"] = "llm"
    write(file, instance_object(), roles)
    ended = run(f"pool apply -f {file}")
    assert (ended.code, ended.out) == (2, "")
    # The instance before it in the file was not made either.
    assert namespace.get("inferenceinstances.sagepool.dev")["items"] == []
    with pytest.raises(AssertionError) as kubectl:
        namespace.run("apply", "-f", str(file))
    assert str(kubectl.value).partition("is invalid: ")[2].strip() in ended.err


def test_fields_of_others_are_taken_over_only_with_force(
    run: Run, namespace: Kubectl, file: Path
) -> None:
    run(f"pool apply -f {file}")
    run("pool scale rag chat=5")
    refused = run(f"pool apply -f {file}")
    assert refused.code == 1
    assert "--force takes the fields over" in refused.err
    foreseen = run(f"pool apply -f {file} --dry-run")
    assert foreseen.code == 0
    assert "-    replicas: 5\n+    replicas: 2\n" in foreseen.out
    assert foreseen.err.startswith("sage: without --force this would be refused: ")
    assert '.spec.groups[name="chat"].replicas' in foreseen.err
    assert spec(namespace)["groups"][0]["replicas"] == 5
    assert run(f"pool apply -f {file} --force").out == "InferencePool rag changed\n"
    assert spec(namespace)["groups"][0]["replicas"] == 2


def test_scale_start_stop_and_source_set_one_field(
    run: Run, namespace: Kubectl, file: Path
) -> None:
    run(f"pool apply -f {file}")
    before = spec(namespace)
    for words, field, value in (
        ("pool stop rag", "suspend", True),
        ("pool start rag", "suspend", False),
        ("pool source rag local", "source", "local"),
    ):
        assert run(words).code == 0
        assert spec(namespace)[field] == value
    assert run("pool scale rag chat=0 embed=4").out == "pool rag: chat 0, embed 4\n"
    after = spec(namespace)
    assert [group["replicas"] for group in after["groups"]] == [0, 4]
    for group in (*before["groups"], *after["groups"]):
        del group["replicas"]
    assert {**after, "source": "auto"} == before


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("pool scale rag chat", 2, "'chat' is no size: write GROUP=N"),
        ("pool scale rag chat=-1", 2, "'chat=-1' is no size"),
        ("pool scale rag chat=9999", 2, "should be less than or equal to 1024"),
        ("pool scale rag other=1", 3, "the pool has no group other: there are chat, embed"),
        ("pool source rag both", 2, "the source is 'both': write one of auto, local, cloud"),
        ("pool source rag cloud", 2, "source cloud needs a provider"),
        ("pool get other", 3, "no InferencePool other in namespace test-"),
        ("pool top other", 3, "there are rag"),
        ("pool stop other", 3, "no InferencePool other"),
        ("pool delete other", 3, "no InferencePool other"),
        ("instance drain none", 3, "no InferenceInstance none"),
        ("pool list --watch", 2, "--watch needs a terminal"),
        ("pool list --watch -o json", 2, "--watch shows a table"),
    ],
)
def test_wrong_use_is_a_sentence(run: Run, file: Path, words: str, code: int, says: str) -> None:
    run(f"pool apply -f {file}")
    ended = run(words)
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err
    assert ended.err.count("\n") == 1


def test_list_and_get_show_what_the_operator_wrote(
    sage: Sage, run: Run, namespace: Kubectl, file: Path
) -> None:
    run(f"pool apply -f {file}")
    assert run("pool list").out.split()[:8] == [
        "NAME", "READY", "MODELS", "SOURCE", "ENDPOINT", "STATUS", "AGE", "rag"
    ]  # fmt: skip
    assert "not seen by the operator yet" in run("pool get rag").out
    set_status(
        namespace,
        "inferencepools.sagepool.dev",
        "rag",
        ready="1/3",
        endpoint="http://rag-router/v1",
        conditions=[
            {
                "type": "Ready",
                "status": "False",
                "reason": "InstancesStarting",
                "message": "2 of 3 engines load",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
        groups=[{"name": "chat", "desired": 2, "ready": 1, "updated": 2, "message": "loads"}],
    )
    everywhere = sage.run("pool", "list", "-A", f"--kubeconfig={namespace.kubeconfig}")
    row = everywhere.out.splitlines()[1:]
    assert any(line.split()[:3] == [namespace.namespace, "rag", "1/3"] for line in row)
    page = run("pool get rag").out
    assert page.startswith("rag: InstancesStarting, 1/3 ready, source auto\n2 of 3 engines load\n")
    assert "chat    2         1       2         loads" in page
    plain = json.loads(run("pool get rag -o json").out)
    assert plain["status"]["ready"] == "1/3"
    assert "managedFields" not in plain["metadata"]
    assert yaml.safe_load(run("pool list -o yaml").out)[0]["metadata"]["name"] == "rag"


def test_instances_are_listed_loaded_and_drained(
    run: Run, namespace: Kubectl, tmp_path: Path
) -> None:
    run(f"pool apply -f {write(tmp_path / 'p', pool_object(), instance_object())}")
    load = {"running": 3, "waiting": 1, "kvCacheUsage": 0.25, "sampledAt": "2026-01-01T00:00:00Z"}
    set_status(
        namespace,
        "inferenceinstances.sagepool.dev",
        "elsewhere",
        phase="Ready",
        load=load,
        modelNames="qwen2.5-7b",
    )
    assert run("instance list --pool rag").out.splitlines()[1].split()[:8] == [
        "elsewhere", "rag", "-", "qwen2.5-7b", "Ready", "no", "3", "1"
    ]  # fmt: skip
    assert run("pool top rag").out.splitlines()[1].split() == [
        "elsewhere", "-", "qwen2.5-7b", "Ready", "3", "1", "0.25", "256"
    ]  # fmt: skip
    assert run("instance drain elsewhere").code == 0
    assert run("instance list").out.splitlines()[1].split()[5] == "yes"
    assert run("instance undrain elsewhere").code == 0
    assert run("instance list").out.splitlines()[1].split()[5] == "no"


def test_events_of_a_pool_and_its_instances_in_their_order(
    run: Run, namespace: Kubectl, tmp_path: Path
) -> None:
    run(f"pool apply -f {write(tmp_path / 'p', pool_object(), instance_object())}")
    for minute, kind, name in (
        (2, "InferenceInstance", "elsewhere"),
        (1, "InferencePool", "rag"),
        (3, "InferencePool", "other"),
    ):
        namespace.apply(
            {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": f"e{minute}", "namespace": namespace.namespace},
                "eventTime": f"2026-01-01T00:0{minute}:00.000000Z",
                "reportingController": "test",
                "reportingInstance": "test",
                "action": "Test",
                "reason": f"Reason{minute}",
                "type": "Normal",
                "note": f"note {minute}",
                "regarding": {"kind": kind, "name": name, "namespace": namespace.namespace},
            }
        )
    lines = run("pool events rag").out.splitlines()
    assert [line.split()[2] for line in lines] == ["TYPE", "Reason1", "Reason2"]


def test_delete_deletes(run: Run, file: Path) -> None:
    run(f"pool apply -f {file}")
    assert run("pool delete rag") == Ended(0, "pool rag is deleted\n", "")
    assert run("pool list") == Ended(0, "no pools\n", "")


def test_watch_shows_changes_until_ctrl_c(
    sage: Sage, run: Run, namespace: Kubectl, file: Path
) -> None:
    run(f"pool apply -f {file}")
    there = (f"--kubeconfig={namespace.kubeconfig}", f"--namespace={namespace.namespace}")
    with terminal(sage, "pool", "list", "--watch", *there) as screen:
        screen.read_until("auto")
        run("pool source rag local")
        screen.read_until("local")
        screen.type("\x03")
        assert screen.process.wait(10) == 130


def test_the_kubeconfig_s_namespace_is_the_default(
    sage: Sage, namespace: Kubectl, run: Run, file: Path, tmp_path: Path
) -> None:
    run(f"pool apply -f {file}")
    config = yaml.safe_load(namespace.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = namespace.namespace
    config["current-context"] = config["contexts"][0]["name"]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    there = Sage(sage.home, {"KUBECONFIG": str(path)})
    assert "rag" in there.run("pool", "list").out


@pytest.mark.parametrize("command", ["chat", "embed"])
def test_a_pool_that_cannot_be_reached_says_why(
    sage: Sage, run: Run, namespace: Kubectl, file: Path, command: str
) -> None:
    there = (f"--kubeconfig={namespace.kubeconfig}", f"--namespace={namespace.namespace}")
    absent = sage.run(command, "--pool=rag", *there, stdin="text")
    assert (absent.code, absent.out) == (3, "")
    assert absent.err.startswith("sage: no InferencePool rag in namespace ")
    run(f"pool apply -f {file}")
    unseen = sage.run(command, "--pool=rag", *there, stdin="text")
    assert (unseen.code, unseen.out) == (1, "")
    assert "the router of pool rag cannot be reached: get services" in unseen.err
    assert unseen.err.endswith("see `sage pool get rag`\n")
    assert unseen.err.count("\n") == 1
