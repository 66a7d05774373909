"""Rows of invoices that only the node had: a lost sidecar gets back many thousands of them, so they go in together."""

from __future__ import annotations

from collections.abc import Iterable

from ..core.found import Columns, by_code, indexes_of, open_hashes_of, paid_of
from ..core.labels import Slot
from . import paycodes
from .store import Sql


def insert(sql: Sql, found: Iterable[Columns]) -> None:
    """New rows of what the node lists; they are still to be counted."""
    sql.executemany(
        "INSERT INTO invoices (payment_hash, paycode_id, idx, status, amount_msat, received_msat, bolt11,"
        " created_at, expires_at, paid_at, moved_at, payer_data, description, description_hashed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        found,
    )


def count(sql: Sql, found: Iterable[Columns]) -> None:
    """In the sums of their codes, all at once: a lost sidecar gets back many thousands of them."""
    for paycode_id, rows in by_code(found).items():
        received = paid_of(rows)
        paycodes.count(
            sql,
            paycode_id,
            issued=len(rows),
            paid=len(received),
            pending=len(open_hashes_of(rows)),
            received_msat=sum(received_msat or 0 for _, received_msat in received),
            behind_index=max(indexes_of(rows)) + 1,
        )


def among(sql: Sql, slots: Iterable[Slot]) -> bool:
    """Some invoice of the codes of these slots, with an index from the lowest to the highest of them, has a row."""
    indexes: dict[str, list[int]] = {}
    for slot in slots:
        indexes.setdefault(slot.paycode_id, []).append(slot.index)
    return any(
        sql.execute(
            "SELECT 1 FROM invoices WHERE paycode_id = ? AND idx BETWEEN ? AND ? LIMIT 1",
            (paycode_id, min(of_code), max(of_code)),
        ).fetchone()
        for paycode_id, of_code in indexes.items()
    )
