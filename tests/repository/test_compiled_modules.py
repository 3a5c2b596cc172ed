"""What is compiled can be: mypyc takes more than it handles as Python does."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def compiled() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    sources: list[str] = hook["sources"]
    return sources


@pytest.mark.parametrize("source", compiled())
def test_a_compiled_module_has_no_class_whose_annotations_are_read(source: str) -> None:
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base) for base in node.bases}
            assert not bases & {"msgspec.Struct", "BaseModel"}, (
                f"{source}: {node.name} is decoded by its annotations, which mypyc does not keep: "
                "move it to a module that is not compiled"
            )
            slotted = [d for d in map(ast.unparse, node.decorator_list) if "slots=True" in d]
            assert not slotted, (
                f"{source}: {node.name}: mypyc cannot make the second class of slots"
            )


@pytest.mark.parametrize("source", compiled())
def test_a_generic_attribute_gets_its_none_where_the_object_is_made(source: str) -> None:
    # at class level mypyc takes None for a type variable as "not there yet"
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and line.value is not None:
                    is_none = isinstance(line.value, ast.Constant) and line.value.value is None
                    generic = any(
                        isinstance(part, ast.Name) and part.id.endswith("T") and len(part.id) > 1
                        for part in ast.walk(line.annotation)
                    )
                    assert not (is_none and generic), f"{source}: {ast.unparse(line)}"
