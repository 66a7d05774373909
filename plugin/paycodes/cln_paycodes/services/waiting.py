"""`paycode-wait`: callers that wait for one invoice, woken by that invoice alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from ..chaining import promise
from ..core.labels import Slot
from ..core.records import Invoice
from ..core.states import FINAL, InvoiceStatus
from ..errors import IllegalState, PaycodesError, WaitTimeout
from .timer import Timer

_S = InvoiceStatus


def _reached(invoice: Invoice, until: InvoiceStatus) -> bool:
    """The invoice is what is waited for; IllegalState when it can never be."""
    if invoice.status is until:
        return True
    if until is _S.ISSUED:
        if invoice.status is _S.VOID:
            raise IllegalState(f"{invoice.label} is void: it was never issued")
        return invoice.status is not _S.RESERVED
    if invoice.status in FINAL:
        raise IllegalState(f"{invoice.label} is {invoice.status}: it will not be {until}")
    return False


class Waiters:
    def __init__(self, read: Callable[[Slot], Invoice | None], timer: Timer) -> None:
        self._read = read
        self._timer = timer
        self._lock = threading.Lock()
        self._waiting: dict[Slot, list[tuple[InvoiceStatus, Future[Invoice]]]] = {}

    def wait(self, slot: Slot, until: InvoiceStatus, timeout_s: float | None) -> Future[Invoice]:
        """A future of the invoice once it is `issued` or `paid`; of WaitTimeout, or IllegalState when it cannot be."""
        future: Future[Invoice] = promise()
        with self._lock:
            self._waiting.setdefault(slot, []).append((until, future))
        # Read after registering: a change in between wakes the future, one before is seen here. The time starts only
        # now, so that no timeout is too short to see what is there.
        invoice = self._read(slot)
        if invoice is not None:
            self.changed(invoice)
        if timeout_s is not None and not future.done():
            self._timer.after(timeout_s, lambda: self._time_out(slot, until, future))
        return future

    def awaited(self) -> frozenset[Slot]:
        """What someone waits for right now."""
        with self._lock:
            return frozenset(self._waiting)

    def changed(self, invoice: Invoice) -> None:
        """Called after each commit that moved an invoice."""
        if invoice.slot not in self._waiting:
            return
        with self._lock:
            waiting = self._waiting.pop(invoice.slot, [])
            still = [entry for entry in waiting if not _offer(invoice, *entry)]
            if still:
                self._waiting[invoice.slot] = still

    def _time_out(self, slot: Slot, until: InvoiceStatus, future: Future[Invoice]) -> None:
        with self._lock:
            left = [entry for entry in self._waiting.get(slot, []) if entry[1] is not future]
            if left:
                self._waiting[slot] = left
            else:
                self._waiting.pop(slot, None)
            if not future.done():
                future.set_exception(WaitTimeout(f"the timeout has passed, and {slot.label} is not {until} yet"))

    def close(self) -> None:
        """Answer everyone who still waits: the plugin is stopping."""
        with self._lock:
            for waiting in self._waiting.values():
                for _, future in waiting:
                    if not future.done():
                        future.set_exception(PaycodesError("the plugin is stopping: wait again when it is back"))
            self._waiting.clear()


def _offer(invoice: Invoice, until: InvoiceStatus, future: Future[Invoice]) -> bool:
    """Answer one waiter if this change is what it waits for, or rules it out; True when it was answered."""
    try:
        if not _reached(invoice, until):
            return False
        future.set_result(invoice)
    except IllegalState as e:
        future.set_exception(e)
    return True
