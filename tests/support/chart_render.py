"""The chart as `helm template` renders it."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from kubectl import find_tool

Json: TypeAlias = dict[str, Any]

CHART: Final = Path(__file__).parents[2] / "charts" / "sagepool"
RELEASE: Final = "rel"
NAMESPACE: Final = "inference"
_KUBERNETES: Final = "1.35.0"


class HelmError(Exception):
    """helm failed; the message is its output."""


def helm(*arguments: str) -> str:
    """Run helm without a cluster. Raises HelmError."""
    done = subprocess.run(
        [find_tool("helm"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise HelmError(done.stdout + done.stderr)
    return done.stdout


def render(
    values: Json | None = None, *, chart: Path = CHART, release: str = RELEASE
) -> list[Json]:
    """The objects of a release with these values. Raises HelmError."""
    settings = [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
    return [obj for obj in yaml.safe_load_all(_template(chart, release, *settings)) if obj]


@cache
def _template(chart: Path, release: str, *settings: str) -> str:
    place = (f"--namespace={NAMESPACE}", f"--kube-version={_KUBERNETES}")
    return helm("template", release, str(chart), *place, *settings)


def is_for_crds(obj: Json) -> bool:
    """Whether it is there for the update of the CustomResourceDefinitions alone."""
    labels: Json = obj["metadata"]["labels"]
    return labels.get("app.kubernetes.io/component") == "crds"


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    """Those of a kind."""
    return [obj for obj in objects if obj["kind"] == kind]


def the(objects: list[Json], kind: str) -> Json:
    """The only one of a kind."""
    (found,) = of_kind(objects, kind)
    return found


def pod_specs(objects: list[Json]) -> list[Json]:
    """The specs of all pods that a release makes, those before it and its test's too."""
    templates = [obj for kind in ("Deployment", "Job") for obj in of_kind(objects, kind)]
    pods = [obj["spec"] for obj in of_kind(objects, "Pod")]
    return pods + [obj["spec"]["template"]["spec"] for obj in templates]


def environment(objects: list[Json]) -> dict[str, str]:
    """The operator's variables; one that Kubernetes fills in has a made-up value."""
    (container,) = the(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", NAMESPACE) for item in container["env"]}
