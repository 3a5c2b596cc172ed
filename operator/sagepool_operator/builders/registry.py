"""How pods get an image from a registry that asks for credentials."""

from collections.abc import Sequence
from typing import Any


def credentials(secrets: Sequence[str]) -> dict[str, Any]:
    """The part of a pod's spec that names its pull secrets.

    Nothing when there are none: Kubernetes then gives the pod those of its service account.
    """
    return {"imagePullSecrets": [{"name": name} for name in secrets]} if secrets else {}
