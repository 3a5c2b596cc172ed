"""Which embedding space a pool serves a model in, and who is in another one."""

from typing import Any

import pytest

from crd_objects import group_object, pool_object
from sagepool_crds.pool import InferencePool
from sagepool_crds.space import ModelSpace
from sagepool_engines.space import describe_space
from sagepool_operator.spaces import Speaker, agree_on_spaces, tell_strange

OLD, NEW = describe_space([0.6, 0.8, 0.0]), describe_space([0.8, -0.6, 0.0])
V1, V2 = "hf://BAAI/bge-m3@v1", "hf://BAAI/bge-m3@v2"


def pool(revision: str = "v1", recorded: ModelSpace | None = None) -> InferencePool:
    """A pool that serves bge-m3 from the hub at this revision."""
    model = {"name": "bge-m3", "uri": "hf://BAAI/bge-m3", "revision": revision}
    group = group_object(name="embed", role="embedding", engine={"type": "vllm"}, model=model)
    obj: dict[str, Any] = pool_object(groups=[group])
    if recorded is not None:
        status = {"name": "bge-m3", "role": "embedding", "ready": 0, "desired": 1}
        obj["status"] = {"models": [{**status, "space": recorded.to_object()}]}
    return InferencePool.from_object(obj)


def in_record(space: Any, source: str = V1) -> ModelSpace:
    return ModelSpace(**space.model_dump(), source=source)


def speaker(
    space: Any, name: str = "a", source: str = V1, *, is_ready: bool = True, model: str = "bge-m3"
) -> Speaker:
    return Speaker(name, (model,), space, source, is_ready)


@pytest.mark.parametrize(
    ("revision", "recorded", "speakers", "agreed"),
    [
        pytest.param("v1", None, [], None, id="nothing is known"),
        pytest.param("v1", None, [speaker(OLD)], in_record(OLD), id="the first one counts"),
        pytest.param(
            "v1",
            None,
            [speaker(NEW, "a", is_ready=False), speaker(OLD, "b")],
            in_record(OLD),
            id="who serves already goes before who is new",
        ),
        pytest.param("v1", in_record(OLD), [], in_record(OLD), id="it outlives all pods"),
        pytest.param(
            "v1", in_record(OLD), [speaker(NEW)], in_record(OLD), id="the same weights changed"
        ),
        pytest.param(
            "v2",
            in_record(OLD),
            [speaker(OLD), speaker(NEW, "b", V2)],
            in_record(OLD),
            id="a rollout to other weights while the old ones serve",
        ),
        pytest.param(
            "v2",
            in_record(OLD),
            [speaker(NEW, "b", V2)],
            in_record(NEW, V2),
            id="other weights when none of the old ones is left",
        ),
        pytest.param(
            "v2",
            in_record(OLD),
            [speaker(OLD), speaker(OLD, "b", V2)],
            in_record(OLD, V2),
            id="other weights that make the same space take it over",
        ),
        pytest.param(
            "v1",
            None,
            [speaker(NEW, source="")],
            in_record(NEW, ""),
            id="an engine elsewhere may be the first",
        ),
    ],
)
def test_pool_agrees_on_a_space(
    revision: str, recorded: ModelSpace | None, speakers: list[Speaker], agreed: ModelSpace | None
) -> None:
    found = agree_on_spaces(pool(revision, recorded), speakers)
    assert found == ({} if agreed is None else {"bge-m3": agreed})


def test_each_model_has_a_space_of_its_own() -> None:
    both = [speaker(OLD), speaker(NEW, "b", "", model="minilm")]
    found = agree_on_spaces(pool(), both)
    assert found == {"bge-m3": in_record(OLD), "minilm": in_record(NEW, "")}
    assert [tell_strange(one, found) for one in both] == ["", ""]


def test_whoever_is_in_another_space_is_told_what_differs_and_the_way_out() -> None:
    agreed = {"bge-m3": in_record(OLD)}
    assert tell_strange(speaker(OLD), agreed) == ""
    words = tell_strange(speaker(NEW), agreed)
    assert words.startswith("model bge-m3 is in another embedding space than the one")
    assert "points elsewhere" in words
    assert "serve it under another model name" in words


def test_other_weights_are_named_with_the_way_to_go_over_to_them() -> None:
    words = tell_strange(speaker(NEW, source=V2), {"bge-m3": in_record(OLD)})
    assert f"serve {V2} (was {V1}) under another model name" in words
    assert "replicas to 0 and back" in words


def test_model_of_which_nothing_is_known_refuses_nobody() -> None:
    assert tell_strange(speaker(NEW), {}) == ""
