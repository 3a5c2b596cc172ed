"""A request that the provider answers."""

from typing import Final

from sagepool_router.delivery import Delivery
from sagepool_router.errors import EngineFailed
from sagepool_router.upstream import UpstreamConnection

_REFUSED: Final = frozenset((401, 403))
_OF_THE_POOL: Final = (b"x-ratelimit-", b"set-cookie:", b"openai-")
"""What the provider says to the pool, and not to the pool's client."""


class CloudDelivery(Delivery):
    """A delivery whose answer comes from outside of the pool."""

    __slots__ = ()

    def begin(self, connection: UpstreamConnection) -> None:
        """The head of an answer."""
        if connection.status in _REFUSED:
            # it is the pool's key that is refused: no client can mend that
            self._exchange.fail(
                EngineFailed(
                    f"the provider refuses the pool's key ({connection.status}): correct the "
                    "Secret of cloud.apiKeySecret",
                    "provider_refused",
                )
            )
            return
        connection.fields = [f for f in connection.fields if not f.startswith(_OF_THE_POOL)]
        super().begin(connection)
