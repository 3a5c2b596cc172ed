"""Two engines of vLLM and a pool of them."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from crd_objects import pool_object
from real_engine_process import EngineProcess
from router_app_objects import named_instance


@dataclass(frozen=True)
class Pair:
    """An engine for chat, which takes four requests at a time, and one for embeddings."""

    chat: EngineProcess
    text: EngineProcess

    def start(self) -> None:
        """Have both answer."""
        for engine in (self.chat, self.text):
            engine.start()
        for engine in (self.chat, self.text):
            engine.wait_until_healthy()

    def stop(self) -> None:
        """End both."""
        for engine in (self.chat, self.text):
            engine.stop()

    def write_pool(self, path: Path, **spares: str) -> Path:
        """A pool of the two; `spares`: other instances of the chat model, by name."""
        groups = [self.chat.group, self.text.group]
        chats = {"chat": self.chat.url, **spares}
        pool = pool_object(groups=groups)
        instances = [_instance(name, url, "chat", "llm") for name, url in chats.items()]
        instances.append(_instance("text", self.text.url, "text", "embedding"))
        path.write_text(yaml.safe_dump_all([pool, *instances]))
        return path


def _instance(name: str, url: str, model: str, role: str) -> dict[str, object]:
    return named_instance(name, endpoints=[{"role": role, "url": url, "models": [model]}])
