"""Bytes, speed and what remains."""

from sagepool_downloader.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_speed_is_that_of_the_last_seconds_and_tells_what_remains() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.expect(10_000)
    for _ in range(30):
        clock.now += 1
        progress.add(100)
    figures = progress.figures()
    assert (figures.bytes_done, figures.bytes_per_second) == (3000, 100)
    assert figures.remaining_s == 70


def test_a_download_that_stalls_comes_to_no_speed() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.expect(10_000)
    clock.now = 1
    progress.add(1000)
    clock.now = 60
    figures = progress.figures()
    assert (figures.bytes_per_second, figures.remaining_s) == (0, None)


def test_bytes_of_an_earlier_attempt_count_as_done_and_not_as_speed() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.expect(10_000)
    progress.keep(9000)
    clock.now = 10
    progress.add(100)
    figures = progress.figures()
    assert (figures.bytes_done, figures.bytes_per_second, figures.remaining_s) == (9100, 10, 90)


def test_nothing_remains_to_be_said_before_the_size_is_known() -> None:
    assert Progress(Clock()).figures().remaining_s is None
