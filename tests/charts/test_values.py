"""The chart's values: defaults, and the refusal of what is wrong."""

from typing import Any

import pytest
import yaml

from chart_render import CHART, HelmError, render
from sagepool_crds.values import ChartValues, values_schema_json


def test_the_values_file_holds_the_defaults_of_the_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values == ChartValues().model_dump(mode="json", by_alias=True)


def test_the_schema_is_the_one_of_the_package() -> None:
    assert (CHART / "values.schema.json").read_text() == values_schema_json()


def test_every_value_is_explained() -> None:
    """Each key of values.yaml has a comment above it, or is one of those named here."""
    plain = {"image", "repository", "pullPolicy", "crds", "operator", "userRoles", "defaultImages"}
    plain |= {"resources", "requests", "limits", "cpu", "memory", "nodeSelector", "tolerations"}
    plain |= {"affinity", "priorityClassName", "podAnnotations", "podLabels", "vllm", "teiCpu"}
    plain |= {"nameOverride", "fullnameOverride"}
    above = ""
    for line in (CHART / "values.yaml").read_text().splitlines():
        key = line.strip().partition(":")[0]
        if key and not key.startswith("#"):
            assert above.startswith("#") or key in plain, f"{key} has no comment"
        above = line.strip()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"operater": {}}, "operater"),
        ({"operator.logLevl": "info"}, "logLevl"),
        ({"image.pullpolicy": "Always"}, "pullpolicy"),
        ({"crds.keeep": True}, "keeep"),
        ({"operator.resources.request": {}}, "request"),
        ({"operator.logLevel": "verbose"}, "operator/logLevel"),
        ({"operator.scope": "namespaces"}, "operator/scope"),
        ({"operator.replicas": 0}, "operator/replicas"),
        ({"image.pullPolicy": "Sometimes"}, "image/pullPolicy"),
        ({"image.repository": ""}, "image/repository"),
        ({"image.tag": 1.10}, "image/tag"),
        ({"crds.enabled": "yes"}, "crds/enabled"),
        ({"imagePullSecrets": ["registry"]}, "imagePullSecrets/0"),
        ({"operator.resources": {"limits": {"memory": "lots"}}}, "operator/resources"),
        ({"operator.extraEnv": [{"name": "A", "value": 1}]}, "operator/extraEnv/0/value"),
        ({"operator.nodeSelector": []}, "operator/nodeSelector"),
        ({"fullnameOverride": "x" * 41}, "fullnameOverride"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(HelmError) as refusal:
        render(values)
    assert words in str(refusal.value).replace(".", "/")
