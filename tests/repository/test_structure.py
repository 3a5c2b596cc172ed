"""What the architecture promises and a linter does not check."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for root in (
        "crds",
        "operator",
        "router",
        "sidecar",
        "downloader",
        "simulator",
        "client",
        "cluster",
        "demo",
        "bench",
    )
    for path in (ROOT / root).rglob("*.py")
)
PURE = [
    *(ROOT / "crds" / "sagepool_crds").rglob("*.py"),
    ROOT / "crds" / "sagepool_engines" / "space.py",
    *(ROOT / "operator" / "sagepool_operator" / "builders").glob("*.py"),
    *(ROOT / "operator" / "sagepool_operator" / "engines").glob("*.py"),
    *(
        ROOT / "operator" / "sagepool_operator" / "routability" / f"{name}.py"
        for name in ("gate", "answers")
    ),
    *(
        ROOT / "operator" / "sagepool_operator" / f"{name}.py"
        for name in (
            "planner",
            "caching",
            "downloads",
            "conditions",
            "instance_conditions",
            "judging",
            "instance_judging",
            "instances",
            "pruning",
            "problems",
            "drift",
            "status",
            "election",
            "fence",
            "spaces",
            "fit",
            "sizing",
            "router_pods",
            "autoscaling/decision",
            "autoscaling/demand",
            "autoscaling/replicas",
        )
    ),
    *(
        ROOT / "router" / "sagepool_router" / f"{name}.py"
        for name in (
            "table",
            "facts",
            "endpoints",
            "bodies",
            "validation",
            "estimates",
            "fingerprint",
            "multipart",
            "picker",
            "splice",
            "usage",
        )
    ),
    *(ROOT / "sidecar" / "sagepool_sidecar" / f"{name}.py" for name in ("page", "drain")),
    ROOT / "downloader" / "sagepool_downloader" / "model.py",
    *(ROOT / "router" / "sagepool_router" / "scheduling").rglob("*.py"),
    *(ROOT / "router" / "sagepool_router" / "embedding").glob("*.py"),
    *(
        ROOT / "router" / "sagepool_router" / "auth" / f"{name}.py"
        for name in ("entries", "errors", "limits", "keys", "keyring")
    ),
    *(
        ROOT / "client" / "sagepool" / f"{name}.py"
        for name in (
            "answers",
            "calls",
            "catalog",
            "core",
            "endpoints",
            "environment",
            "errors",
            "events",
            "parameters",
            "results",
        )
    ),
    ROOT / "client" / "sagepool" / "control_plane" / "pool.py",
]
IO_MODULES = {"asyncio", "httpx", "kopf", "kubernetes", "fastapi", "uvicorn", "socket", "time"}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _importers(package: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if any(name.split(".")[0] == package for name in _imports(path))
    }


def test_kopf_is_imported_in_one_module() -> None:
    assert _importers("kopf") == {"operator/sagepool_operator/handlers.py"}


def test_the_kubernetes_client_is_imported_in_one_package() -> None:
    assert {path.split("/")[1] for path in _importers("kubernetes")} == {"sagepool_kube"}


@pytest.mark.parametrize("path", PURE, ids=lambda p: p.stem)
def test_the_core_does_no_io_and_reads_no_clock(path: Path) -> None:
    assert {name.split(".")[0] for name in _imports(path)} & IO_MODULES == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_module_fits_into_a_head(path: Path) -> None:
    assert path.read_text().count("\n") <= 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_function_fits_on_a_page(path: Path) -> None:
    long = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > 60
    ]
    assert long == []


def test_the_sidecar_needs_nothing_but_pythons_own_library() -> None:
    """It is in every engine pod, and kubelet stops the engine at once when it breaks."""
    modules = {
        name.split(".")[0] for path in (ROOT / "sidecar").rglob("*.py") for name in _imports(path)
    }
    assert modules - sys.stdlib_module_names == {"sagepool_sidecar"}


def test_source_roots_are_no_packages() -> None:
    """A package named operator would hide Python's own."""
    roots = {path.relative_to(ROOT).parts[0] for path in SOURCES} - {"bench"}
    assert [root for root in sorted(roots) if (ROOT / root / "__init__.py").exists()] == []
