"""YAML as kubectl reads it. Pure."""

from collections.abc import Iterator
from typing import Any, Final

import yaml

_STRING: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "tag:yaml.org,2002:merge"
_NUMBERS: Final = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_ONLY_IN_PYYAML: Final = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")

# libyaml's loader is ten times as fast; PyYAML is sometimes built without it
_Fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Fast):  # type: ignore[misc]  # it is chosen at run time
    """No dates, no numbers to the base of 60, and a key once in a mapping."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        """The tag of a node that names none: JSON has no dates, and 1:30 is no 90."""
        tag: str = super().resolve(kind, value, implicit)
        if tag in _ONLY_IN_PYYAML or (tag in _NUMBERS and ":" in value):
            return _STRING
        return tag

    def construct_document(self, node: yaml.Node) -> object:
        """Read a document. Raises yaml.constructor.ConstructorError for a key that comes twice."""
        # before merge keys are resolved: what is merged may be overridden
        for mapping in _mappings(node):
            _refuse_twins(mapping)
        return super().construct_document(node)


def load_manifests(text: str | bytes) -> list[Any]:
    """The documents that are not empty.

    Raises:
        yaml.YAMLError: it is not YAML, or a key comes twice in a mapping.
        UnicodeDecodeError: it is no text.
    """
    return [found for found in yaml.load_all(text, Loader=_Loader) if found is not None]


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Every mapping once: an alias is the node of its anchor, which may even hold it."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            waiting.extend(value for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)


def _refuse_twins(mapping: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        if (key.tag, key.value) in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key.value!r} comes twice", key.start_mark
            )
        seen.add((key.tag, key.value))
