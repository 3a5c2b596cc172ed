"""What the environment says about servers. Pure.

| variable | meaning |
|---|---|
| SAGE_FORCE_CLOUD_API | true: the cloud answers everything, nothing else is looked for |
| SAGE_UNIFIED_BASE_URL, _MODEL, _API_KEY | one server for both kinds; the model is for chat |
| SAGE_CHAT_BASE_URL, _MODEL, _API_KEY | the server for chat and completions |
| SAGE_EMBEDDING_BASE_URL, _MODEL, _API_KEY | the server for embeddings |
| SAGEPOOL_POOL | [NAMESPACE/]NAME: the pool whose router answers, inside its cluster |
| SAGEPOOL_API_KEY | for routers that are found in the cluster or on this machine |
| DASHSCOPE_API_KEY | the cloud's key for both kinds |
| SAGE_CLOUD_BASE_URL | another provider in place of DashScope |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sagepool.endpoints import Endpoint, Kind, read_base_url
from sagepool.errors import ConfigurationError

CLOUD_URL: Final = "https://dashscope.aliyuncs.com/compatible-mode/v1"
"""DashScope's OpenAI-compatible address."""
CLOUD_MODELS: Final[Mapping[Kind, str]] = {"llm": "qwen-turbo", "embedding": "text-embedding-v4"}

PREFIX: Final[Mapping[Kind, str]] = {"llm": "SAGE_CHAT", "embedding": "SAGE_EMBEDDING"}
"""Of the variables of a kind."""
_POOL: Final = re.compile(r"(?:([a-z0-9][-a-z0-9]*)/)?([a-z0-9][-.a-z0-9]*)")
_LINK: Final = re.compile(r"([A-Z0-9_]+_ROUTER)_SERVICE_HOST")


@dataclass(frozen=True, slots=True)
class Named:
    """An endpoint that the environment names, and by which variables."""

    endpoint: Endpoint
    why: str


class Environment:
    """Reads the variables.

    Args:
        variables: the environment; an empty variable counts as absent.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str) -> str | None:
        """A variable; None if it is absent or empty."""
        return self._variables.get(name, "").strip() or None

    def forces_cloud(self) -> bool:
        """Whether the cloud answers everything.

        Raises:
            ConfigurationError: the variable is neither true nor false.
        """
        given = (self.text("SAGE_FORCE_CLOUD_API") or "false").lower()
        if given in ("true", "1", "yes", "on"):
            return True
        if given in ("false", "0", "no", "off"):
            return False
        raise ConfigurationError(f"SAGE_FORCE_CLOUD_API must be true or false, not {given!r}")

    def unified(self, kind: Kind) -> Named | None:
        """The one server for both kinds, if it is named."""
        model = self.model("embedding") if kind == "embedding" else self.text("SAGE_UNIFIED_MODEL")
        return self._named("SAGE_UNIFIED", model)

    def of_kind(self, kind: Kind) -> Named | None:
        """The server for this kind alone, if it is named."""
        return self._named(PREFIX[kind], self.model(kind))

    def model(self, kind: Kind) -> str | None:
        """The model for this kind, if it is named."""
        return self.text(f"{PREFIX[kind]}_MODEL")

    def cloud(self, kind: Kind) -> Named | None:
        """The provider, if there is a key for it."""
        for name in (f"{PREFIX[kind]}_API_KEY", "DASHSCOPE_API_KEY"):
            key = self.text(name)
            if key is not None:
                given = self.text("SAGE_CLOUD_BASE_URL")
                url = CLOUD_URL if given is None else read_base_url(given, "SAGE_CLOUD_BASE_URL")
                model = self.model(kind) or CLOUD_MODELS[kind]
                return Named(Endpoint(url, key, model), f"{name} is set")
        return None

    @property
    def local_key(self) -> str | None:
        """For routers that nobody named."""
        return self.text("SAGEPOOL_API_KEY")

    @property
    def is_in_cluster(self) -> bool:
        """This process runs in a pod."""
        return self.text("KUBERNETES_SERVICE_HOST") is not None

    def pool(self) -> Named | None:
        """The router of the pool that SAGEPOOL_POOL names, by the DNS name of its Service.

        Raises:
            ConfigurationError: the variable is not [NAMESPACE/]NAME.
        """
        given = self.text("SAGEPOOL_POOL")
        if given is None:
            return None
        match = _POOL.fullmatch(given)
        if match is None:
            raise ConfigurationError(f"SAGEPOOL_POOL must be NAME or NAMESPACE/NAME, not {given!r}")
        namespace, name = match.groups()
        host = f"{name}-router" + (f".{namespace}.svc" if namespace else "")
        link = f"{name.upper().replace('-', '_').replace('.', '_')}_ROUTER"
        port = None if namespace else self.text(f"{link}_SERVICE_PORT")
        address = host if port in (None, "80") else f"{host}:{port}"
        endpoint = Endpoint(f"http://{address}/v1", self.local_key, is_inside=True)
        return Named(endpoint, f"SAGEPOOL_POOL is {given}")

    def linked_routers(self) -> list[Named]:
        """Services of this namespace that may be routers, from the variables that a pod gets.

        Kubernetes gives a pod NAME_SERVICE_HOST and NAME_SERVICE_PORT for every Service that was
        there before it; a pool's is called POOL-router. Others may be called so, too.
        """
        found = []
        for variable in sorted(self._variables):
            match = _LINK.fullmatch(variable)
            host = self.text(variable)
            if match is None or host is None:
                continue
            port = self.text(f"{match[1]}_SERVICE_PORT") or "80"
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            endpoint = Endpoint(f"http://{address}/v1", self.local_key, is_inside=True)
            found.append(Named(endpoint, variable))
        return found

    def _named(self, prefix: str, model: str | None) -> Named | None:
        name = f"{prefix}_BASE_URL"
        given = self.text(name)
        if given is None:
            return None
        key = self.text(f"{prefix}_API_KEY")
        return Named(Endpoint(read_base_url(given, name), key, model), f"{name} is set")
