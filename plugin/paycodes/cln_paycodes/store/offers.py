"""The table of offers, and the payments of them among the invoices.

A payment of an offer is a row of `invoices` in state `paid`, with a negative index: it uses none of its code's own, and
no walk over those meets it. Its sums are kept with the offer, not with the code.
"""

from __future__ import annotations

from typing import Any

from ..core.offers import Promise
from ..core.records import Invoice, NodeInvoice, Offer
from ..core.states import InvoiceStatus
from . import invoices
from .store import Sql

_COLUMNS = "offer_id, paycode_id, amount_msat, text_hash, bolt12, active, paid, received_msat, created_at"
_SELECT = f"SELECT {_COLUMNS} FROM offers"


def _record(row: tuple[Any, ...]) -> Offer:
    offer_id, paycode_id, amount_msat, text_hash, bolt12, active, paid, received_msat, created_at = row
    return Offer(
        offer_id=offer_id,
        promise=Promise(paycode_id, amount_msat, text_hash),
        bolt12=bolt12,
        active=bool(active),
        paid=paid,
        received_msat=received_msat,
        created_at=created_at,
    )


def by_id(sql: Sql, offer_id: str) -> Offer | None:
    row = sql.execute(f"{_SELECT} WHERE offer_id = ?", (offer_id,)).fetchone()
    return None if row is None else _record(row)


def of_paycode(sql: Sql, paycode_id: str) -> list[Offer]:
    """All that the code ever had, the oldest first."""
    rows = sql.execute(f"{_SELECT} WHERE paycode_id = ? ORDER BY created_at, rowid", (paycode_id,))
    return [_record(row) for row in rows]


def paycodes_with_offers(sql: Sql) -> list[str]:
    return [row[0] for row in sql.execute("SELECT DISTINCT paycode_id FROM offers")]


def save(sql: Sql, *, offer_id: str, promise: Promise, bolt12: str, active: bool, now: int) -> None:
    """Insert the offer as the node has it, or note whether it is active."""
    sql.execute(
        "INSERT INTO offers (offer_id, paycode_id, amount_msat, text_hash, bolt12, active, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (offer_id) DO UPDATE SET active = excluded.active",
        (offer_id, promise.paycode_id, promise.amount_msat, promise.text_hash, bolt12, active, now),
    )


def add_payment(sql: Sql, offer: Offer, fact: NodeInvoice, *, comment: str | None, now: int) -> Invoice | None:
    """A payment that the node says it got; None when it is in the books already."""
    if invoices.by_hash(sql, fact.payment_hash) is not None:
        return None
    paycode_id = offer.promise.paycode_id
    lowest = sql.execute("SELECT min(idx) FROM invoices WHERE paycode_id = ?", (paycode_id,)).fetchone()[0]
    sql.execute(
        "INSERT INTO invoices (payment_hash, paycode_id, idx, status, amount_msat, received_msat, bolt11, created_at,"
        " expires_at, paid_at, moved_at, comment, description, offer_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            fact.payment_hash,
            paycode_id,
            min(lowest or 0, 0) - 1,
            str(InvoiceStatus.PAID),
            fact.amount_msat or 0,
            fact.received_msat,
            fact.bolt12,
            now,
            fact.expires_at,
            fact.paid_at,
            now,
            comment,
            fact.description,
            offer.offer_id,
        ),
    )
    sql.execute(
        "UPDATE offers SET paid = paid + 1, received_msat = received_msat + ? WHERE offer_id = ?",
        (fact.received_msat or 0, offer.offer_id),
    )
    return invoices.by_hash(sql, fact.payment_hash)
