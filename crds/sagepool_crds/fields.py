"""Texts and numbers of a form that fields of both kinds share, and references to keys."""

from typing import Annotated, Final, TypeAlias

from pydantic import Field, StringConstraints

from sagepool_crds.markers import says
from sagepool_crds.meta import ApiModel

Name: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/:-]*)$"),
    Field(
        json_schema_extra=says(
            "a model's name starts with a letter or digit; letters, digits and . _ / : - follow"
        )
    ),
]
"""A model's name as clients send it."""
LabelName: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=20, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$"),
    Field(
        json_schema_extra=says(
            "a group's name becomes part of pod names: use lower-case letters, digits and hyphens, "
            "with a letter first and no hyphen last"
        )
    ),
]
ObjectName: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
    Field(
        json_schema_extra=says(
            "names of objects have lower-case letters, digits, hyphens and dots only, "
            "with a letter or digit first and last"
        )
    ),
]
DeviceName: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
    Field(
        json_schema_extra=says(
            "a device's name has lower-case letters, digits and hyphens only, "
            "with a letter or digit first and last"
        )
    ),
]
Key: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$"),
    Field(json_schema_extra=says("keys have letters, digits and - _ . only")),
]
Port: TypeAlias = Annotated[int, Field(ge=1, le=65535)]
Quantity: TypeAlias = Annotated[
    str,
    StringConstraints(
        max_length=32,
        pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
    ),
    Field(
        json_schema_extra=says(
            "write a quantity of Kubernetes as a text, for example '500m', '2' or '1Gi'"
        )
    ),
]
Price: TypeAlias = Annotated[float, Field(ge=0, le=1_000_000)]
"""In the currency of the user's choice, the same throughout a pool."""

_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = rf"{_LABEL}(\.{_LABEL})*\.?"
"""A name that can be asked for (RFC 1123), or an IPv4 address."""
URL_PATTERN: Final = rf"^https?://({_HOST}|\[[0-9A-Fa-f:.]+\])(:{_PORT})?(/[A-Za-z0-9._~/-]*)?$"
"""An address without user, query and fragment."""


class KeyReference(ApiModel):
    """One key of a Secret or ConfigMap in the pool's namespace."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: Key
    """The key in it."""
