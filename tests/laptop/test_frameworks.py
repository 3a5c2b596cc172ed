"""LangChain and LlamaIndex against a pool on one machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from client_pool import CHAT, EMBEDDING
from client_server import Reply, scripted
from crd_objects import group_object, instance_object, pool_object
from frameworks import TOOLED, call_tools, run_program
from sage_command import Sage

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(180)]


@pytest.fixture
def url(sage: Sage, tmp_path: Path) -> Iterator[str]:
    """The pool's router: engines of its own, and one elsewhere that calls tools."""
    chat = group_object(name="chat", replicas=1, model={"name": CHAT})
    embed = group_object(name="embed", role="embedding", replicas=1, model={"name": EMBEDDING})
    with scripted(call_tools, models=Reply(body={"data": [{"id": TOOLED}]})) as tooled:
        elsewhere = instance_object(
            endpoints=[{"role": "llm", "url": tooled.url, "models": [TOOLED]}]
        )
        path = tmp_path / "pool.yaml"
        path.write_text(yaml.safe_dump_all([pool_object(groups=[chat, embed]), elsewhere]))
        with sage.pool(path) as port:
            yield f"http://127.0.0.1:{port}"


def test_langchain(url: str, tmp_path: Path) -> None:
    said = run_program("langchain_program.py", url, tmp_path)
    assert (said["words"], said["pieces"], said["batch"]) == (8, 8, [8, 8, 8])
    assert said["tools"] == [["weather", {"city": "Ulm"}]]
    assert said["same"]
    assert "NotFoundError: " in said["error"]


def test_llama_index(url: str, tmp_path: Path) -> None:
    said = run_program("llama_index_program.py", url, tmp_path)
    assert (said["words"], said["pieces"], said["told"]) == (8, 8, 8)
    assert said["found"] == "trains run on rails"
