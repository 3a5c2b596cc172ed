"""The pools that are simulated, and their engines."""

from dataclasses import dataclass
from typing import Final

from bench.simulation.clock import Clock
from bench.simulation.costs import Costs
from bench.simulation.engines import ChatEngine, EmbeddingEngine
from bench.simulation.gpu import Gpu
from bench.simulation.traffic import Mix, Rates, offered


@dataclass(frozen=True, slots=True)
class Pool:
    """GPUs, and how much is asked of them."""

    name: str
    title: str
    load: float
    """1 is what the engines could do if none was slowed down by another."""
    chat: int = 0
    """GPUs for chat alone."""
    embedding: int = 0
    """GPUs for embeddings alone."""
    mixed: int = 0
    """GPUs with an engine of each kind."""

    def rates(self, mix: Mix, costs: Costs) -> Rates:
        """The requests of a mix that make this load."""
        return offered(mix, costs, self.load, self._load)

    def _load(self, chat_s: float, texts_s: float) -> float:
        if self.mixed:
            return (chat_s + texts_s) / self.mixed
        return max(chat_s / self.chat, texts_s / self.embedding)


POOLS: Final = (
    Pool("separate", "separate GPUs: two for chat, one for embeddings", 0.6, chat=2, embedding=1),
    Pool("room", "three shared GPUs with room", 0.35, mixed=3),
    Pool("saturated", "two shared GPUs, saturated", 1.2, mixed=2),
)


@dataclass(frozen=True, slots=True)
class EngineAt:
    """An engine process and the GPU that it is on."""

    name: str
    device: str
    engine: ChatEngine | EmbeddingEngine


def build_engines(pool: Pool, clock: Clock, costs: Costs) -> list[EngineAt]:
    """Engines of a pool, idle."""
    found: list[EngineAt] = []
    counts = (("chat", pool.chat), ("embedding", pool.embedding), ("mixed", pool.mixed))
    for role, count in counts:
        for number in range(count):
            name = f"{role}-{number}"
            gpu = Gpu(clock, costs)
            if role != "embedding":
                found.append(EngineAt(name, name, ChatEngine(clock, costs, gpu)))
            if role != "chat":
                found.append(EngineAt(name, name, EmbeddingEngine(clock, costs, gpu)))
    return found
