"""The router with no scheduler in it: what scheduling adds is measured against it.

Of a body it reads the model's name and nothing else; the next instance in turn gets the request,
and nothing is remembered of where it went or how long it took. All else is the router's own: its
protocol, API keys, connections, answers and counters.
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, Final

import msgspec

from sagepool_router.accounts import Accounts
from sagepool_router.admission import Admission
from sagepool_router.backend import LiveBackend
from sagepool_router.delivery import Delivery
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.endpoints import Endpoint
from sagepool_router.exchange import Exchange
from sagepool_router.scheduling.calls import Call
from sagepool_router.scheduling.scheduler import Scheduler
from sagepool_router.scheduling.work import Work
from sagepool_router.usage import Usage

_TOKENS: Final = 100
"""What a key is charged until the answer says more."""


class _Named(msgspec.Struct):
    """All that this router wants to know of a body."""

    model: str


class _InTurn(Admission):
    """Sends every request to the next instance of its model."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher)
        self._dispatcher = dispatcher
        self._read: Callable[[bytes], _Named] = msgspec.json.Decoder(_Named).decode
        self._turns: dict[str, Iterator[LiveBackend]] = {}
        self._works: dict[str, Work[LiveBackend]] = {}
        for model, route in dispatcher.fleet.routes.items():
            self._turns[model] = cycle(route.members)
            self._works[model] = Work(route.role, model, 0.0)

    def submit(self, exchange: Exchange, endpoint: Endpoint) -> None:
        dispatcher = self._dispatcher
        model = self._read(exchange.body).model
        exchange.route = route = dispatcher.fleet.routes[model]
        if exchange.key is not None:
            exchange.key.admit(model, _TOKENS, dispatcher.clock())
            exchange.charged_tokens = _TOKENS
        place = next(self._turns[model])
        call = Call(route.lane, self._works[model], (), place, "none", "in_turn", 0.0)
        exchange.work = self._works[model]
        exchange.deliver(Delivery(exchange, dispatcher, call, exchange.body))


class _NothingLearnt(Accounts):
    """Counts what has ended; measures no instance."""

    def measure(
        self, call: Call[LiveBackend], owner: Exchange, usage: Usage | None, now: float
    ) -> None:
        """Nothing."""


class _NothingHeld(Scheduler[LiveBackend]):
    """Knows of no call."""

    def answered(self, call: Call[LiveBackend]) -> None:
        """Nothing."""

    def finished(self, call: Call[LiveBackend]) -> None:
        """Nothing."""


def straighten(dispatcher: Dispatcher) -> None:
    """Take the scheduler out of a dispatcher that has its table."""
    unused: dict[str, Any] = {
        name: dispatcher.call_later for name in ("start", "cut", "clock", "random", "call_later")
    }
    dispatcher.scheduler = _NothingHeld(dispatcher.scheduler.settings, **unused)
    dispatcher.admission = _InTurn(dispatcher)
    dispatcher.accounts = _NothingLearnt(dispatcher)
