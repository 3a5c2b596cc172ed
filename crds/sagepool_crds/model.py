"""What a group serves: where its weights are and under which names."""

from pydantic import ConfigDict, Field

from sagepool_crds.fields import KeyReference, Name, ObjectName
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
                "!has(self.uri) || self.uri.startsWith('hf://') || !has(self.revision)",
                "a folder of a claim or a bucket has no revisions: remove revision, and name the "
                "folder of the one that you want in uri",
                field_path=".revision",
            ),
            Rule(
                "!has(self.credentialsSecret) || (has(self.uri) && self.uri.startsWith('s3://'))",
                "credentialsSecret opens a bucket: remove it, or name a model in one, "
                "s3://BUCKET/FOLDER",
                field_path=".credentialsSecret",
            ),
        )
    )

    uri: str | None = Field(
        default=None,
        max_length=512,
        pattern=(
            r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*|"
            r"pvc://[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*|"
            r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_-][A-Za-z0-9._=+-]*)*)$"
        ),
        json_schema_extra=says(
            "write hf://OWNER/NAME, for example hf://Qwen/Qwen2.5-7B-Instruct, for a model on the "
            "Hugging Face hub, s3://BUCKET/FOLDER for one in a bucket, or pvc://CLAIM/FOLDER for "
            "one that lies on a claim"
        ),
    )
    """Where the weights are: `hf://OWNER/NAME` on the Hugging Face hub; `s3://BUCKET/FOLDER`,
    fetched into the pool's cache; or `pvc://CLAIM/FOLDER`, a folder of a claim in the pool's
    namespace, which engines mount read-only and serve it from."""
    name: Name
    """Name that clients send as `model`."""
    aliases: list[Name] = Field(default_factory=list, max_length=16, json_schema_extra=list_set())
    """Other names that clients may send for it."""
    revision: str | None = Field(default=None, min_length=1, max_length=255)
    """Branch, tag or commit on the hub. Left out: the hub's default branch."""
    token_secret: KeyReference | None = None
    """Secret with the hub's access token, for gated models."""
    credentials_secret: ObjectName | None = None
    """Secret that opens the bucket of an s3:// model: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,
    and where they are needed AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL."""

    @property
    def source(self) -> str:
        """Where the weights come from and their revision, in one word; empty without a uri."""
        if self.uri is None:
            return ""
        return f"{self.uri}@{self.revision}" if self.revision is not None else self.uri
