from sagepool.laptop.backoff import Backoff


def test_ends_in_a_row_double_the_wait_up_to_thirty_seconds() -> None:
    backoff = Backoff()
    assert [backoff.next_delay_s(0.5) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.ends == 7


def test_a_minute_without_an_end_is_a_new_beginning() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.next_delay_s(1)
    assert backoff.next_delay_s(60) == 1
    assert backoff.next_delay_s(59.9) == 2


def test_ends_after_minutes_of_loading_are_counted_too() -> None:
    backoff = Backoff()
    for _ in range(3):
        backoff.next_delay_s(90)
    assert (backoff.ends, backoff.ends_ever) == (1, 3)


def test_the_wait_stays_bounded_for_ever() -> None:
    backoff = Backoff()
    assert [backoff.next_delay_s(0) for _ in range(5000)][-1] == 30
