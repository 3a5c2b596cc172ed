"""Of what an engine has said, the line that says why it ended."""

import pytest

from sagepool_engines.last_words import find_cause

SHORT = (
    "Free memory on device cuda:0 (1.2/79.1 GiB) on startup is less than desired GPU memory "
    "utilization (0.9, 71.19 GiB). Decrease GPU memory utilization or reduce GPU memory used by "
    "other processes."
)
CONSEQUENCE = (
    "(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above. "
    "Failed core proc(s): {}"
)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            [
                "(EngineCore_DP0 pid=9) ERROR 11-27 10:00:00 [core.py:708] ValueError: " + SHORT,
                "(EngineCore_DP0 pid=9) Process EngineCore_DP0:",
                "(APIServer pid=7) Traceback (most recent call last):",
                '(APIServer pid=7)   File "/vllm/api_server.py", line 1, in main',
                CONSEQUENCE,
            ],
            f"ValueError: {SHORT}",
        ),
        (
            [
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
                "chat: " + CONSEQUENCE,
            ],
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        ),
        (
            ["embedding: (EngineCore pid=9) OSError: o/m is not a local folder", CONSEQUENCE],
            "OSError: o/m is not a local folder",
        ),
        (["KeyError: 'a'", "ValueError: no a"], "ValueError: no a"),
        ([CONSEQUENCE], ""),
        (["vllm: error: unrecognized arguments: --foo"], ""),
        (["INFO 11-27 10:00:00 [api.py:1] after a ValueError: nothing"], ""),
        ([], ""),
    ],
)
def test_the_last_exception_that_is_no_consequence_is_the_cause(
    said: list[str], cause: str
) -> None:
    assert find_cause("\n".join(said)) == cause
