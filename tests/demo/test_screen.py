import io

from sagepool_demo.screen import Screen


def test_lines_carry_the_seconds_since_the_start_and_pieces_grow_one_line() -> None:
    moments = iter([100.0, 101.5, 112.25])
    out = io.StringIO()
    screen = Screen(out, lambda: next(moments))
    screen.title("Chat")
    screen.say("asked")
    screen.piece("engines ")
    screen.piece("come")
    screen.say("answered")
    assert out.getvalue() == (
        "\n== Chat\n   1.5s  asked\n         engines come\n  12.2s  answered\n"
    )


def test_a_text_that_grows_too_long_goes_on_in_the_next_line() -> None:
    out = io.StringIO()
    screen = Screen(out, lambda: 0.0)
    for _ in range(12):
        screen.piece(" scheduling")
    screen.title("")
    lines = out.getvalue().splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert lines[1] == "         scheduling scheduling scheduling scheduling"
