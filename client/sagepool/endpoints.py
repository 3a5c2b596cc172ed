"""Where requests go: an address, a key, a model. Pure."""

import ipaddress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from sagepool.errors import ConfigurationError

Kind: TypeAlias = Literal["llm", "embedding"]
"""The two kinds of requests, which may have different servers."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One OpenAI-compatible server, for one kind of requests."""

    base_url: str
    """With /v1, without a slash at the end."""
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    """For requests that name none; None: the first that the server lists for the kind."""
    uds: Path | None = None
    """Unix domain socket on which it listens instead of the address' host."""
    is_inside: bool = False
    """In the same cluster: never through the environment's proxy. Loopback never is, either."""

    @property
    def uses_proxy(self) -> bool:
        """Whether the proxy of the environment (HTTPS_PROXY and its like) is for it."""
        return not self.is_inside and self.uds is None and not _is_loopback(self.base_url)

    @property
    def authorization(self) -> dict[str, str]:
        """The header that carries the API key; none without a key.

        Raises:
            ConfigurationError: the key cannot stand in a header.
        """
        if self.api_key is None:
            return {}
        if not is_header_text(self.api_key):
            raise ConfigurationError(
                "the API key must be printable ASCII: is it a line with its end?"
            )
        return {"authorization": f"Bearer {self.api_key}"}

    @property
    def server(self) -> "Endpoint":
        """The same without its model: endpoints of one server share connections."""
        return replace(self, model=None)

    def with_model(self, model: str | None) -> "Endpoint":
        """The same with another model, unless that is None."""
        return self if model is None else replace(self, model=model)


def read_base_url(text: str, name: str) -> str:
    """Make a base URL of what people write: with or without /v1, with or without a slash.

    Args:
        text: the address; a path other than / is kept as it is.
        name: of the argument or the variable, for the error.

    Raises:
        ConfigurationError: it is no http or https address.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{name} must be an address, not {text!r}")
    try:
        parts = urlsplit(text.strip())
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{name} {text!r} is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"{name} must be an http or https address, for example http://127.0.0.1:8000/v1, "
            f"not {text!r}"
        )
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(f"{name} must have no user, query or fragment: give the base URL")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/v1", "", ""))


def is_header_text(text: str) -> bool:
    """Whether it may stand in a request header."""
    return text.isascii() and text.isprintable()


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
