"""What the routes share: the services, the limits, and the way to what other threads make.

The loop reads the sidecar itself: a row by its key takes less than it takes to hand the question to a thread, and no
reader waits for a writer. Whatever else has to be waited for gives a future.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from ..core.labels import Slot
from ..core.records import Invoice
from ..core.states import InvoiceStatus
from ..errors import NodeUnknown
from ..services.waiting import Waiters
from ..services.wallets import Wallets
from .arrivals import Arrivals
from .limits import Limits

T = TypeVar("T")

#: Seconds after which a caller is told to try again; what it began goes on and stays in the books.
ANSWER_S = 20.0


class TurnedAway(Exception):
    """Too many requests: of this address, for this code, or of all callers together."""


@dataclass(frozen=True, kw_only=True)
class Context:
    wallets: Wallets
    waiters: Waiters
    limits: Limits
    clock: Callable[[], int]
    is_healthy: Callable[[], bool]
    _arrivals: Arrivals = field(default_factory=Arrivals)

    async def make(self, request: Request, paycode_id: str, begin: Callable[[], Future[T]]) -> T:
        """What an invoice is made for, within the limits; TurnedAway, or NodeUnknown after `ANSWER_S`."""
        if not self.limits.may_make(self.limits.address(request), paycode_id) or not self.limits.has_room():
            await self.limits.pause()
            raise TurnedAway
        under_way = self._arrivals.of(begin())
        self.limits.callbacks += 1
        under_way.add_done_callback(self._made)
        await asyncio.wait((under_way,), timeout=ANSWER_S)
        if not under_way.done():
            raise NodeUnknown("the node has not answered yet")
        return under_way.result()

    def _made(self, under_way: asyncio.Future[Any]) -> None:
        self.limits.callbacks -= 1
        if not under_way.cancelled():
            under_way.exception()  # of a caller that has gone: nobody else asks for it

    async def may_ask(self, request: Request) -> None:
        """Count one question that makes nothing; TurnedAway."""
        if not self.limits.may_ask(self.limits.address(request)):
            await self.limits.pause()
            raise TurnedAway

    async def wait_paid(self, slot: Slot, timeout_s: float) -> Invoice:
        """Raises WaitTimeout, or IllegalState once it cannot be paid any more."""
        return await self._arrivals.of(self.waiters.wait(slot, InvoiceStatus.PAID, timeout_s))
