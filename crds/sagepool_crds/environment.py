"""Environment variables of an engine's container."""

from pydantic import ConfigDict, Field

from sagepool_crds.fields import KeyReference
from sagepool_crds.markers import Rule, rules, says
from sagepool_crds.meta import ApiModel


class FieldReference(ApiModel):
    """A field of the pod."""

    field_path: str = Field(min_length=1, max_length=253)
    """Path of the field, for example `status.podIP`."""


class EnvVarSource(ApiModel):
    """Where the value of a variable comes from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)]"
                ".filter(x, x).size() == 1",
                "set exactly one of secretKeyRef, configMapKeyRef and fieldRef",
            )
        )
    )

    secret_key_ref: KeyReference | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyReference | None = None
    """A key of a ConfigMap."""
    field_ref: FieldReference | None = None
    """A field of the pod."""


class EnvVar(ApiModel):
    """An environment variable of the engine's container."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!(has(self.value) && has(self.valueFrom))",
                "set value or valueFrom, not both: remove one",
            )
        )
    )

    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$",
        json_schema_extra=says(
            "names of variables have letters, digits and - _ . only, and no digit first"
        ),
    )
    """Name of the variable."""
    value: str | None = Field(default=None, max_length=8192)
    """Its value, literally."""
    value_from: EnvVarSource | None = None
    """Where its value comes from instead."""
