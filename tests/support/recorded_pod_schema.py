"""The pod template's schema of a real API server, recorded for the CRD and the merge.

`kubectl get --raw /openapi/v2 | python tests/support/recorded_pod_schema.py` records it, when the
newest Kubernetes that sagepool is built for is another one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import sagepool_crds
from sagepool_crds.core_schema import pod_template

FILE = Path(sagepool_crds.__file__).parent / "pod_template.json"


def text(openapi: dict[str, Any]) -> str:
    """What the file has to hold."""
    record = {"kubernetes": openapi["info"]["version"], "schema": pod_template(openapi)}
    return json.dumps(record, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(json.load(sys.stdin)))
