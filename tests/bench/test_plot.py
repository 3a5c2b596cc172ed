"""The bars."""

import xml.etree.ElementTree as ElementTree

from bench.measure import Sample
from bench.plot import Panel, draw

SVG = "{http://www.w3.org/2000/svg}"
PANEL = Panel("CPU & more", "chat", lambda sample: sample.cpu_us, 0)


def cost(cpu_us: float) -> list[Sample]:
    return [Sample(1.0, cpu_us, 1.0, 1.0, 1, 0.5, 0.5)]


def bars(svg: str) -> list[tuple[float, str]]:
    """Each bar's length and number."""
    root = ElementTree.fromstring(svg)
    numbers = [text.text or "" for text in root.iter(f"{SVG}text")][2::2]
    return [
        (float(bar.attrib["width"]), number)
        for bar, number in zip(root.iter(f"{SVG}rect"), numbers, strict=True)
    ]


def test_bars_are_as_long_as_their_figures() -> None:
    samples = {("chat", "a"): cost(50.0), ("chat", "b"): cost(100.0)}
    (short, first), (long, second) = bars(draw(samples, ["a", "b"], [PANEL]))
    assert long == 2 * short
    assert (first, second) == ("50", "100")


def test_a_bar_far_longer_than_the_others_is_cut_and_says_so() -> None:
    samples = {("chat", name): cost(value) for name, value in (("a", 50), ("b", 50), ("c", 9000))}
    *_, (length, number) = bars(draw(samples, ["a", "b", "c"], [PANEL]))
    assert number == "» 9,000"
    assert length == 560


def test_a_latency_below_that_of_the_engine_has_no_length() -> None:
    samples = {("chat", "a"): cost(-3.0), ("chat", "b"): cost(1.0)}
    assert bars(draw(samples, ["a", "b"], [PANEL]))[0] == (0.0, "-3")


def test_what_was_not_measured_is_not_drawn() -> None:
    samples = {("chat", "direct"): cost(float("nan")), ("chat", "a"): cost(1.0)}
    assert len(bars(draw(samples, ["direct", "a", "b"], [PANEL]))) == 1
    assert "CPU" not in draw({}, ["a"], [PANEL])
