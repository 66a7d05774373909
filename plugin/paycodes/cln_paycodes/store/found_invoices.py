"""Rows of invoices that only the node had: a lost sidecar gets back many thousands of them, so they go in together."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from ..core.labels import Slot
from ..core.records import NodeInvoice
from ..core.states import FINAL, InvoiceStatus
from . import paycodes
from .invoices import UNISSUED, payer_data_text
from .store import Sql


class Found(NamedTuple):
    """An invoice as the node lists it: a row, with its columns in the order of the statement below."""

    payment_hash: str
    paycode_id: str
    index: int  # type: ignore[assignment] # the tuple's own `index` searches it, which nobody does
    #: one of InvoiceStatus, as text
    status: str
    amount_msat: int
    received_msat: int | None
    bolt11: str | None
    created_at: int
    expires_at: int
    paid_at: int | None
    moved_at: int
    #: JSON
    payer_data: str | None
    description: str | None
    description_hashed: bool

    @classmethod
    def of(
        cls,
        slot: Slot,
        fact: NodeInvoice,
        status: InvoiceStatus,
        *,
        created_at: int,
        moved_at: int,
        payer_data: dict[str, Any] | None,
        description_hashed: bool,
    ) -> Found:
        return cls(
            fact.payment_hash,
            slot.paycode_id,
            slot.index,
            status.value,
            fact.amount_msat or 0,
            fact.received_msat,
            fact.bolt11,
            created_at,
            fact.expires_at,
            fact.paid_at,
            moved_at,
            payer_data_text(payer_data),
            fact.description,
            description_hashed,
        )

    @property
    def is_open(self) -> bool:
        """It may still be paid."""
        return InvoiceStatus(self.status) not in FINAL


def insert(sql: Sql, found: list[Found]) -> None:
    """New rows of what the node lists, all at once: a lost sidecar gets back many thousands of them."""
    sql.executemany(
        "INSERT INTO invoices (payment_hash, paycode_id, idx, status, amount_msat, received_msat, bolt11,"
        " created_at, expires_at, paid_at, moved_at, payer_data, description, description_hashed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        found,
    )
    by_code: dict[str, list[Found]] = {}
    for entry in found:
        by_code.setdefault(entry.paycode_id, []).append(entry)
    for paycode_id, of_code in by_code.items():
        statuses = Counter(entry.status for entry in of_code)
        paycodes.count(
            sql,
            paycode_id,
            issued=statuses.total() - sum(statuses[status.value] for status in UNISSUED),
            paid=statuses[InvoiceStatus.PAID.value],
            pending=statuses.total() - sum(statuses[status.value] for status in FINAL),
            received_msat=sum(entry.received_msat or 0 for entry in of_code),
            behind_index=max(entry.index for entry in of_code) + 1,
        )
