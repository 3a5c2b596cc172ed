"""Commands of the cluster where there is none, or one without sagepool."""

from pathlib import Path

from crd_objects import pool_object
from sage_command import Sage
from sagepool.cli.pool import _scale_operations


def test_no_kubeconfig_is_a_sentence(sage: Sage, tmp_path: Path) -> None:
    nowhere = Sage(sage.home, {"HOME": str(tmp_path)})
    ended = nowhere.run("pool", "list")
    assert (ended.code, ended.out) == (2, "")
    assert "no Kubernetes cluster: this is no pod, KUBECONFIG is not set" in ended.err
    assert ended.err.count("\n") == 1


def test_a_cluster_that_does_not_answer_is_a_sentence(sage: Sage, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        'clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]\n'
        "users: [{name: u, user: {token: t}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    ended = sage.run("pool", "list", f"--kubeconfig={path}")
    assert (ended.code, ended.out) == (1, "")
    assert "list inferencepools.sagepool.dev" in ended.err
    assert "see `sage doctor`" in ended.err


def test_a_file_is_read_before_the_cluster_is_asked(sage: Sage, tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text("kind: Pod\napiVersion: v1")
    ended = sage.run("pool", "apply", f"-f{path}", "--kubeconfig=/dev/null")
    assert ended.code == 2
    assert "write InferencePool or InferenceInstance of sagepool.dev/v1alpha1" in ended.err


def test_groups_that_changed_places_are_not_scaled_by_mistake() -> None:
    assert _scale_operations(pool_object(), {"embed": 3}) == [
        {"op": "test", "path": "/spec/groups/1/name", "value": "embed"},
        {"op": "add", "path": "/spec/groups/1/replicas", "value": 3},
    ]
