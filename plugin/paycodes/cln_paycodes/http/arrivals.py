"""The way of other threads' results to the server's loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Arrivals:
    """Results that arrive together share one wake-up of the loop: each costs system calls, and a turn of the
    interpreter's lock.
    """

    def __init__(self) -> None:
        self._arrived: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._is_woken = False

    def of(self, coming: Future[T]) -> asyncio.Future[T]:
        """What becomes of a future of another thread, for the loop that runs; that one is never cancelled."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[T] = loop.create_future()
        coming.add_done_callback(partial(self._arrive, loop, waiting))
        return waiting

    def _arrive(self, loop: asyncio.AbstractEventLoop, waiting: asyncio.Future[Any], coming: Future[Any]) -> None:
        self._arrived.append((waiting, coming))
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        self._is_woken = False  # first, so that what arrives from now on wakes it again
        while self._arrived:
            waiting, coming = self._arrived.popleft()
            error = coming.exception()
            if waiting.cancelled():
                continue
            if error is None:
                waiting.set_result(coming.result())
            else:
                waiting.set_exception(error)
