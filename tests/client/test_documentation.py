"""What docs/python-client.md shows does what it says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from client_pool import CHAT, EMBEDDING, Pool, running_pool
from required_environment import read_required

PAGE = (Path(__file__).parents[2] / "docs" / "python-client.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FOREIGN = [block for block in BLOCKS if "langchain" in block or "llama_index" in block]
OWN = [block for block in BLOCKS if block not in FOREIGN]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Where the page's examples go."""
    with running_pool(tmp_path_factory.mktemp("pool")) as running:
        yield running


def run(python: str, program: str, pool: Pool, folder: Path) -> str:
    """What a program prints, with the page's addresses and models replaced by the pool's."""
    engines = {"8001": pool.chats[0].url, "8090": pool.embeds[0].url}
    replaced = program.replace("http://rag-router.default.svc", pool.url)
    replaced = replaced.replace("qwen2.5-7b", CHAT).replace("bge-m3", EMBEDDING)
    for port, url in engines.items():
        replaced = replaced.replace(f'"port": {port}', f'"port": {urlsplit(url).port}')
    path = folder / "program.py"
    path.write_text(replaced)
    done = subprocess.run(
        [python, "-W", "error::ResourceWarning", str(path)],
        env={"HOME": str(folder), "SAGE_UNIFIED_BASE_URL": pool.url, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_run_one_after_the_other(pool: Pool, tmp_path: Path) -> None:
    assert len(OWN) == 7
    printed = run(sys.executable, "\n".join(OWN), pool, tmp_path)
    assert "control plane with policy hybrid" in printed
    assert "Usage(prompt_tokens=" in printed


@pytest.mark.frameworks
@pytest.mark.parametrize("number", [0, 1], ids=["LangChain", "LlamaIndex"])
def test_the_frameworks_examples_run(number: int, pool: Pool, tmp_path: Path) -> None:
    python = read_required(
        "SAGEPOOL_TEST_FRAMEWORKS", "needs LangChain and LlamaIndex: run `make test`"
    )
    assert len(FOREIGN) == 2
    said, dimension = run(python, FOREIGN[number], pool, tmp_path).strip().splitlines()
    assert said
    assert int(dimension) > 1
