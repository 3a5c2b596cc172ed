"""Models for vLLM, and two engines of it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from real_engine_process import EngineProcess
from real_engines import Engines
from real_models import CHAT, EMBEDDING, Models, make_models
from real_pair import Pair
from router_process import RouterProcess, file_router


@pytest.fixture(scope="session")
def models(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """What engines serve."""
    return make_models(engines, tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="session")
def pair(
    engines: Engines, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Two engines that do not run yet. A machine has room for no more at a time."""
    logs = tmp_path_factory.mktemp("logs")
    chat = models.group(
        "chat", "llm", CHAT, "--max-model-len=2048", "--max-num-seqs=4", lora={"maxRank": 8}
    )
    text = models.group("text", "embedding", EMBEDDING)
    made = Pair(
        EngineProcess(engines, chat, logs / "chat.log"),
        EngineProcess(engines, text, logs / "text.log"),
    )
    yield made
    made.stop()


@pytest.fixture
def running(pair: Pair) -> Pair:
    """Two engines that answer."""
    pair.start()
    return pair


@pytest.fixture
async def router(running: Pair, tmp_path: Path) -> AsyncIterator[RouterProcess]:
    """A router that sends to both."""
    async with file_router(running.write_pool(tmp_path / "pool.yaml")) as router:
        await router.until_instances(chat=True, text=True)
        yield router
