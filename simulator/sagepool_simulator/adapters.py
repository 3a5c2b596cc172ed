"""What an engine serves: its models from its start on, LoRA adapters as they are loaded.

The two calls and their words are vLLM's (`vllm/entrypoints/openai/models/serving.py`).
"""

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from sagepool_simulator.calls import Call
from sagepool_simulator.settings import Role, Settings
from sagepool_simulator.wire import ApiError

_PLAIN: Final = b"text/plain; charset=utf-8"


class LoadRequest(msgspec.Struct, kw_only=True):
    """POST /v1/load_lora_adapter."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    """Take the place of a loaded adapter of that name."""


class UnloadRequest(msgspec.Struct, kw_only=True):
    """POST /v1/unload_lora_adapter."""

    lora_name: str


_load = msgspec.json.Decoder(LoadRequest).decode
_unload = msgspec.json.Decoder(UnloadRequest).decode


class Served:
    """The names that an engine answers to now.

    An adapter whose path is absolute has to be a folder with an `adapter_config.json` of a rank
    that there is room for, as vLLM demands; any other path is taken for a name on the hub, where
    everything is found.
    """

    def __init__(self, settings: Settings, started: int) -> None:
        """Take what the engine was told, and the Unix time of its start.

        Raises:
            ApiError: an adapter that it should start with cannot be loaded.
        """
        self._settings = settings
        self._started = started
        self._base = next((name for name, role in settings.models if role == "llm"), None)
        self._paths: dict[str, str] = {}
        for name, path in settings.adapters:
            self.load(LoadRequest(lora_name=name, lora_path=path))

    def role_of(self, model: str) -> Role | None:
        """What a model or an adapter does; None when it is not served."""
        return "llm" if model in self._paths else self._settings.role_of(model)

    def cards(self) -> list[dict[str, Any]]:
        """The items of /v1/models."""
        settings = self._settings
        models = [
            self._card(name, settings.root or name, None, settings.max_model_len)
            for name, _ in settings.models
        ]
        adapters = [self._card(name, path, self._base, None) for name, path in self._paths.items()]
        return [*models, *adapters]

    def serve_load(self, call: Call) -> None:
        """POST /v1/load_lora_adapter."""
        asked = _load(call.body)
        self.load(asked)
        words = f"Success: LoRA adapter '{asked.lora_name}' added successfully."
        call.connection.reply(200, words.encode(), _PLAIN)

    def serve_unload(self, call: Call) -> None:
        """POST /v1/unload_lora_adapter."""
        name = _unload(call.body).lora_name
        if not name:
            raise _invalid("'lora_name' needs to be provided to unload a LoRA adapter.")
        if name not in self._paths:
            raise ApiError(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        del self._paths[name]
        words = f"Success: LoRA adapter '{name}' removed successfully."
        call.connection.reply(200, words.encode(), _PLAIN)

    def load(self, asked: LoadRequest) -> None:
        """Serve an adapter from now on. Raises ApiError."""
        name, path = asked.lora_name, asked.lora_path
        if not name or not path:
            raise _invalid("Both 'lora_name' and 'lora_path' must be provided.")
        if name in self._paths and not asked.load_inplace:
            raise _invalid(
                f"The lora adapter '{name}' has already been loaded. If you want to load the "
                "adapter in place, set 'load_inplace' to True."
            )
        if path.startswith("/"):
            self._look_into(name, Path(path))
        self._paths[name] = path

    def _look_into(self, name: str, folder: Path) -> None:
        try:
            rank = json.loads((folder / "adapter_config.json").read_bytes())["r"]
        except (OSError, ValueError, LookupError, TypeError):
            words = f"Loading lora {name} failed: No adapter found for {folder}"
            raise ApiError(404, words, "NotFoundError") from None
        room = self._settings.max_lora_rank
        if not isinstance(rank, int) or rank > room:
            words = f"LoRA rank {rank} is greater than max_lora_rank {room}."
            raise ApiError(500, words, "InternalServerError")

    def _card(
        self, name: str, root: str, parent: str | None, max_model_len: int | None
    ) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._started,
            "owned_by": "sagepool",
            "root": root,
            "parent": parent,
            "max_model_len": max_model_len,
            "permission": [],
        }


def _invalid(message: str) -> ApiError:
    return ApiError(400, message, "InvalidUserInput")
