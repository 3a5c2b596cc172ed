"""A key at work: admission, settling, what it tells, and that nothing is lost over a reload."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.auth.entries import KeyEntry
from sagepool_router.auth.errors import (
    ConcurrencyLimited,
    Forbidden,
    RateLimited,
    RequestsLimited,
    TokensLimited,
)
from sagepool_router.auth.keys import ApiKey
from sagepool_router.auth.limits import KeyLimits

SECRET = "sk-0123456789abcdef"


def entry(
    requests: float | None = None,
    tokens: float | None = None,
    concurrency: int | None = None,
    models: frozenset[str] | None = None,
) -> KeyEntry:
    limits = KeyLimits(requests, tokens, concurrency)
    return KeyEntry("alice", (SECRET,), limits=limits, models=models)


def key(
    requests: float | None = None,
    tokens: float | None = None,
    concurrency: int | None = None,
    models: frozenset[str] | None = None,
    share: float = 1.0,
) -> ApiKey:
    return ApiKey(entry(requests, tokens, concurrency, models), share, 0.0)


def lines(alice: ApiKey, now: float) -> list[str]:
    return alice.answer_fields(now).decode().splitlines()


def test_a_key_without_limits_is_always_admitted() -> None:
    alice = key()
    for _ in range(10_000):
        alice.admit("any", 10**9, 0.0)
    assert alice.usage.in_flight == 10_000
    assert alice.answer_fields(0.0) == b""


def test_other_models_are_refused_and_the_allowed_ones_named() -> None:
    alice = key(models=frozenset(("b", "a")))
    alice.admit("a", 1, 0.0)
    with pytest.raises(Forbidden) as caught:
        alice.admit("c", 1, 0.0)
    assert caught.value.status == 403
    assert json.loads(caught.value.body())["error"] == {
        "message": "API key alice may not use model 'c'; its models: a, b",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_allowed",
    }
    assert alice.usage.rejected == {"model": 1}
    assert (alice.allows("a"), alice.allows("c")) == (True, False)


def test_a_long_list_of_models_is_cut_short() -> None:
    alice = key(models=frozenset(f"m{n:03}" for n in range(60)))
    with pytest.raises(Forbidden, match=r"m049 and 10 more$"):
        alice.admit("c", 1, 0.0)


def test_requests_above_the_limit_are_told_the_exact_wait() -> None:
    alice = key(requests=8)
    for _ in range(8):
        alice.admit("m", 1, 100.0)
    with pytest.raises(RequestsLimited) as caught:
        alice.admit("m", 1, 101.25)
    error = caught.value
    assert error.wait_s == pytest.approx(6.25, abs=1e-5)
    assert error.status == 429
    assert json.loads(error.body())["error"] == {
        "message": "API key alice is at its limit of 8 requests a minute; try again in 6251 ms",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert error.headers == {
        "retry-after": "7",
        "retry-after-ms": "6251",
        "x-ratelimit-limit-requests": "8",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "58.750s",
    }
    assert alice.usage.rejected == {"requests": 1}


def test_tokens_above_the_limit_are_told_the_exact_wait() -> None:
    alice = key(tokens=600)
    alice.admit("m", 500, 0.0)
    with pytest.raises(
        TokensLimited, match=r"600 tokens a minute \(this request: about 200\)"
    ) as e:
        alice.admit("m", 200, 0.0)
    assert e.value.wait_s == pytest.approx(10, abs=1e-5)
    assert e.value.type == "tokens"


def test_requests_at_a_time_are_limited() -> None:
    alice = key(concurrency=2)
    alice.admit("m", 1, 0.0)
    alice.admit("m", 1, 0.0)
    with pytest.raises(ConcurrencyLimited) as caught:
        alice.admit("m", 1, 0.0)
    assert caught.value.headers == {"retry-after": "1", "retry-after-ms": "1000"}
    alice.settle(1, 1, 0, 0.0)
    alice.admit("m", 1, 0.0)


def test_of_several_limits_the_longest_wait_is_told() -> None:
    alice = key(requests=2, tokens=60, concurrency=1)
    alice.admit("m", 40, 0.0)
    with pytest.raises(ConcurrencyLimited):
        alice.admit("m", 1, 0.0)
    with pytest.raises(TokensLimited):
        alice.admit("m", 60, 0.0)
    alice.settle(40, None, None, 0.0)
    alice.admit("m", 1, 0.0)
    with pytest.raises(RequestsLimited):
        alice.admit("m", 30, 0.0)
    assert alice.usage.rejected == {"concurrency": 1, "tokens": 1, "requests": 1}


def test_a_refused_request_costs_nothing() -> None:
    alice = key(requests=10, tokens=100)
    alice.admit("m", 90, 0.0)
    before = alice.answer_fields(0.0)
    for _ in range(5):
        with pytest.raises(TokensLimited):
            alice.admit("m", 20, 0.0)
    assert alice.answer_fields(0.0) == before
    assert (alice.usage.requests, alice.usage.in_flight) == (1, 1)


@pytest.mark.parametrize(
    ("prompt", "completion", "left", "counted"),
    [
        (10, 20, 970, (10, 20)),
        (300, 200, 500, (300, 200)),
        (0, 0, 1000, (0, 0)),
        (50, None, 950, (50, 0)),
        (None, 50, 950, (0, 50)),
        (None, None, 900, (0, 0)),
    ],
)
def test_the_charge_follows_what_the_engine_reports(
    prompt: int | None, completion: int | None, left: int, counted: tuple[int, int]
) -> None:
    alice = key(tokens=1000)
    alice.admit("m", 100, 0.0)
    alice.settle(100, prompt, completion, 0.0)
    assert f"x-ratelimit-remaining-tokens: {left}" in lines(alice, 0.0)
    assert (alice.usage.prompt_tokens, alice.usage.completion_tokens) == counted
    assert alice.usage.in_flight == 0


def test_a_long_answer_is_charged_when_it_ends() -> None:
    alice = key(tokens=1000)
    alice.admit("m", 100, 0.0)
    alice.settle(100, 100, 1900, 600.0)
    with pytest.raises(TokensLimited) as caught:
        alice.admit("m", 100, 600.0)
    assert caught.value.wait_s == pytest.approx(60, abs=1e-4)


def test_answers_tell_the_state_of_the_limits_that_are_set() -> None:
    alice = key(requests=3, tokens=6000)
    assert lines(alice, 0.0) == [
        "x-ratelimit-limit-requests: 3",
        "x-ratelimit-remaining-requests: 3",
        "x-ratelimit-reset-requests: 0ms",
        "x-ratelimit-limit-tokens: 6000",
        "x-ratelimit-remaining-tokens: 6000",
        "x-ratelimit-reset-tokens: 0ms",
    ]
    alice.admit("m", 50, 0.0)
    assert lines(alice, 0.25)[1:] == [
        "x-ratelimit-remaining-requests: 2",
        "x-ratelimit-reset-requests: 19.750s",
        "x-ratelimit-limit-tokens: 6000",
        "x-ratelimit-remaining-tokens: 5975",
        "x-ratelimit-reset-tokens: 250ms",
    ]
    alice.settle(50, 50, 9000, 0.25)
    assert lines(alice, 0.25)[-1] == "x-ratelimit-reset-tokens: 1m30.250s"


def test_another_router_takes_its_share_at_once() -> None:
    alice = key(requests=100, concurrency=3)
    for _ in range(40):
        alice.admit("m", 1, 0.0)
        alice.settle(1, 1, 0, 0.0)
    alice.keep_to(0.5, 0.0)
    assert lines(alice, 0.0)[:2] == [
        "x-ratelimit-limit-requests: 50",
        "x-ratelimit-remaining-requests: 10",
    ]
    alice.admit("m", 1, 0.0)
    with pytest.raises(ConcurrencyLimited, match="3 requests at a time"):
        alice.admit("m", 1, 0.0)


def test_a_share_below_one_request_still_lets_one_in_at_a_time() -> None:
    alice = key(requests=1, share=0.25)
    alice.admit("m", 1, 0.0)
    with pytest.raises(RequestsLimited) as caught:
        alice.admit("m", 1, 0.0)
    assert caught.value.wait_s == pytest.approx(240, abs=1e-4)
    assert caught.value.headers["x-ratelimit-limit-requests"] == "1"


class Client:
    """Does to a key what hypothesis says and checks it all the while."""

    def __init__(self, alice: ApiKey, concurrency: int) -> None:
        self.alice = alice
        self.concurrency = concurrency
        self.now = 0.0
        self.open: list[int] = []
        self.admitted: list[float] = []
        self.refused = 0

    def ask(self, tokens: int, is_patient: bool) -> None:
        """A patient client waits as it is told, by the header that clients read, and asks again."""
        try:
            self._admit(tokens)
        except ConcurrencyLimited:
            self.refused += 1
        except RateLimited as error:
            self.refused += 1
            if is_patient:
                if len(self.open) == self.concurrency:
                    self.end(None)
                self.now += int(error.headers["retry-after-ms"]) / 1000
                self._admit(tokens)

    def _admit(self, tokens: int) -> None:
        self.alice.admit("m", tokens, self.now)
        self.open.append(tokens)
        self.admitted.append(self.now)

    def end(self, actual: int | None) -> None:
        if self.open:
            self.alice.settle(self.open.pop(0), actual, None, self.now)


@given(
    steps=st.lists(
        st.tuples(
            st.floats(0, 3),
            st.sampled_from(("ask", "wait", "end")),
            st.integers(0, 80),
            st.none() | st.integers(0, 200),
        ),
        max_size=120,
    ),
    requests=st.integers(1, 20),
    tokens=st.integers(1, 300),
    concurrency=st.integers(1, 8),
)
def test_any_sequence_keeps_the_limits_the_told_waits_and_the_count(
    steps: list[tuple[float, str, int, int | None]], requests: int, tokens: int, concurrency: int
) -> None:
    client = Client(key(requests, tokens, concurrency), concurrency)
    for pause, what, size, actual in steps:
        client.now += pause
        if what == "end":
            client.end(actual)
        else:
            client.ask(size, is_patient=what == "wait")
        usage = client.alice.usage
        assert usage.in_flight == len(client.open) <= concurrency
        assert usage.requests == len(client.admitted)
        assert sum(usage.rejected.values()) == client.refused
    for start in client.admitted:
        within = sum(start <= moment <= start + 60 for moment in client.admitted)
        assert within <= 2 * requests
    while client.open:
        client.end(None)
    assert client.alice.usage.in_flight == 0
