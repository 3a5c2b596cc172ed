"""What containers are given."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from sagepool_crds.fields import Quantity
from sagepool_crds.meta import ApiModel


class Resources(ApiModel):
    """Resource requests and limits of a container."""

    requests: Mapping[Annotated[str, StringConstraints(max_length=253)], Quantity] = Field(
        default_factory=dict, max_length=16
    )
    """What the scheduler sets aside."""
    limits: Mapping[Annotated[str, StringConstraints(max_length=253)], Quantity] = Field(
        default_factory=dict, max_length=16
    )
    """What the container may take at most."""
