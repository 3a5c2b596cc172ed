"""Every limit of the request path in one frozen object."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How long the router waits and how much it holds.

    Waits are checked by one sweep per process, so each is met within one `sweep_tick_s`.
    Times are in seconds, sizes in bytes.
    """

    connect_s: float = 2.0
    """Opening a connection to an engine."""
    first_byte_s: float = 300.0
    """From sending a request to the first byte of its answer: queueing and prefill are in it."""
    gap_s: float = 60.0
    """Between two reads of an answer that has begun."""
    total_s: float = 3600.0
    """From the head of a request to the end of its answer."""
    stall_s: float = 30.0
    """A client that does not read its answer while its buffers are full."""
    header_s: float = 10.0
    """From the first byte of a request's head to its end."""
    upload_s: float = 30.0
    """From the end of a request's head to the end of its body; from its beginning for requests
    that the application answers."""
    keepalive_s: float = 75.0
    """A client's connection between two requests."""
    farewell_s: float = 1.0
    """The same while the router stops. A connection in use is told with its next answer that it
    ends; closed in the moment in which a request is sent on it, it would lose the request."""
    linger_s: float = 1.0
    """Reading on after an early error, so that the client sees the error and not a reset."""
    linger_bytes: int = 1 << 20
    """How much of an unwanted body is read on after an early error."""
    pool_idle_s: float = 4.0
    """An idle connection to an engine; below vLLM's own limit of 5 s."""
    max_head_bytes: int = 32 << 10
    """A request's line and header fields."""
    max_answer_head_bytes: int = 64 << 10
    """The header fields of an engine's answer."""
    max_body_bytes: int = 32 << 20
    """One request's body."""
    body_budget_bytes: int = 512 << 20
    """All bodies held at a time: a body is kept until its answer begins, for retries. What is
    copied of embeddings to merge them counts too: up to three times a body."""
    held_bytes: int = 64 << 10
    """How much of a stream is held back while its first event is incomplete."""
    max_batch_answer_bytes: int = 256 << 20
    """An engine's answer to a merged embedding call, which is read whole."""
    max_inflight: int = 20_000
    """Requests under way in this process."""
    max_pipelined: int = 4
    """Requests queued on one client connection before it is no longer read from."""
    retry_after_s: float = 1.0
    """What a client is told to wait when every instance is at its limit."""
    absence_retry_after_s: float = 5.0
    """What a client is told to wait when a model has no instance."""
    eject_s: float = 1.0
    """How long a backend that failed is left out at first; doubled with each failure after it."""
    eject_max_s: float = 10.0
    """The longest that a backend is left out before it is tried again."""
    sweep_tick_s: float = 0.25
    """How often limits are checked."""
