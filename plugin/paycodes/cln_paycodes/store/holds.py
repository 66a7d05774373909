"""The table of holds: what of a held invoice is not in its own row. Its state is the invoice's."""

from __future__ import annotations

import json
from typing import Any

from ..core.htlcs import Key
from ..core.records import Hold
from ..core.states import InvoiceStatus
from .store import Sql

_SELECT = (
    "SELECT h.payment_hash, i.paycode_id, i.idx, i.status, h.parts, h.amount_msat, h.accepted_at,"
    " h.claim_deadline_height, h.reason FROM holds h JOIN invoices i USING (payment_hash)"
)


def _record(row: tuple[Any, ...]) -> Hold:
    payment_hash, paycode_id, index, status, parts, amount_msat, accepted_at, deadline, reason = row
    return Hold(
        payment_hash=payment_hash,
        paycode_id=paycode_id,
        index=index,
        status=InvoiceStatus(status),
        parts=frozenset((scid, number) for scid, number in json.loads(parts)),
        amount_msat=amount_msat,
        accepted_at=accepted_at,
        claim_deadline_height=deadline,
        reason=reason,
    )


def by_hash(sql: Sql, payment_hash: str) -> Hold | None:
    row = sql.execute(f"{_SELECT} WHERE h.payment_hash = ?", (payment_hash,)).fetchone()
    return None if row is None else _record(row)


def pending(sql: Sql) -> list[Hold]:
    """Those that are not at their end, the most urgent first."""
    rows = sql.execute(f"{_SELECT} WHERE i.status IN ('accepted', 'settling') ORDER BY h.claim_deadline_height")
    return [_record(row) for row in rows]


def insert(
    sql: Sql, payment_hash: str, *, parts: list[Key], amount_msat: int, accepted_at: int, claim_deadline_height: int
) -> None:
    sql.execute(
        "INSERT INTO holds (payment_hash, parts, amount_msat, accepted_at, claim_deadline_height)"
        " VALUES (?, ?, ?, ?, ?)",
        (payment_hash, json.dumps(parts), amount_msat, accepted_at, claim_deadline_height),
    )


def set_reason(sql: Sql, payment_hash: str, reason: str) -> None:
    """Why it was canceled, for a person."""
    sql.execute("UPDATE holds SET reason = ? WHERE payment_hash = ?", (reason, payment_hash))
