"""What may be sent again, when, and when no more."""

import pytest

import sagepool
from sagepool.retries import Attempts, is_safe_to_repeat, read_retry_after


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def unavailable(retry_after: float | None = None, **headers: str) -> sagepool.SagepoolError:
    error = sagepool.UnavailableError("no", status=503, headers=headers)
    error.retry_after = retry_after
    return error


def attempts(
    clock: Clock | None = None, retries: int = 2, timeout_s: float = 60, random: float = 1.0
) -> Attempts:
    return Attempts(retries, timeout_s, clock or Clock(), lambda: random)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"retry-after": "3"}, 3.0),
            ({"retry-after": "0"}, 0.0),
            ({"retry-after": "1.5"}, 1.5),
            ({"retry-after-ms": "250"}, 0.25),
            ({"retry-after": "3", "retry-after-ms": "250"}, 0.25),
            ({"retry-after": "3", "retry-after-ms": "soon"}, 3.0),
            ({"retry-after": "-3"}, None),
            ({"retry-after": "inf"}, None),
            ({"retry-after": "nan"}, None),
            ({"retry-after": "tomorrow"}, None),
            ({"retry-after": ""}, None),
            ({"retry-after": "Thu, 01 Jan 1970 00:01:10 GMT"}, 10.0),
            ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ],
    )
    def test_both_headers_and_all_their_forms(
        self, headers: dict[str, str], seconds: float | None
    ) -> None:
        assert read_retry_after(headers, now=60.0) == seconds


class TestSafety:
    @pytest.mark.parametrize(
        "error",
        [
            sagepool.RateLimitError("x", status=429),
            sagepool.UnavailableError("x", status=503),
            sagepool.APIConnectionError("refused"),
            sagepool.ServerError("x", status=500, headers={"x-should-retry": "true"}),
        ],
    )
    def test_what_was_not_taken_may_be_sent_again(self, error: sagepool.SagepoolError) -> None:
        assert is_safe_to_repeat(error)

    @pytest.mark.parametrize(
        "error",
        [
            sagepool.APITimeoutError("the engine may still be at it"),
            sagepool.APITimeoutError("x", status=504),
            sagepool.ServerError("x", status=500),
            sagepool.BadRequestError("x", status=400),
            sagepool.AuthenticationError("x", status=401),
            sagepool.NotFoundError("x", status=404),
            sagepool.UnexpectedAnswerError("x"),
            sagepool.ConfigurationError("x"),
            sagepool.StreamBrokenError("x", text="half"),
            sagepool.UnavailableError("x", status=503, headers={"x-should-retry": "false"}),
        ],
    )
    def test_what_may_have_been_done_is_not(self, error: sagepool.SagepoolError) -> None:
        assert not is_safe_to_repeat(error)

    def test_a_connection_that_broke_in_the_answer_is_not(self) -> None:
        error = sagepool.APIConnectionError("broke")
        error.is_begun = True
        assert not is_safe_to_repeat(error)


class TestAttempts:
    def test_the_pause_is_the_servers(self) -> None:
        assert attempts().pause_after(unavailable(retry_after=7.25)) == 7.25

    def test_without_one_pauses_double(self) -> None:
        tries = attempts(retries=9)
        pauses = [tries.pause_after(unavailable()) for _ in range(7)]
        assert pauses == [0.5, 1, 2, 4, 8, 8, 8]

    def test_pauses_are_spread(self) -> None:
        assert attempts(random=0.0).pause_after(unavailable()) == 0.25

    def test_only_so_many_are_made(self) -> None:
        tries, error = attempts(retries=1), unavailable()
        tries.pause_after(error)
        with pytest.raises(sagepool.UnavailableError) as told:
            tries.pause_after(error)
        assert told.value is error
        assert tries.retries == 1

    def test_a_pause_longer_than_the_call_has_time_is_not_made(self) -> None:
        error = unavailable(retry_after=61)
        with pytest.raises(sagepool.UnavailableError) as told:
            attempts(timeout_s=60).pause_after(error)
        assert told.value is error

    def test_earlier_attempts_count(self) -> None:
        clock = Clock()
        tries = attempts(clock, timeout_s=60)
        clock.now += 50
        with pytest.raises(sagepool.UnavailableError):
            tries.pause_after(unavailable(retry_after=10))

    def test_what_is_left_becomes_less_and_then_a_timeout(self) -> None:
        clock = Clock()
        tries = attempts(clock, timeout_s=2)
        clock.now += 1.5
        assert tries.remaining_s() == 0.5
        clock.now += 0.5
        with pytest.raises(sagepool.APITimeoutError, match="no answer within 2 s"):
            tries.remaining_s()
