"""The files that people copy from, as far as the models can tell without an API server."""

from pathlib import Path

import pytest
import yaml

from sagepool_crds import names
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import InferencePool

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_example_has_no_unknown_field_and_no_wrong_value(name: str) -> None:
    for obj in yaml.safe_load_all((EXAMPLES / name).read_text()):
        kind = InferencePool if obj["kind"] == names.POOL_KIND else InferenceInstance
        assert kind.from_manifest(obj).metadata.name == obj["metadata"]["name"]
