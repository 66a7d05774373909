"""Indexes of what was created, updated and deleted, and ``wait`` on them (lightningd's ``wait.c``)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from .store import Store

SUBSYSTEMS = ("forwards", "sendpays", "invoices", "htlcs", "chainmoves", "channelmoves", "networkevents")


@dataclass(frozen=True)
class _Waiter:
    subsystem: str
    index: str
    next_value: int
    answer: asyncio.Future[dict[str, Any]]


class Indexes:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: list[_Waiter] = []

    def value(self, subsystem: str, index: str) -> int:
        return self._store.var(f"last_{subsystem}_{index}_index")

    def bump(self, subsystem: str, index: str, details: dict[str, Any]) -> int:
        """The next value of an index, never given out again; wakes who waits for it once it is committed."""
        value = self.value(subsystem, index) + 1
        self._store.set_var(f"last_{subsystem}_{index}_index", value)
        self._store.after_commit(lambda: self._wake(subsystem, index, value, details))
        return value

    def _wake(self, subsystem: str, index: str, value: int, details: dict[str, Any]) -> None:
        waiting = []
        for waiter in self._waiters:
            if waiter.answer.done():
                continue
            if (waiter.subsystem, waiter.index) == (subsystem, index) and value >= waiter.next_value:
                waiter.answer.set_result({"subsystem": subsystem, index: value, subsystem: details})
            else:
                waiting.append(waiter)
        self._waiters = waiting

    async def wait(self, subsystem: str, index: str, next_value: int) -> dict[str, Any]:
        """At once and without details if the index is there already."""
        value = self.value(subsystem, index)
        if value >= next_value:
            return {"subsystem": subsystem, index: value}
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiters.append(_Waiter(subsystem, index, next_value, answer))
        return await answer
