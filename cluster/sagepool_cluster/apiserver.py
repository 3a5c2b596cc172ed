"""A few questions to the API server, by the standard library alone."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import cast


class ApiServer:
    """Asks as the administrator; certificates come from the cluster's PKI folder."""

    def __init__(self, server: str, pki: Path) -> None:
        """Read the certificates; raises OSError when they are not there."""
        context = ssl.create_default_context(cafile=pki / "ca.crt")
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        # A proxy for the Internet has no way to a cluster on this machine.
        no_proxy = urllib.request.ProxyHandler({})
        self._opener = urllib.request.build_opener(
            no_proxy, urllib.request.HTTPSHandler(context=context)
        )
        self._server = server

    def is_ready(self) -> bool:
        """Whether the API server says that it is ready."""
        return self._get("/readyz") is not None

    def node_is_ready(self, name: str) -> bool:
        """Whether the node exists and is Ready."""
        return self._has_condition(f"/api/v1/nodes/{name}", "Ready")

    def deployment_is_available(self, namespace: str, name: str) -> bool:
        """Whether the Deployment exists and is Available."""
        return self._has_condition(
            f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}", "Available"
        )

    def _has_condition(self, path: str, kind: str) -> bool:
        body = self._get(path)
        if body is None:
            return False
        status = cast("dict[str, list[dict[str, str]]]", json.loads(body).get("status", {}))
        conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
        return conditions.get(kind) == "True"

    def _get(self, path: str) -> bytes | None:
        try:
            with self._opener.open(self._server + path, timeout=2) as response:
                return cast("bytes", response.read())
        except (urllib.error.URLError, OSError):
            return None
