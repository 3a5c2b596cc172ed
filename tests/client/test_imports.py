"""Importing the client is light: what is loaded is bounded, not how long it takes."""

import json
import subprocess
import sys
from importlib.metadata import requires
from typing import Any

import pytest

import sagepool

HEAVY = {
    "aiohttp",
    "fastapi",
    "kopf",
    "kubernetes",
    "msgspec",
    "openai",
    "starlette",
    "uvicorn",
    "uvloop",
    "yaml",
}
OURS = {
    "sagepool_crds",
    "sagepool_engines",
    "sagepool_kube",
    "sagepool_operator",
    "sagepool_router",
    "sagepool_simulator",
}


def loaded_by(program: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after a program."""
    tail = "; import sys, json; print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", program + tail],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    found: Any = json.loads(done.stdout.splitlines()[-1])
    return set(found)


def test_the_package_alone_loads_no_other() -> None:
    third = {"httpx", "pydantic", "anyio", "httpcore", "asyncio", "ssl", *HEAVY, *OURS}
    assert loaded_by("import sagepool") & third == set()


@pytest.mark.parametrize("name", ["UnifiedInferenceClient", "AsyncUnifiedInferenceClient"])
def test_a_client_loads_httpx_and_pydantic_and_no_more(name: str) -> None:
    loaded = loaded_by(f"import sagepool; sagepool.{name}.create('http://127.0.0.1:1')")
    assert loaded & (HEAVY | OURS) == set()
    assert {"httpx", "pydantic"} <= loaded


def test_it_needs_two_packages() -> None:
    needed = [r for r in requires("sagepool") or [] if "extra ==" not in r]
    assert sorted(r.partition(">")[0] for r in needed) == ["httpx", "pydantic"]


def test_errors_load_neither() -> None:
    assert loaded_by("from sagepool import SagepoolError") & {"httpx", "pydantic"} == set()


def test_every_public_name_is_there() -> None:
    for name in sagepool.__all__:
        assert getattr(sagepool, name).__module__.startswith("sagepool.")
    assert sorted(sagepool.__all__) == sagepool.__all__
    assert set(sagepool.__all__) <= set(dir(sagepool))


def test_every_error_is_public_and_of_one_tree() -> None:
    from sagepool import errors

    tree = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert tree <= set(sagepool.__all__)
    assert all(issubclass(getattr(errors, name), sagepool.SagepoolError) for name in tree)


def test_a_name_that_does_not_exist_is_said() -> None:
    with pytest.raises(AttributeError, match="module 'sagepool' has no attribute 'Client'"):
        _ = sagepool.Client  # type: ignore[attr-defined]
