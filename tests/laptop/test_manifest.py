"""A pool file is read as a cluster would read it, and its mistakes are sentences."""

from pathlib import Path

import pytest
import yaml

from crd_objects import instance_object, pool_object
from sagepool.laptop.errors import NothingFound, WrongUse
from sagepool.laptop.manifest import choose_pool, read_objects


def write(path: Path, *objects: object) -> Path:
    path.write_text(yaml.safe_dump_all(objects))
    return path


def test_the_objects_have_the_cluster_s_defaults(tmp_path: Path) -> None:
    pool, instance = read_objects(write(tmp_path / "p", pool_object(), None, instance_object()))
    assert pool["spec"]["scheduling"]["policy"] == "hybrid"
    assert instance["spec"]["drain"] is False


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("groups: [", "is not YAML: line "),
        ("- a list", "document 1 is not an object"),
        ("kind: Pod\napiVersion: v1", "Pod of v1: write InferencePool or InferenceInstance"),
        (
            "kind: InferencePool\nkind: InferencePool",
            "line 2, column 1: the key 'kind' comes twice",
        ),
        (yaml.safe_dump(pool_object(source="cloud")), "spec.source: Invalid value: source cloud"),
        (yaml.safe_dump(pool_object(replica=1)), 'unknown field "spec.replica"'),
        ("\x00", "is not YAML: "),
    ],
)
def test_what_a_cluster_would_refuse_is_refused_with_the_file_s_name(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(text)
    with pytest.raises(WrongUse) as refused:
        read_objects(path)
    assert str(refused.value).startswith(str(path))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_looks_like_a_date_or_an_hour_is_text(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    pool = pool_object()
    pool["metadata"]["annotations"] = {"made": "DATE", "at": "HOUR"}
    text = yaml.safe_dump(pool)
    path.write_text(text.replace("DATE", "2026-01-01").replace("HOUR", "1:30"))
    (pool,) = read_objects(path)
    annotations = {"made": "2026-01-01", "at": "1:30"}
    assert pool["metadata"]["annotations"] == annotations
    assert choose_pool([pool], None, str(path)).pool.metadata.annotations == annotations


def test_a_file_that_is_missing_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NothingFound, match="there is no file"):
        read_objects(tmp_path / "none.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="cannot be read: Is a directory"):
        read_objects(tmp_path)


def named(name: str, namespace: str = "default") -> dict[str, object]:
    pool = pool_object()
    pool["metadata"] = {"name": name, "namespace": namespace}
    return pool


def test_one_of_several_pools_is_chosen_by_name_whatever_its_namespace() -> None:
    objects = [named("a"), named("b", "team")]
    assert choose_pool(objects, "b", "f").pool.metadata.namespace == "team"
    with pytest.raises(WrongUse, match="f: it holds several pools"):
        choose_pool(objects, None, "f")
    with pytest.raises(WrongUse, match="it holds no InferencePool default/c"):
        choose_pool(objects, "c", "f")


def test_instances_elsewhere_come_with_their_pool() -> None:
    document = choose_pool([pool_object(), instance_object()], None, "f")
    assert [i.metadata.name for i in document.instances] == ["elsewhere"]
    with pytest.raises(WrongUse, match="belongs to pool default/other, which is not in the file"):
        choose_pool([pool_object(), instance_object(poolRef="other")], None, "f")
