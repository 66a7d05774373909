"""Faults: what a test asks to go wrong with the next calls of a method."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import NoReturn

from .errors import Code, InvalidParams, RpcError

#: For RPC methods, of devnode and of plugins alike.
CALL_FAULTS = frozenset({"slow", "refuse", "drop_before", "drop_after", "hang", "crash_before", "crash_after"})
#: For the settlement of an incoming payment, which has the name SETTLE in place of a method.
SETTLE_FAULTS = frozenset({"crash_before", "crash_after", "lose_notification"})
SETTLE = "settle"

#: The exit status of a crash on demand, to tell it from one by mistake.
CRASH_STATUS = 42


@dataclass
class Fault:
    kind: str
    #: How many more calls it hits.
    count: int
    seconds: float
    code: int
    message: str

    async def delay(self) -> None:
        await asyncio.sleep(self.seconds)

    def refusal(self) -> RpcError:
        return RpcError(self.code, self.message)


class Faults:
    """The faults that are set; each is used up by the calls it hits, the oldest first."""

    def __init__(self) -> None:
        self._by_method: dict[str, list[Fault]] = {}

    def add(
        self,
        *,
        method: str,
        kind: str,
        count: int,
        seconds: float,
        code: int | None,
        message: str | None,
    ) -> None:
        allowed = SETTLE_FAULTS if method == SETTLE else CALL_FAULTS
        if kind not in allowed:
            raise InvalidParams(f"fault: should be one of {', '.join(sorted(allowed))}")
        fault = Fault(
            kind,
            count,
            seconds,
            int(Code.LIGHTNINGD) if code is None else code,
            f"devnode refuses {method}" if message is None else message,
        )
        self._by_method.setdefault(method, []).append(fault)

    def clear(self) -> None:
        self._by_method.clear()

    def take(self, method: str) -> Fault | None:
        """The fault that hits this call, if any."""
        waiting = self._by_method.get(method)
        if not waiting:
            return None
        fault = waiting[0]
        fault.count -= 1
        if fault.count <= 0:
            waiting.pop(0)
        return fault


def crash() -> NoReturn:
    """Die as by SIGKILL: no handler runs, nothing is flushed."""
    os._exit(CRASH_STATUS)
