"""Whether the request path runs compiled here: `make test` runs the router's tests both ways."""

from typing import Final

from sagepool_router import exchange

IS_COMPILED: Final = not str(exchange.__file__).endswith(".py")
