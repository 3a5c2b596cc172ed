"""What a group serves: where its weights are and under which names."""

from pydantic import ConfigDict, Field

from sagepool_crds.fields import KeyReference, Name
from sagepool_crds.markers import Rule, list_set, rules, says
from sagepool_crds.meta import ApiModel


class Model(ApiModel):
    """What a group serves, and under which names."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!(self.name in self.aliases)",
                "aliases repeats the model's own name: remove it there",
                field_path=".aliases",
            ),
            Rule(
                "!has(self.uri) || !self.uri.startsWith('pvc://') || !has(self.revision)",
                "a folder of a claim has no revisions: remove revision, and name the folder of the "
                "one that you want in uri",
                field_path=".revision",
            ),
        )
    )

    uri: str | None = Field(
        default=None,
        max_length=512,
        pattern=(
            r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*|"
            r"pvc://[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)$"
        ),
        json_schema_extra=says(
            "write hf://OWNER/NAME, for example hf://Qwen/Qwen2.5-7B-Instruct, for a model on the "
            "Hugging Face hub, or pvc://CLAIM/FOLDER for one that lies on a claim"
        ),
    )
    """Where the weights are: `hf://OWNER/NAME` on the Hugging Face hub, or `pvc://CLAIM/FOLDER`: a
    folder of a claim in the pool's namespace, which engines mount read-only and serve it from."""
    name: Name
    """Name that clients send as `model`."""
    aliases: list[Name] = Field(default_factory=list, max_length=16, json_schema_extra=list_set())
    """Other names that clients may send for it."""
    revision: str | None = Field(default=None, min_length=1, max_length=255)
    """Branch, tag or commit on the hub. Left out: the hub's default branch."""
    token_secret: KeyReference | None = None
    """Secret with the hub's access token, for gated models."""

    @property
    def source(self) -> str:
        """Where the weights come from and their revision, in one word; empty without a uri."""
        if self.uri is None:
            return ""
        return f"{self.uri}@{self.revision}" if self.revision is not None else self.uri
