"""What a group serves, and in which role."""

from typing import Any

import pytest

from crd_objects import group_object, mixed_group_object
from sagepool_crds.pool import Group


@pytest.mark.parametrize(
    ("group", "served"),
    [
        (group_object(model={"name": "m"}), [("llm", "m")]),
        (group_object(role="embedding", model={"name": "m"}), [("embedding", "m")]),
        (mixed_group_object(), [("llm", "small"), ("embedding", "bge")]),
    ],
    ids=["llm", "embedding", "llm_embedding"],
)
def test_each_model_is_served_in_one_role(
    group: dict[str, Any], served: list[tuple[str, str]]
) -> None:
    found = Group.model_validate(group).served
    assert [(role, model.name) for role, model in found] == served
