"""The pods of a pool that answer as one endpoint."""

from typing import Literal

from pydantic import Field

from sagepool_crds.fields import ObjectName, Port
from sagepool_crds.meta import ApiModel
from sagepool_crds.resources import Resources


class Service(ApiModel):
    """The router's Service."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """How the address is published."""
    port: Port = 80
    """Port of the Service."""


class Auth(ApiModel):
    """Who may send requests."""

    api_keys_secret: ObjectName
    """Secret whose values are the keys that the router takes. Routers mount it; the operator never
    reads it."""


class Router(ApiModel):
    """The pods that answer as one OpenAI-compatible endpoint."""

    replicas: int = Field(default=2, ge=1, le=64)
    """Number of router pods."""
    auth: Auth | None = None
    """Who may send requests. Left out: everyone who reaches the Service."""
    service: Service = Field(default_factory=Service)
    """The Service in front of them."""
    resources: Resources = Field(
        default_factory=lambda: Resources(
            requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "1Gi"}
        )
    )
    """What each router pod is given."""
