"""Indexes for which the node certainly has no invoice, so that `createinvoice` may be called for them.

`createinvoice` with a payment hash that the node has, under another label, ends lightningd (v26.06: the insert breaks
a UNIQUE constraint, `wallet/invoices.c`). Under our own label it is harmless: the label is looked for first, and the
answer is 900. An index gets here, and once only, when all of this holds:

1. The code's root key was derived from this node's secret. An imported one is known elsewhere, and whoever has it may
   make the same invoices under labels of his own.
2. The index lies in a block that is in the node's datastore, and has not been handed out: indexes are never used twice,
   whichever sidecar or backup this one is. So the preimage has not left this process, in which it is made.
3. After that, and less than a minute ago, the node was asked for the payment hash, and has no invoice with it.

From 3 until the call only someone who knows the preimage could bring the hash into the node, by `invoice` or by a
payment of his own choosing (keysend); by 1 and 2 nobody does, unless an operator derives it by hand with `makesecret`,
for which the minute is short. A repeated call is no longer about a fresh index: it goes to `invoice`, which looks for
both.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from ..core.labels import Slot
from ..core.records import Paycode
from ..errors import describe
from ..node.port import Node
from .registry import Registry

log = logging.getLogger(__name__)

#: Indexes of a busy code that are looked up ahead of those handed out; a code that is used for the first time begins
#: with as many as `_FIRST`, and each time they are half used up it gets twice as many.
_MOST = 64
_FIRST = 4

#: Seconds for which what the node said of an index counts.
FRESH_S = 60.0

#: Behind every index: nothing is looked up for a code whose key is known elsewhere.
_NEVER = 2**64


class Vacancy:
    def __init__(self, node: Node, registry: Registry, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._registry = registry
        self._monotonic = monotonic
        self._lock = threading.Lock()
        #: and when the node was asked; those it is being asked about
        self._free: dict[Slot, float] = {}
        self._asked: dict[Slot, float] = {}
        #: of each code: the index behind those that were looked up, and how many were looked up the last time
        self._ahead: dict[str, tuple[int, int]] = {}

    def take(self, slot: Slot) -> bool:
        """The slot is certainly free; it counts as used from now on, and is never free again."""
        with self._lock:
            self._asked.pop(slot, None)
            asked_at = self._free.pop(slot, None)
            if asked_at is None:
                return False
            if self._monotonic() - asked_at <= FRESH_S:
                return True
            self._ahead.pop(slot.paycode_id, None)  # the others are as old: they are looked up again
            return False

    def needs_look(self, slot: Slot) -> bool:
        """This slot is handed out, and too few behind it were looked up."""
        until, most = self._ahead.get(slot.paycode_id, (0, 0))
        return until - slot.index <= most // 2

    def look_ahead(self, slot: Slot) -> None:
        """Ask the node about indexes behind this one, which is handed out; the answers are not waited for."""
        with self._lock:
            if not self.needs_look(slot):
                return
            until, most = self._ahead.get(slot.paycode_id, (0, 0))
            paycode = self._registry.find(slot.paycode_id)
            if not _is_derived(paycode):
                self._ahead[slot.paycode_id] = (_NEVER, 0)
                return
            start, most = max(until, paycode.next_index), min(_MOST, max(_FIRST, 2 * most))
            end = max(start, min(start + most, paycode.reserved_index))
            self._ahead[slot.paycode_id] = (end, most)
            wanted = [Slot(slot.paycode_id, index) for index in range(start, end)]
            self._asked.update(dict.fromkeys(wanted, self._monotonic()))
        root = self._registry.root(paycode)
        searches = self._node.begin_search([root.invoice(ahead.index).payment_hash.hex() for ahead in wanted])
        for ahead, search in zip(wanted, searches, strict=True):
            search.add_done_callback(partial(self._looked, ahead))

    def _looked(self, slot: Slot, looking: Future[bool]) -> None:
        error = looking.exception()
        with self._lock:
            # It may have been used while the node was asked.
            asked_at = self._asked.pop(slot, None)
            if error is None and asked_at is not None and not looking.result():
                self._free[slot] = asked_at
        if error is not None:
            log.debug("whether the node has the hash of %s is not known: %s", slot.label, describe(error))


def _is_derived(paycode: Paycode) -> bool:
    return paycode.number is not None and paycode.sealed_root is None
