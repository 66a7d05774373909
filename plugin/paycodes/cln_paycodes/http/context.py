"""What the routes share: the services, the limits, and the way from the loop to a thread and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request

from ..core.labels import Slot
from ..core.records import Invoice
from ..core.states import InvoiceStatus
from ..errors import NodeUnknown
from ..services.waiting import Waiters
from ..services.wallets import Wallets
from .limits import Limits

T = TypeVar("T")

#: Threads for what only reads the sidecar.
READERS = 4
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
    _readers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(READERS, thread_name_prefix="paycodes-http-read")
    )

    async def read(self, job: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Run what only reads in a thread."""
        return await self._loop().run_in_executor(self._readers, partial(job, *arguments, **named))

    async def make(self, request: Request, paycode_id: str, begin: Callable[[], Future[T]]) -> T:
        """What an invoice is made for, within the limits; TurnedAway, or NodeUnknown after `ANSWER_S`."""
        if not self.limits.may_make(self.limits.address(request), paycode_id) or not self.limits.has_room():
            await self.limits.pause()
            raise TurnedAway
        under_way = asyncio.wrap_future(begin())
        self.limits.callbacks += 1
        under_way.add_done_callback(self._made)
        try:
            return await asyncio.wait_for(asyncio.shield(under_way), ANSWER_S)
        except (asyncio.TimeoutError, TimeoutError):
            raise NodeUnknown("the node has not answered yet") from None

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
        future = await self.read(self.waiters.wait, slot, InvoiceStatus.PAID, timeout_s)
        return await asyncio.wrap_future(future)

    @staticmethod
    def _loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def stop(self) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)
