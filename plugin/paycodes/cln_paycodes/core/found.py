"""Invoices of ours that only the node has: what they become in the books, as far as that is known without them.

A lost sidecar gets back many thousands of them, so all of it are tuples, which cost a fifth of frozen dataclasses; and
on their way from the node into the books plain ones, which `sqlite3` takes as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

from .answers import TOLD, invoice_event
from .bolt11 import commits_to_hash, timestamp_of
from .events import EventRow
from .json_text import compact
from .keys import RootKey
from .labels import Slot
from .lnurl import payer_data_of
from .reconciliation import STATUS_OF_NODE, foreignness
from .records import Invoice, NodeInvoice
from .states import FINAL, InvoiceStatus

_STATUS_OF_NODE = {word: status.value for word, status in STATUS_OF_NODE.items()}

_TOLD = {status.value: event_type for status, event_type in TOLD.items()}

_PAID = InvoiceStatus.PAID.value

_OPEN = frozenset(status.value for status in InvoiceStatus if status not in FINAL)


#: A `Found` as a plain tuple.
Columns = tuple[Any, ...]


class Found(NamedTuple):
    """An invoice as the node lists it: a row, with its columns in the order in which they are stored."""

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
    #: 0 or 1
    description_hashed: int

    @property
    def invoice(self) -> Invoice:
        """As it is read from the books, but for its place in them."""
        return Invoice(
            sequence=0,
            paycode_id=self.paycode_id,
            index=self.index,
            payment_hash=self.payment_hash,
            status=InvoiceStatus(self.status),
            amount_msat=self.amount_msat,
            received_msat=self.received_msat,
            bolt11=self.bolt11,
            created_at=self.created_at,
            expires_at=self.expires_at,
            paid_at=self.paid_at,
            moved_at=self.moved_at,
            comment=None,
            payer_data=None if self.payer_data is None else json.loads(self.payer_data),
            idempotency_key=None,
            description=self.description,
            description_hashed=bool(self.description_hashed),
            offer_id=None,
            hold=False,
            registered=True,
            registered_late=False,
        )


_PAYMENT_HASH, _PAYCODE_ID, _INDEX, _STATUS, _RECEIVED_MSAT = (
    Found._fields.index(name) for name in ("payment_hash", "paycode_id", "index", "status", "received_msat")
)


def columns_of(slot: Slot, fact: NodeInvoice, *, now: int) -> Columns:
    """Those of `Found`."""
    string, description = fact.bolt11, fact.description
    return (
        fact.payment_hash,
        slot.paycode_id,
        slot.index,
        _STATUS_OF_NODE[fact.status],
        fact.amount_msat or 0,
        fact.received_msat,
        string,
        now if string is None else timestamp_of(string),
        fact.expires_at,
        fact.paid_at,
        now,
        None if description is None else payer_data_text(payer_data_of(description)),
        description,
        0 if string is None else int(commits_to_hash(string)),
    )


def event_of(columns: Columns, node_id: str) -> EventRow | None:
    """What is told of a row, in the state that it was found in."""
    event_type = _TOLD.get(columns[_STATUS])
    if event_type is None:
        return None
    return EventRow.of(invoice_event(node_id, event_type, Found._make(columns).invoice))


def by_code(rows: Iterable[Columns]) -> dict[str, list[Columns]]:
    """By paycode_id."""
    found: dict[str, list[Columns]] = {}
    for row in rows:
        found.setdefault(row[_PAYCODE_ID], []).append(row)
    return found


def slot_of(row: Columns) -> Slot:
    return Slot(row[_PAYCODE_ID], row[_INDEX])


def indexes_of(rows: Iterable[Columns]) -> list[int]:
    return [row[_INDEX] for row in rows]


def paid_of(rows: Iterable[Columns]) -> list[tuple[int, int | None]]:
    """Index and received_msat of those that are paid."""
    return [(row[_INDEX], row[_RECEIVED_MSAT]) for row in rows if row[_STATUS] == _PAID]


def open_hashes_of(rows: Iterable[Columns]) -> list[str]:
    """Payment hashes of those that may still be paid."""
    return [row[_PAYMENT_HASH] for row in rows if row[_STATUS] in _OPEN]


def payer_data_text(payer_data: dict[str, Any] | None) -> str | None:
    return None if payer_data is None else compact(payer_data)


def derived(slots: Collection[Slot], root_of: Callable[[str], RootKey | None]) -> Iterator[str | None]:
    """The payment hash of each slot; None when its code is unknown."""
    indexes: dict[str, list[int]] = {}
    for paycode_id, index in slots:
        indexes.setdefault(paycode_id, []).append(index)
    hashes: dict[str, Iterator[str | None]] = {}
    for paycode_id, of_code in indexes.items():
        root = root_of(paycode_id)
        hashes[paycode_id] = repeat(None) if root is None else iter(root.payment_hashes(of_code))
    return (next(hashes[paycode_id]) for paycode_id, _ in slots)


def prove(slot: Slot, fact: NodeInvoice, payment_hash: str | None, *, now: int) -> Columns | None:
    """The row of an invoice that is taken over if the books have none: its hash is the one that its code derives.

    None for all that this does not decide: an unknown code, what contradicts, payments by offers.
    """
    if fact.offer_id is not None or foreignness(slot, fact, payment_hash) is not None:
        return None
    return columns_of(slot, fact, now=now)
