"""Asks an engine in the same pod for its metrics, only when somebody wants to know."""

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sagepool_sidecar.drain import Failure
from sagepool_sidecar.page import Load, MetricNames, read_load

_TIMEOUT_S: Final = 1.0
_MAX_PAGE_BYTES: Final = 4 << 20
FRESH_S: Final = 0.2
"""An answer is good for so long: the engine is asked no more often, whoever asks us."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer of the engine."""

    answer: Load | Failure
    taken_at: float


class Engine:
    """One engine process; may be asked from any thread.

    Args:
        host: where it listens.
        port: where it listens.
        path: of its metrics page.
        names: of the metrics that count.
        clock: seconds, monotonic.
    """

    def __init__(
        self, host: str, port: int, path: str, names: MetricNames, clock: Callable[[], float]
    ) -> None:
        self.port: Final = port
        """Tells the engines of a pod apart."""
        self._host = host
        self._path = path
        self._names = names
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Sample | None = None

    def look(self) -> Sample:
        """What it says now, or has said within the last FRESH_S; takes a few seconds at most."""
        with self._lock:
            last = self._last
            if last is None or self._clock() - last.taken_at >= FRESH_S:
                answer = self._ask()
                last = self._last = Sample(answer, self._clock())
            return last

    def _ask(self) -> Load | Failure:
        connection = http.client.HTTPConnection(self._host, self.port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", self._path)
            response = connection.getresponse()
            page = response.read(_MAX_PAGE_BYTES)
        except ConnectionRefusedError:
            return "refused"
        except (OSError, http.client.HTTPException):
            return "silent"
        finally:
            connection.close()
        if response.status != 200:
            return "silent"
        return read_load(page.decode(errors="replace"), self._names)
