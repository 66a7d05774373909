"""Rows of invoices that only the node had: a lost sidecar gets back many thousands of them, so they go in together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ..core.found import Found
from ..core.states import FINAL, InvoiceStatus
from . import paycodes
from .invoices import UNISSUED
from .store import Sql


def insert(sql: Sql, found: Sequence[Found]) -> None:
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
        statuses = Counter([entry.status for entry in of_code])
        paycodes.count(
            sql,
            paycode_id,
            issued=statuses.total() - sum(statuses[status.value] for status in UNISSUED),
            paid=statuses[InvoiceStatus.PAID.value],
            pending=statuses.total() - sum(statuses[status.value] for status in FINAL),
            received_msat=sum(entry.received_msat or 0 for entry in of_code),
            behind_index=max(entry.index for entry in of_code) + 1,
        )


def among(sql: Sql, indexes: Mapping[str, Sequence[int]]) -> bool:
    """Some invoice of these codes with an index within these, from the lowest to the highest, has a row."""
    return any(
        sql.execute(
            "SELECT 1 FROM invoices WHERE paycode_id = ? AND idx BETWEEN ? AND ? LIMIT 1",
            (paycode_id, min(of_code), max(of_code)),
        ).fetchone()
        for paycode_id, of_code in indexes.items()
    )
