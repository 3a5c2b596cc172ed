"""Where a pool keeps models, so that they are fetched once and not by every engine pod."""

from typing import Final, Literal, TypeAlias

from pydantic import ConfigDict, Field

from sagepool_crds.fields import ObjectName, Quantity
from sagepool_crds.markers import Rule, rules, says
from sagepool_crds.meta import ApiModel

CachePhase: TypeAlias = Literal["Pending", "Downloading", "Cached", "Failed"]

_SAME_CLAIM: Final = (
    "self.type == 'pvc' && oldSelf.type == 'pvc' && has(self.size) && has(oldSelf.size) && "
    "has(self.claimName) == has(oldSelf.claimName) && "
    "(!has(self.claimName) || self.claimName == oldSelf.claimName)"
)
"""One that is made by the pool, now as before."""


def _fixed(field: str) -> Rule:
    return Rule(
        f"!({_SAME_CLAIM}) || (has(self.{field}) == has(oldSelf.{field}) && "
        f"(!has(self.{field}) || self.{field} == oldSelf.{field}))",
        f"a claim's {field} cannot change: give cache.claimName another value to have a new claim",
        field_path=f".{field}",
    )


class Cache(ApiModel):
    """A volume that holds the models of the pool's engines. One Job fetches each model and
    revision; engines mount the volume read-only and wait until their model is there."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.type == 'pvc' || !(has(self.claimName) || has(self.size) || "
                "has(self.storageClassName) || has(self.accessMode))",
                "claimName, size, storageClassName and accessMode belong to type pvc: remove them, "
                "or set type to pvc",
                field_path=".type",
            ),
            Rule(
                "self.type != 'pvc' || has(self.claimName) || has(self.size)",
                "type pvc needs a claim: name one in claimName, or give a size to have one made",
                field_path=".type",
            ),
            Rule(
                "has(self.size) || !(has(self.storageClassName) || has(self.accessMode))",
                "storageClassName and accessMode are for a claim that is made: add size, or remove "
                "them to use the claim as it is",
                field_path=".size",
            ),
            Rule(
                "(self.type == 'hostPath') == has(self.path)",
                "path is the folder of type hostPath: set both, or neither",
                field_path=".path",
            ),
            Rule(
                "self.type != 'none' || self.reclaimPolicy == 'Retain'",
                "type none keeps no model: remove reclaimPolicy, or set type to pvc or hostPath",
                field_path=".reclaimPolicy",
            ),
            _fixed("storageClassName"),
            _fixed("accessMode"),
        )
    )

    type: Literal["pvc", "hostPath", "none"]
    """pvc: a PersistentVolumeClaim; hostPath: a folder that all nodes share, or that of the only
    node; none: each engine pod fetches for itself."""
    claim_name: ObjectName | None = None
    """The claim. Left out, with size: `<pool>-models`."""
    size: Quantity | None = None
    """Has the claim made, so large, when there is none of that name; raised later, it is enlarged.
    It is never deleted with the pool: that is yours to do."""
    storage_class_name: ObjectName | None = None
    """Of the claim that is made. Left out: the cluster's default."""
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] | None = None
    """Of the claim that is made. Left out: ReadWriteMany, which engines on several nodes need;
    ReadWriteOnce binds all of them to one node."""
    path: str | None = Field(
        default=None,
        max_length=512,
        pattern=r"^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$",
        json_schema_extra=says("write an absolute path, for example /mnt/models"),
    )
    """The folder on the nodes, for type hostPath. It has to be there, writable by user 65532."""
    reclaim_policy: Literal["Retain", "Delete"] = "Retain"
    """What becomes of a model that no group of the pool names any more. Retain: it stays. Delete:
    it is removed once no pod uses it, if it was fetched for this pool and no other pool wants it.
    With the pool itself nothing is removed."""


class ModelCache(ApiModel):
    """How far a model is on its way into the pool's cache."""

    phase: CachePhase
    """Pending: nothing runs yet. Failed: it is tried again; the message says what is wrong."""
    bytes: int = 0
    """Fetched and kept so far."""
    total_bytes: int = 0
    """Of the whole model; 0 while it is not known."""
    bytes_per_second: int = 0
    """Over the last seconds."""
    remaining_seconds: int | None = None
    """At this speed; left out while nothing can be said."""
    message: str = ""
    """What is wrong, and the next step; empty when nothing is."""
