"""What `make test` prepares and names in the environment: a cluster, the image."""

import os

import pytest

_STRICT = ("CI", "SAGEPOOL_TEST_REQUIRED")
"""With one of these set, nothing may be skipped for want of a preparation."""


def read_required(variable: str, sentence: str) -> str:
    """The variable's value.

    Without one the test is skipped with the sentence, and fails with it where a run must be whole:
    else a preparation that went wrong would look like success.
    """
    value = os.environ.get(variable, "")
    if value:
        return value
    if any(os.environ.get(name) for name in _STRICT):
        pytest.fail(sentence)
    pytest.skip(sentence)
