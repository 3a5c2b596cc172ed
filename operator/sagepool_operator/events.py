"""Records Kubernetes Events (events.k8s.io/v1)."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from sagepool_kube.api import EVENTS, ObjectApi
from sagepool_kube.errors import KubeError, Terminating
from sagepool_operator.plan import Event

_logger: Final = logging.getLogger(__name__)
_CONTROLLER: Final = "sagepool.dev/operator"
_MAX_NOTE: Final = 1024
"""The API server refuses longer ones."""


class Recorder:
    """Posts events. One that cannot be posted is logged and lost: it changes nothing."""

    def __init__(
        self,
        api: ObjectApi,
        reporter: str,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        """Take the API server, the name of this process, the time and a source of unique ids."""
        self._api = api
        self._reporter = reporter
        self._now = now
        self._new_id = new_id

    async def record(self, event: Event) -> None:
        """Post an event."""
        namespace = event.regarding["namespace"]
        try:
            await self._api.create(EVENTS, namespace, self._build(event))
        except Terminating:
            return  # nobody will look for it there
        except KubeError as error:
            _logger.warning(
                "could not record an event", extra={"reason": event.reason, "error": str(error)}
            )

    def _build(self, event: Event) -> dict[str, Any]:
        regarding = dict(event.regarding)
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "name": f"{regarding['name']}.{self._new_id()}",
                "namespace": regarding["namespace"],
            },
            "eventTime": self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": _CONTROLLER,
            "reportingInstance": self._reporter[:128],
            "regarding": regarding,
            "type": event.type,
            "reason": event.reason,
            "action": event.action,
            "note": event.note[:_MAX_NOTE],
        }
