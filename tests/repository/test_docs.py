"""What people rely on is written down: reasons, metrics, make targets, links."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml

from sagepool_crds import names
from sagepool_crds.admission import admit
from sagepool_downloader.errors import DownloadError, Interrupted, StillHeld
from sagepool_engines.probe import Verdict
from sagepool_operator import problems
from sagepool_operator.adapters import ADAPTERS_FAILED, ADAPTERS_LOADING
from sagepool_operator.conditions import DOWNLOADING, PASSING
from sagepool_operator.reasons import OF_INSTANCES, OF_POOLS, all_reasons
from sagepool_operator.reference import conditions_page
from sagepool_router.config import OPTIONS, Option

ROOT = Path(__file__).parents[2]
ROUTER = (ROOT / "docs" / "reference" / "router.md").read_text()
OPERATOR = (ROOT / "docs" / "reference" / "operator.md").read_text()
CLIENT = (ROOT / "docs" / "python-client.md").read_text()
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def _reasons() -> Iterator[str]:
    """Every reason that a condition can bear, from the calls that make them."""
    yield from get_args(Verdict)
    yield from (DOWNLOADING, *PASSING)
    yield from (problems.NOT_MOUNTED, problems.CRASHING, problems.OUT_OF_MEMORY)
    no_reasons = (Interrupted, StillHeld)  # no download ends with these
    failures = (e for e in DownloadError.__subclasses__() if e not in no_reasons)
    yield from (failure.__name__ for failure in failures)
    yield from (ADAPTERS_FAILED, ADAPTERS_LOADING)
    place = {"Problem": 0, "_Finding": 1, "Judgement": 1, "_judgement": 1}
    judges = ("conditions", "instance_conditions", "problems", "downloads", "adapters")
    for name in (*judges, "routability/gate"):
        path = ROOT / "operator" / "sagepool_operator" / f"{name}.py"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                index = place.get(node.func.id)
                if index is not None and len(node.args) > index:
                    for part in ast.walk(node.args[index]):
                        if isinstance(part, ast.Constant) and isinstance(part.value, str):
                            yield part.value


def test_every_reason_that_the_code_sets_is_explained_and_no_other() -> None:
    assert all_reasons() == set(_reasons())


def test_every_condition_is_explained() -> None:
    assert OF_POOLS.keys() | OF_INSTANCES.keys() == names.CONDITIONS


def test_page_of_conditions_is_up_to_date() -> None:
    page = (ROOT / "docs" / "reference" / "conditions.md").read_text()
    assert page == conditions_page(), "run `make generate`"
    assert {reason for reason in all_reasons() if f"| `{reason}` |" not in page} == set()


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.name)
def test_every_setting_of_the_router_is_documented(option: Option) -> None:
    row = f"| `{option.flag}` | `{option.variable}` |"
    assert row in ROUTER
    assert option.help in ROUTER


def test_every_metric_of_the_router_is_documented() -> None:
    source = (ROOT / "router" / "sagepool_router" / "metrics.py").read_text()
    named = set(re.findall(r'_PREFIX \+ "([a-z_]+)"', source))
    assert len(named) > 10
    assert {name for name in named if f"`sagepool_router_{name}`" not in ROUTER} == set()


def test_every_setting_of_the_operator_is_documented() -> None:
    source = (ROOT / "operator" / "sagepool_operator" / "config.py").read_text()
    named = set(re.findall(r'reader\.\w+\("([A-Z_]+)"', source))
    assert len(named) > 10
    assert {name for name in named if f"SAGEPOOL_OPERATOR_{name}`" not in OPERATOR} == set()


def test_every_variable_of_the_client_is_documented() -> None:
    source = (ROOT / "client" / "sagepool" / "environment.py").read_text()
    named = set(re.findall(r'"((?:SAGE|SAGEPOOL|DASHSCOPE)_[A-Z_]+)"', source)) - {"SAGE_UNIFIED"}
    assert {"SAGE_FORCE_CLOUD_API", "SAGEPOOL_POOL", "SAGE_CHAT", "SAGE_EMBEDDING"} < named
    assert {name for name in named if f"`{name}" not in CLIENT} == set()


def test_every_error_of_the_client_is_documented() -> None:
    source = (ROOT / "client" / "sagepool" / "errors.py").read_text()
    named = set(re.findall(r"^class (\w+)", source, re.MULTILINE))
    assert len(named) > 10
    assert {name for name in named if f"`{name}`" not in CLIENT} == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join(
        span
        for document in DOCUMENTS
        for spans in re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", document.read_text(), re.DOTALL)
        for span in spans
    )
    named = {
        target
        for words in re.findall(r"^make ([a-z -]+)", code, re.MULTILINE)
        for target in words.split()
    }
    assert named - targets == set()
    assert {"demo", "test"} <= named


POOL_FILES = [
    (document, block)
    for document in DOCUMENTS
    for block in re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    if "kind: InferencePool" in block
]


@pytest.mark.parametrize(
    "block",
    [block for _, block in POOL_FILES],
    ids=[str(d.relative_to(ROOT)) for d, _ in POOL_FILES],
)
def test_pool_files_of_a_page_are_what_a_cluster_takes(block: str) -> None:
    assert [admit(obj)["kind"] for obj in yaml.safe_load_all(block)]


def test_pool_files_are_found() -> None:
    assert {d.name for d, _ in POOL_FILES} >= {"README.md", "laptop.md", "without-a-cluster.md"}


def _anchors(document: Path) -> set[str]:
    """What a link may name of a page: its headings, as they are turned into anchors."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    dead = []
    for path, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", document.read_text()):
        page = document.parent / path if path else document
        if not page.exists() or (anchor and anchor not in _anchors(page)):
            dead.append(f"{path}#{anchor}")
    assert dead == []
