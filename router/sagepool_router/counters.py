"""What the request path counts: plain integers and lists, rendered when somebody scrapes.

No locks: everything runs in one event loop.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Upper bounds of the histogram of whole requests."""
FIRST_BYTE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Upper bounds of the histogram of the time to an answer's first byte."""
QUEUE_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
"""Upper bounds of the histograms of waiting."""
BATCH_TEXTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
"""Upper bounds of the histogram of texts in a call."""
MAX_MODELS: Final = 1000
"""Models counted apart; what comes after them is counted together."""
OTHER: Final = "other"
"""Model name of what is not counted apart: no model known, or too many of them."""
CLIENT_CLOSED_REQUEST: Final = 499
"""The code of requests whose client left before the answer was complete."""
CLIENT_CLOSED: Final = "client_closed"
"""Why they were not answered."""
WORKED_FOR: Final = frozenset((CLIENT_CLOSED_REQUEST, 504))
"""Errors of requests that were left behind while an engine had them."""


class Histogram:
    """Counts by upper bound; the last count is of all that lies above the bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value` in the bucket of the lowest bound that is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ModelCounters:
    """The counts of one model in one role."""

    __slots__ = (
        "chunks",
        "cloud_cost",
        "codes",
        "completion_tokens",
        "first_byte_seconds",
        "gpu_seconds",
        "prompt_tokens",
        "refused",
        "request_seconds",
    )

    def __init__(self) -> None:
        self.codes: defaultdict[int, int] = defaultdict(int)
        """Finished requests by HTTP status; 499 when the client left."""
        self.refused: defaultdict[str, int] = defaultdict(int)
        """Those that this router refused or failed, by the code of the error."""
        self.request_seconds = Histogram(REQUEST_SECONDS)
        """Of requests that were answered with a status below 400."""
        self.first_byte_seconds = Histogram(FIRST_BYTE_SECONDS)
        """Time to the first byte of an answer's body (for streams: to the first token)."""
        self.chunks = 0
        """Reads that were passed on."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.gpu_seconds = 0.0
        """Estimated, also of answers that nobody waited for; see `Accounts._charge`."""
        self.cloud_cost = 0.0
        """What the provider took, in the currency of the pool's prices."""


class Counters:
    """All counts of one process."""

    __slots__ = (
        "_models",
        "batch_texts",
        "batch_wait_seconds",
        "client_disconnects",
        "fallbacks",
        "queue_seconds",
        "retries",
        "split_batches",
        "unrouted",
    )

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], ModelCounters] = {}
        self.unrouted = ModelCounters()
        """Requests that were refused before their model was known."""
        self.retries: dict[str, int] = {}
        """Attempts after the first, by reason: connect, reset, status and error_frame (at another
        instance), stale (once more, on a new connection), overload (waited again: it was full)."""
        self.client_disconnects = 0
        """Clients that left before their answer was complete."""
        self.fallbacks: dict[str, int] = {}
        """Requests that went to the provider, by cause: source, absent, starting, overloaded."""
        self.queue_seconds = Histogram(QUEUE_SECONDS)
        """Time in the queue of requests that had to wait there."""
        self.batch_texts = Histogram(BATCH_TEXTS)
        """Texts in an embedding call."""
        self.batch_wait_seconds = Histogram(QUEUE_SECONDS)
        """Time that the first text of an embedding call waited for the call."""
        self.split_batches = 0
        """Embedding calls that an engine refused and that were tried again in halves."""

    def of_model(self, model: str, role: str) -> ModelCounters:
        """The counts of a model, made when they are first asked for.

        Only names from the routing table may come here: they become label values.
        """
        found = self._models.get((model, role))
        if found is None:
            if len(self._models) >= MAX_MODELS:
                model = OTHER
            found = self._models.setdefault((model, role), ModelCounters())
        return found

    def by_model(self) -> Mapping[tuple[str, str], ModelCounters]:
        """Counts by (model, role); `unrouted` is not among them."""
        return self._models

    def count_retry(self, reason: str) -> None:
        """Another attempt is made for `reason`."""
        self.retries[reason] = self.retries.get(reason, 0) + 1
