"""The books of invoices: every change of one goes through here, with the event that it causes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, NamedTuple

from .. import crash
from ..core.answers import TOLD, invoice_event
from ..core.bolt11 import timestamp_of
from ..core.events import Event, EventType, event_id
from ..core.found import Columns, columns_of, event_of, open_hashes_of, slot_of
from ..core.keys import InvoiceKeys
from ..core.labels import Slot
from ..core.reconciliation import INTENT_STALE_S, NO_EVIDENCE, Evidence, Finding, FindingKind, judge
from ..core.records import Invoice, NodeInvoice
from ..core.states import IllegalMove, InvoiceStatus
from ..node.port import Node
from ..store import found_invoices, invoices, outbox
from ..store.store import Store
from ..store.writer import Rejected, Transaction
from .registry import Registry

log = logging.getLogger(__name__)

_S = InvoiceStatus

#: States that a row goes through on its way to what the node says: the table has no direct move.
_PASSED = {
    (_S.RESERVED, _S.PAID): (_S.ISSUED,),
    (_S.RESERVED, _S.EXPIRED): (_S.ISSUED,),
    (_S.ACCEPTED, _S.PAID): (_S.SETTLING,),
}


class Repair(NamedTuple):
    """A finding with all that it was judged by."""

    finding: Finding
    fact: NodeInvoice | None
    #: what the code derives for the slot
    payment_hash: str | None
    evidence: Evidence = NO_EVIDENCE


class Books:
    def __init__(
        self,
        store: Store,
        node: Node,
        registry: Registry,
        *,
        node_id: str,
        clock: Callable[[], int],
        changed: Callable[[Invoice], None],
        awaited: Callable[[], Collection[Slot]],
        opened: Callable[[list[str]], None],
        told: Callable[[], None],
    ) -> None:
        """`changed` is called after each commit that moved an invoice (a new one if it is among those `awaited` now),
        `opened` with the payment hashes that were taken over from the node and may be paid, `told` after a commit that
        made an event.
        """
        self._store = store
        self._node = node
        self._registry = registry
        self.node_id = node_id
        self._clock = clock
        self._changed = changed
        self._awaited = awaited
        self._opened = opened
        self._told = told
        #: when the hook last saw a payment for a slot, by the monotonic clock
        self._intents: dict[Slot, float] = {}

    def by_slot(self, slot: Slot) -> Invoice | None:
        return self._store.read(lambda sql: invoices.by_slot(sql, slot))

    def settle_with_node(self, slot: Slot) -> Invoice | None:
        """Ask the node about one slot and bring its row to what the node says; the row afterwards."""
        self.settle_together([slot])
        return self.by_slot(slot)

    def settle_together(self, slots: Iterable[Slot]) -> None:
        """The same for many slots: they are asked for at once, and share a transaction.

        Raises NodeRefused or NodeUnknown before anything is written, and what one of them could not be written for
        after the others were.
        """
        asked = [(slot, self._node.begin_look(slot.label)) for slot in slots]
        facts = {slot: fact for slot, answer in asked if (fact := answer.result()) is not None}
        crash.point("paid:asked")
        repairs = self._repairs(facts)
        if not repairs:
            return
        failed = self._store.write(partial(self._carry_out_each, repairs=repairs))
        crash.point("paid:recorded")
        if failed:
            raise failed[0]

    def _repairs(self, facts: dict[Slot, NodeInvoice]) -> list[Repair]:
        """What the node's words change."""
        rows, repairs = self._store.read(lambda sql: invoices.by_slots(sql, facts)), []
        for slot, fact in facts.items():
            row = rows.get(slot)
            payment_hash = self.payment_hash(slot) if row is None else row.payment_hash
            intent_fresh = self.intent_fresh(slot)
            finding = judge(slot, row, fact, payment_hash=payment_hash, now=self._clock(), intent_fresh=intent_fresh)
            if finding is not None and finding.to is not None:
                repairs.append(Repair(finding=finding, fact=fact, payment_hash=payment_hash))
        return repairs

    def _carry_out_each(self, tx: Transaction, repairs: list[Repair]) -> list[Exception]:
        """Each on its own; the errors of those that could not be carried out."""
        failed: list[Exception] = []
        for repair in repairs:
            try:
                with tx.part():
                    self.carry_out(tx, repair)
            except (IllegalMove, Rejected, LookupError) as e:
                failed.append(e)
        return failed

    def would_tell(self, to: InvoiceStatus | None, payment_hash: str) -> bool:
        """An invoice that gets this state would cause an event that was never made."""
        event_type = TOLD.get(to) if to is not None else None
        if event_type is None:
            return False
        known = event_id(self.node_id, event_type, payment_hash)
        return not self._store.read(partial(outbox.is_known, event_id=known))

    def note_intent(self, slot: Slot) -> None:
        """The hook sees a payment for this slot: what it leads to may take a moment."""
        self._intents[slot] = time.monotonic()

    def _forget_intent(self, slot: Slot) -> None:
        self._intents.pop(slot, None)

    def intent_fresh(self, slot: Slot) -> bool:
        """The hook saw a payment for this slot a moment ago, in this process, whatever the clock of the day says."""
        seen_at = self._intents.get(slot)
        if seen_at is None:
            return False
        if time.monotonic() - seen_at < INTENT_STALE_S:
            return True
        self._forget_intent(slot)
        return False

    def keys(self, slot: Slot) -> InvoiceKeys | None:
        """What the slot's code derives; None when the code is not defined here."""
        root = self._registry.root_by_id(slot.paycode_id)
        return None if root is None else root.invoice(slot.index)

    def payment_hash(self, slot: Slot) -> str | None:
        """In hex, likewise."""
        keys = self.keys(slot)
        return None if keys is None else keys.payment_hash.hex()

    def carry_out(self, tx: Transaction, repair: Repair) -> bool:
        """Change what the finding says, and make its event; True when that is new.

        The row is judged again inside the transaction: what another thread did meanwhile is not done twice.
        """
        finding, fact, now = repair.finding, repair.fact, self._clock()
        row = invoices.by_slot(tx, finding.slot)
        again = judge(
            finding.slot,
            row,
            fact,
            payment_hash=repair.payment_hash,
            now=now,
            intent_fresh=self.intent_fresh(finding.slot),
            evidence=repair.evidence,
        )
        if again != finding:
            return False
        if finding.kind is FindingKind.ADOPTED:
            assert fact is not None
            if row is not None:
                invoices.forget(tx, finding.slot)
            found = columns_of(finding.slot, fact, now=now)
            made = self.adopt(tx, [found])
            found_invoices.count(tx, [found])
            if made:
                tx.after_commit(self._told)
            return bool(made)
        assert row is not None
        after = self._move(tx, row, repair)
        if after.status is _S.PAID:
            tx.after_commit(partial(self._forget_intent, after.slot))
        return self._tell(tx, after)

    def record_paid(self, tx: Transaction, slot: Slot, evidence: Evidence) -> None:
        """Money came in for an invoice that the node no longer lists; what is paid already stays as it is."""
        row = invoices.get(tx, slot)
        if row.status is not _S.PAID:
            finding = Finding(kind=FindingKind.CONFIRMED, slot=slot, to=_S.PAID)
            paid = Repair(finding=finding, fact=None, payment_hash=row.payment_hash, evidence=evidence)
            self._tell(tx, self._move(tx, row, paid))

    def change(self, tx: Transaction, slot: Slot, to: InvoiceStatus, **fields: Any) -> Invoice:
        """Move one invoice, and tell those who wait for it once that is on disk."""
        string = fields.get("bolt11")
        if to is _S.ISSUED and string is not None:
            fields["created_at"] = timestamp_of(string)  # the node's time, which a rebuilt sidecar will read there
        after = invoices.change(tx, slot, to, now=self._clock(), **fields)
        tx.after_commit(lambda: self._changed(after))
        return after

    def adopt(self, tx: Transaction, found: list[Columns]) -> int:
        """Take over invoices of ours that have no row, with their events; how many of these are new: the caller sees to
        it that they are told, and counts the rows in the sums of their codes.
        """
        found_invoices.insert(tx, found)
        tx.after_commit(partial(self._wake, found))
        tx.after_commit(partial(self._opened, open_hashes_of(found)))
        events = (event_of(row, self.node_id) for row in found)
        return outbox.add_rows(tx, [event for event in events if event is not None])

    def tell(self) -> None:
        """There are new events on disk."""
        self._told()

    def _wake(self, found: list[Columns]) -> None:
        """Asked after the commit: who waits from now on sees the rows."""
        awaited = self._awaited()
        if not awaited:
            return
        for slot in [slot for slot in map(slot_of, found) if slot in awaited]:
            invoice = self.by_slot(slot)
            if invoice is not None:
                self._changed(invoice)

    def _move(self, tx: Transaction, row: Invoice, repair: Repair) -> Invoice:
        fact, evidence, to = repair.fact, repair.evidence, repair.finding.to
        assert to is not None
        string, expires_at = None, None
        if fact is not None and row.bolt11 is None:  # what was handed out stays as it is
            string, expires_at = fact.bolt11, fact.expires_at
        for passed in _PASSED.get((row.status, to), ()):
            self.change(tx, row.slot, passed, bolt11=string, expires_at=expires_at)
        paid: dict[str, int | None] = {}
        if to is _S.PAID:
            source = evidence if fact is None else fact
            paid = {"received_msat": source.received_msat, "paid_at": source.paid_at}
        return self.change(tx, row.slot, to, bolt11=string, expires_at=expires_at, **paid)

    def _tell(self, tx: Transaction, invoice: Invoice) -> bool:
        """The event of the state that the invoice has just got; True when it is new."""
        event_type = TOLD.get(invoice.status)
        if event_type is None:
            return False
        if invoice.hold and invoice.status is _S.PAID:
            self._add(tx, invoice_event(self.node_id, EventType.HOLD_SETTLED, invoice))
        return self._add(tx, invoice_event(self.node_id, event_type, invoice))

    def _add(self, tx: Transaction, event: Event) -> bool:
        made = outbox.add(tx, event)
        if made:
            tx.after_commit(self._told)
        return made
