"""What is wrong with an object, in the API server's words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sagepool_crds import names


@dataclass(frozen=True, slots=True)
class Problem:
    """A field and what the API server says of it."""

    path: str
    """As the server writes it, `spec.groups[0].name`; `<nil>` for the object itself."""
    words: str

    def __str__(self) -> str:
        """One item of the server's message."""
        return f"{self.path}: {self.words}"


class Refused(Exception):
    """The API server would refuse the object; the message is the one that it would answer."""

    def __init__(self, kind: str, name: str, problems: Sequence[Problem]) -> None:
        """Build the server's sentence of the problems."""
        listed = ", ".join(map(str, problems))
        if len(problems) > 1:
            listed = f"[{listed}]"
        super().__init__(f'{kind}.{names.GROUP} "{name}" is invalid: {listed}')
        self.problems = tuple(problems)

    @classmethod
    def for_unknown_fields(cls, kind: str, paths: Sequence[str]) -> Self:
        """Fields that the schema does not have, by their paths."""
        listed = ", ".join(f'unknown field "{path}"' for path in paths)
        return cls._saying(
            f'{kind} in version "{names.VERSION}" cannot be handled as a {kind}: '
            f"strict decoding error: {listed}"
        )

    @classmethod
    def of_kind(cls, kind: object, version: object) -> Self:
        """An object of another kind."""
        return cls._saying(
            f"{kind or 'an object without a kind'} of {version or 'no apiVersion'}: write "
            f"{names.POOL_KIND} or {names.INSTANCE_KIND} of {names.API_VERSION}"
        )

    @classmethod
    def _saying(cls, sentence: str) -> Self:
        refused = cls("", "", ())
        refused.args = (sentence,)
        return refused
