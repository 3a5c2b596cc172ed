"""One engine that does what the model's name says, and one router before it."""

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from router_engines import BEHAVIOURS, Engine, serve_engine
from router_server import RouterServer, backend, serve_router, table_of
from sagepool_router.limits import Limits

PATIENT = Limits(sweep_tick_s=0.05, max_body_bytes=4 << 20)
"""Limits that a slow machine does not meet."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with serve_engine() as running:
        yield running


@pytest.fixture(scope="module")
def router(engine: Engine) -> Iterator[RouterServer]:
    table = table_of(
        backend(engine.port, models=tuple(BEHAVIOURS)),
        backend(engine.port, instance="engine-e", role="embedding", models=("embedder",)),
        aliases={"nickname": "who"},
        absent={"cold": "rag-cold-1: loading"},
    )
    with serve_router(table, PATIENT) as server:
        yield server


@pytest.fixture
def port(router: RouterServer) -> int:
    return router.port


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    key, crt, both = folder / "key.pem", folder / "crt.pem", folder / "both.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(crt)], check=True, capture_output=True
    )
    both.write_text(crt.read_text() + key.read_text())
    return both


@pytest.fixture
def tls_engine_port(certificate: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serve_engine("ok", tls=context) as running:
        yield running.port


@pytest.fixture
def trusted(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))
