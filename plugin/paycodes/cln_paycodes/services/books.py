"""The books of invoices: every change of one goes through here, with the event that it causes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .. import crash
from ..core.answers import invoice_event
from ..core.bolt11 import commits_to_hash, timestamp_of
from ..core.events import EventType
from ..core.labels import Slot
from ..core.lnurl import payer_data_of
from ..core.reconciliation import STATUS_OF_NODE, Finding, judge
from ..core.records import Invoice, NodeInvoice
from ..core.states import InvoiceStatus
from ..node.port import Node
from ..store import invoices, outbox
from ..store.store import Store
from ..store.writer import Transaction
from .registry import Registry

log = logging.getLogger(__name__)

_S = InvoiceStatus

#: Moves that are told.
_TOLD = {_S.PAID: EventType.INVOICE_PAID, _S.EXPIRED: EventType.INVOICE_EXPIRED}


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
        told: Callable[[], None],
    ) -> None:
        """`changed` is called after each commit that moved an invoice, `told` after one that made an event."""
        self._store = store
        self._node = node
        self._registry = registry
        self._node_id = node_id
        self._clock = clock
        self._changed = changed
        self._told = told

    def by_slot(self, slot: Slot) -> Invoice | None:
        return self._store.read(lambda sql: invoices.by_slot(sql, slot))

    def settle_with_node(self, slot: Slot) -> Invoice | None:
        """Ask the node about one slot and bring its row to what the node says; the row afterwards."""
        fact = self._node.invoice_by_label(slot.label)
        crash.point("paid:asked")
        finding = self.judge(slot, fact)
        if finding is not None and fact is not None and finding.to is not None:
            self.apply(finding, fact).result()
            crash.point("paid:recorded")
        return self.by_slot(slot)

    def judge(self, slot: Slot, fact: NodeInvoice | None) -> Finding | None:
        return judge(slot, self.by_slot(slot), fact, payment_hash=self.payment_hash(slot), now=self._clock())

    def payment_hash(self, slot: Slot) -> str | None:
        """The hash that the slot's code derives, in hex; None when the code is not defined here."""
        root = self._registry.root_by_id(slot.paycode_id)
        return None if root is None else root.invoice(slot.index).payment_hash.hex()

    def apply(self, finding: Finding, fact: NodeInvoice | None) -> Future[bool]:
        """Carry out a finding that has a target state; the future is done on disk, True when it made an event.

        The row is judged again inside the transaction: what another thread did meanwhile is not done twice.
        """
        slot, payment_hash = finding.slot, self.payment_hash(finding.slot)

        def job(tx: Transaction) -> bool:
            now = self._clock()
            row = invoices.by_slot(tx, slot)
            if judge(slot, row, fact, payment_hash=payment_hash, now=now) != finding:
                return False
            assert finding.to is not None
            if row is None:
                assert fact is not None
                after = self._adopt(tx, slot, fact, now)
            else:
                after = self._move(tx, row, finding.to, fact)
            return self._tell(tx, after, now)

        return self._store.submit(job)

    def change(self, tx: Transaction, slot: Slot, to: InvoiceStatus, **fields: Any) -> Invoice:
        """Move one invoice, and tell those who wait for it once that is on disk."""
        after = invoices.change(tx, slot, to, now=self._clock(), **fields)
        tx.after_commit(lambda: self._changed(after))
        return after

    def _adopt(self, tx: Transaction, slot: Slot, fact: NodeInvoice, now: int) -> Invoice:
        adopted = invoices.insert(
            tx,
            slot,
            payment_hash=fact.payment_hash,
            status=STATUS_OF_NODE[fact.status],
            amount_msat=fact.amount_msat or 0,
            received_msat=fact.received_msat,
            bolt11=fact.bolt11,
            created_at=now if fact.bolt11 is None else timestamp_of(fact.bolt11),
            expires_at=fact.expires_at,
            paid_at=fact.paid_at,
            moved_at=now,
            payer_data=payer_data_of(fact.description or ""),
            description=fact.description,
            description_hashed=fact.bolt11 is not None and commits_to_hash(fact.bolt11),
        )
        tx.after_commit(lambda: self._changed(adopted))
        return adopted

    def _move(self, tx: Transaction, row: Invoice, to: InvoiceStatus, fact: NodeInvoice | None) -> Invoice:
        bolt11 = None if fact is None else fact.bolt11
        expires_at = None if fact is None else fact.expires_at
        if row.status is _S.RESERVED and to not in (_S.ISSUED, _S.VOID):
            self.change(tx, row.slot, _S.ISSUED, bolt11=bolt11, expires_at=expires_at)
        return self.change(
            tx,
            row.slot,
            to,
            bolt11=bolt11,
            expires_at=expires_at,
            received_msat=fact.received_msat if fact is not None and to is _S.PAID else None,
            paid_at=fact.paid_at if fact is not None and to is _S.PAID else None,
        )

    def _tell(self, tx: Transaction, invoice: Invoice, now: int) -> bool:
        """The event of the state that the invoice has just got; True when it is new."""
        event_type = _TOLD.get(invoice.status)
        if event_type is None:
            return False
        made = outbox.add(tx, invoice_event(self._node_id, event_type, invoice), now=now)
        if made:
            tx.after_commit(self._told)
        return made
