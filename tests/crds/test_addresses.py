"""Addresses of engines and providers: what the schema takes can be asked for."""

import re

import pytest

from sagepool_crds.fields import URL_PATTERN


@pytest.mark.parametrize(
    "url",
    [
        "http://engine",
        "http://10.0.0.7:8000",
        "http://[fd00::7]:8000",
        "https://Engine-1.rag.svc.cluster.local:443/v1",
        "https://engine.example.com./base",
        f"http://{'x' * 63}.example.com",
    ],
)
def test_an_address_that_can_be_asked_for_is_taken(url: str) -> None:
    assert re.fullmatch(URL_PATTERN, url)


@pytest.mark.parametrize(
    "host", ["x..y", ".engine", "-engine", "engine-", "a.-b", ".", "engine..", "x" * 64]
)
def test_a_name_that_no_resolver_takes_is_refused(host: str) -> None:
    assert not re.fullmatch(URL_PATTERN, f"http://{host}:8000/v1")
