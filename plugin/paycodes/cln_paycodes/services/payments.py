"""What the node tells of payments: the hook's intent, and reasons to look.

A hook or a notification is never a fact here. The hook's call becomes the intent `paying`; everything else makes this
module ask the node, and only the node's answer moves a row to `paid`, in one transaction with its event.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from .. import crash
from ..core.answers import payment_event
from ..core.events import Event, EventType, event_id
from ..core.labels import Slot
from ..core.outgoing import outcomes_of
from ..core.records import NodePayment
from ..core.states import IllegalMove, InvoiceStatus
from ..node.port import Node
from ..store import outbox
from ..store.store import Store
from ..store.writer import Transaction
from .books import Books

log = logging.getLogger(__name__)


class Payments:
    def __init__(
        self,
        store: Store,
        node: Node,
        books: Books,
        *,
        node_id: str,
        clock: Callable[[], int],
        told: Callable[[], None],
    ) -> None:
        self._store = store
        self._node = node
        self._books = books
        self._node_id = node_id
        self._clock = clock
        self._told = told

    def intend(self, slot: Slot) -> Future[None]:
        """Write down that a complete payment for this slot has arrived; done when it is on disk."""

        def job(tx: Transaction) -> None:
            with contextlib.suppress(IllegalMove, LookupError):  # only an issued one is about to be paid
                self._books.change(tx, slot, InvoiceStatus.PAYING)

        self._books.note_intent(slot)
        future = self._store.submit(job)
        future.add_done_callback(lambda _: crash.point("hook:intent"))
        return future

    def is_told(self, part: NodePayment) -> bool:
        """The payment of this part is known to have been sent: that is its end."""
        if part.status != "complete":
            return False
        sent = event_id(self._node_id, EventType.PAYMENT_SENT, f"{part.payment_hash}/{part.groupid}")
        return self._store.read(partial(outbox.is_known, event_id=sent))

    def look_outgoing(self, payment_hash: str, *, dry_run: bool = False) -> tuple[int, bool]:
        """Ask the node about our outgoing payments of one hash and tell those that reached their end.

        How many events were (or, in a dry run, would be) made, and False when a payment looks failed but may still be
        tried again: then look once more after `QUIET_S` seconds.
        """
        outcomes, unquiet = outcomes_of(self._node.payments_of(payment_hash), now=self._clock())
        events = [payment_event(self._node_id, outcome) for outcome in outcomes]
        new = [event for event in events if not self._store.read(partial(outbox.is_known, event_id=event.id))]
        if dry_run:
            return len(new), not unquiet
        return sum(self._store.write(partial(self._tell, event=event)) for event in new), not unquiet

    def _tell(self, tx: Transaction, event: Event) -> bool:
        made = outbox.add(tx, event)
        if made:
            tx.after_commit(self._told)
        return made
