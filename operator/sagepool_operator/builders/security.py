"""Security contexts: ours meets Kubernetes' restricted level, engines' images do what they can."""

from typing import Any, Final

_USER: Final = 65532
"""The user of our image."""


def restricted_pod() -> dict[str, Any]:
    """For pods that run our own image."""
    return {
        **own_user(),
        "fsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def own_user() -> dict[str, Any]:
    """For containers that run our own image, in pods whose other containers may be root."""
    return {"runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER}


def restricted_container() -> dict[str, Any]:
    """For containers that run our own image."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def engine_pod() -> dict[str, Any]:
    """For engines' own images, which run as root and write beside their programs."""
    return {"seccompProfile": {"type": "RuntimeDefault"}}


def engine_container() -> dict[str, Any]:
    """For engines' own images."""
    return {"allowPrivilegeEscalation": False}
