"""The table of invoices: the only place that changes an invoice's state, by the table in `core/states.py`.

Every change keeps the sums of its code (`issued`, `paid`, `pending`, `received_msat`) in the same transaction, so that
no question about a code ever counts rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..core.found import payer_data_text
from ..core.labels import Slot
from ..core.records import Invoice
from ..core.states import FINAL, IllegalMove, InvoiceStatus, move
from . import paycodes
from .store import Sql

_COLUMNS = (
    "sequence, paycode_id, idx, payment_hash, status, amount_msat, received_msat, bolt11, created_at,"
    " expires_at, paid_at, moved_at, comment, payer_data, idempotency_key, description, description_hashed,"
    " offer_id, hold, registered"
)
_SELECT = f"SELECT {_COLUMNS} FROM invoices"

#: As the index of open invoices says it, which is found by these words.
_OPEN = "(status = 'reserved' OR status = 'issued' OR status = 'paying' OR status = 'accepted' OR status = 'settling')"

#: The node was told of it, or is still to sign its string, or (a parameter: now) its time is over.
_MAY_CONCERN_NODE = "(registered <> 0 OR status = 'reserved' OR expires_at <= ?)"

#: Values of `registered`: whether the node was told of an invoice, and when.
_NOT, _FROM_THE_START, _LATE = 0, 1, 2

#: States in which an invoice was never handed out.
UNISSUED = frozenset({InvoiceStatus.RESERVED, InvoiceStatus.VOID})


def _record(row: tuple[Any, ...]) -> Invoice:
    (sequence, paycode_id, index, payment_hash, status, amount_msat, received_msat, bolt11, created_at,
     expires_at, paid_at, moved_at, comment, payer_data, idempotency_key, description,
     description_hashed, offer_id, hold, registered) = row  # fmt: skip
    return Invoice(
        sequence=sequence,
        paycode_id=paycode_id,
        index=index,
        payment_hash=payment_hash,
        status=InvoiceStatus(status),
        amount_msat=amount_msat,
        received_msat=received_msat,
        bolt11=bolt11,
        created_at=created_at,
        expires_at=expires_at,
        paid_at=paid_at,
        moved_at=moved_at,
        comment=comment,
        payer_data=None if payer_data is None else json.loads(payer_data),
        idempotency_key=idempotency_key,
        description=description,
        description_hashed=bool(description_hashed),
        offer_id=offer_id,
        hold=bool(hold),
        registered=registered != _NOT,
        registered_late=registered == _LATE,
    )


def _one(sql: Sql, where: str, *parameters: object) -> Invoice | None:
    row = sql.execute(f"{_SELECT} WHERE {where}", parameters).fetchone()
    return None if row is None else _record(row)


def by_slot(sql: Sql, slot: Slot) -> Invoice | None:
    return _one(sql, "paycode_id = ? AND idx = ?", slot.paycode_id, slot.index)


def by_slots(sql: Sql, slots: Iterable[Slot]) -> dict[Slot, Invoice]:
    """The rows of many slots; one that has none is absent."""
    wanted = json.dumps([(slot.paycode_id, slot.index) for slot in slots])
    rows = sql.execute(
        f"SELECT {_COLUMNS} FROM json_each(?) AS w JOIN invoices"
        " ON paycode_id = json_extract(w.value, '$[0]') AND idx = json_extract(w.value, '$[1]')",
        (wanted,),
    )
    return {invoice.slot: invoice for invoice in map(_record, rows)}


def last_index(sql: Sql, paycode_id: str) -> int:
    """The highest index that has a row, 0 when there is none."""
    row = sql.execute("SELECT max(idx) FROM invoices WHERE paycode_id = ?", (paycode_id,)).fetchone()
    return int(row[0] or 0)


def by_hash(sql: Sql, payment_hash: str) -> Invoice | None:
    return _one(sql, "payment_hash = ?", payment_hash)


def by_hashes(sql: Sql, payment_hashes: Iterable[str]) -> dict[str, Invoice]:
    """The rows of many payment hashes; one that has none is absent."""
    rows = sql.execute(
        f"SELECT {_COLUMNS} FROM json_each(?) AS w JOIN invoices ON payment_hash = w.value",
        (json.dumps(list(payment_hashes)),),
    )
    return {invoice.payment_hash: invoice for invoice in map(_record, rows)}


def by_idempotency_key(sql: Sql, paycode_id: str, key: str) -> Invoice | None:
    return _one(sql, "paycode_id = ? AND idempotency_key = ?", paycode_id, key)


def page(
    sql: Sql,
    *,
    paycode_id: str | None = None,
    index: int | None = None,
    payment_hash: str | None = None,
    status: InvoiceStatus | None = None,
    start: int = 0,
    limit: int,
) -> list[Invoice]:
    """Invoices in order of creation from sequence `start` on."""
    where, parameters = ["sequence >= ?"], [start]  # type: list[str], list[Any]
    for column, value in (
        ("paycode_id", paycode_id),
        ("idx", index),
        ("payment_hash", payment_hash),
        ("status", None if status is None else str(status)),
    ):
        if value is not None:
            where.append(f"{column} = ?")
            parameters.append(value)
    rows = sql.execute(f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY sequence LIMIT ?", (*parameters, limit))
    return [_record(row) for row in rows]


def open_slots(
    sql: Sql,
    status: InvoiceStatus,
    *,
    now: int,
    past_time: bool = False,
    after: tuple[int, int] = (-1, -1),
    limit: int,
) -> list[tuple[tuple[int, int], Slot]]:
    """Slots in one open state that are past their time or (not `past_time`) that the node may have or never signed, the
    earliest to expire first, each with the place to go on `after`.
    """
    until = now if past_time else 1 << 62
    rows = sql.execute(
        f"SELECT expires_at, sequence, paycode_id, idx FROM invoices WHERE status = ? AND {_OPEN} AND expires_at <= ?"
        f" AND {_MAY_CONCERN_NODE} AND (expires_at, sequence) > (?, ?)"
        " ORDER BY expires_at, sequence LIMIT ?",
        (str(status), until, now, *after, limit),
    )
    return [((row[0], row[1]), Slot(row[2], row[3])) for row in rows]


def open_between(
    sql: Sql, status: InvoiceStatus, *, now: int, first: Slot, last: int
) -> list[tuple[tuple[int, int], Slot]]:
    """The same of one code, with an index from that of `first` to `last`, in no order."""
    rows = sql.execute(
        "SELECT expires_at, sequence, idx FROM invoices WHERE paycode_id = ? AND idx BETWEEN ? AND ? AND status = ?"
        f" AND {_MAY_CONCERN_NODE}",
        (first.paycode_id, first.index, last, str(status), now),
    )
    return [((row[0], row[1]), Slot(first.paycode_id, row[2])) for row in rows]


def newest_issued(sql: Sql) -> Invoice | None:
    """The last invoice that was made, that the node was told of, and that is still open."""
    return _one(sql, "status = 'issued' AND registered <> 0 ORDER BY sequence DESC LIMIT 1")


def oldest_issued(sql: Sql, *, limit: int) -> list[Invoice]:
    """The first ones likewise, in their order."""
    rows = sql.execute(f"{_SELECT} WHERE status = 'issued' AND registered <> 0 ORDER BY sequence LIMIT ?", (limit,))
    return [_record(row) for row in rows]


def is_any_over(sql: Sql, *, first: int, last: int) -> bool:
    """An issued invoice that the node was never told of has its end from `first` to `last`, in unix seconds."""
    row = sql.execute(
        "SELECT 1 FROM invoices WHERE status = 'issued' AND expires_at BETWEEN ? AND ? AND registered = 0 LIMIT 1",
        (first, last),
    ).fetchone()
    return row is not None


def count_open(sql: Sql, status: InvoiceStatus) -> int:
    row = sql.execute(f"SELECT count(*) FROM invoices WHERE status = ? AND {_OPEN}", (str(status),)).fetchone()
    return int(row[0])


def outlines(
    sql: Sql, paycode_id: str, *, first: int, last: int, limit: int
) -> list[tuple[int, InvoiceStatus, int | None]]:
    """Index, state and received_msat of a code's invoices with an index from `first` to `last`, in their order."""
    rows = sql.execute(
        "SELECT idx, status, received_msat FROM invoices WHERE paycode_id = ? AND idx BETWEEN ? AND ?"
        " ORDER BY idx LIMIT ?",
        (paycode_id, first, last, limit),
    )
    return [(row[0], InvoiceStatus(row[1]), row[2]) for row in rows]


def counts_by_status(sql: Sql) -> dict[str, int]:
    return dict(sql.execute("SELECT status, count(*) FROM invoices GROUP BY status").fetchall())


def insert(
    sql: Sql,
    slot: Slot,
    *,
    payment_hash: str,
    status: InvoiceStatus,
    amount_msat: int,
    created_at: int,
    expires_at: int,
    moved_at: int,
    bolt11: str | None = None,
    received_msat: int | None = None,
    paid_at: int | None = None,
    comment: str | None = None,
    payer_data: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
    description: str | None = None,
    description_hashed: bool = False,
    hold: bool = False,
    registered: bool = True,
) -> Invoice:
    """A new row in any state: `reserved` when it is made here, the node's word when it is found there."""
    row = sql.execute(
        "INSERT INTO invoices (payment_hash, paycode_id, idx, status, amount_msat, received_msat, bolt11,"
        " created_at, expires_at, paid_at, moved_at, comment, payer_data, idempotency_key, description,"
        " description_hashed, hold, registered) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        f" RETURNING {_COLUMNS}",
        (
            payment_hash,
            slot.paycode_id,
            slot.index,
            str(status),
            amount_msat,
            received_msat,
            bolt11,
            created_at,
            expires_at,
            paid_at,
            moved_at,
            comment,
            payer_data_text(payer_data),
            idempotency_key,
            description,
            description_hashed,
            hold,
            _FROM_THE_START if registered else _NOT,
        ),
    ).fetchone()
    paycodes.count(
        sql,
        slot.paycode_id,
        issued=status not in UNISSUED,
        paid=status is InvoiceStatus.PAID,
        pending=status not in FINAL,
        received_msat=received_msat or 0,
        behind_index=slot.index + 1,
    )
    return _record(row)


def change(
    sql: Sql,
    slot: Slot,
    to: InvoiceStatus,
    *,
    now: int,
    bolt11: str | None = None,
    created_at: int | None = None,
    expires_at: int | None = None,
    received_msat: int | None = None,
    paid_at: int | None = None,
) -> Invoice:
    """Move one invoice to another state; raises IllegalMove when the table has no such move."""
    before = get(sql, slot)
    move(before.status, to)
    row = sql.execute(
        "UPDATE invoices SET status = ?, moved_at = ?, created_at = coalesce(?, created_at),"
        " bolt11 = coalesce(bolt11, ?), expires_at = coalesce(?, expires_at), received_msat = ?, paid_at = ?,"
        " idempotency_key = iif(? = 'void', NULL, idempotency_key) WHERE paycode_id = ? AND idx = ?"
        f" RETURNING {_COLUMNS}",
        (str(to), now, created_at, bolt11, expires_at, received_msat, paid_at, str(to), slot.paycode_id, slot.index),
    ).fetchone()
    paycodes.count(
        sql,
        slot.paycode_id,
        issued=(to not in UNISSUED) - (before.status not in UNISSUED),
        paid=to is InvoiceStatus.PAID,
        pending=(to not in FINAL) - (before.status not in FINAL),
        received_msat=received_msat or 0,
    )
    return _record(row)


def mark_registered(sql: Sql, slot: Slot) -> None:
    """Written before the node is told of a lazy or held invoice."""
    sql.execute(
        "UPDATE invoices SET registered = ? WHERE paycode_id = ? AND idx = ?", (_LATE, slot.paycode_id, slot.index)
    )


def open_hashes(sql: Sql) -> list[bytes]:
    """The payment hashes, of 32 bytes, of all invoices that may still be paid."""
    rows = sql.execute(f"SELECT payment_hash FROM invoices WHERE {_OPEN}")
    return [bytes.fromhex(row[0]) for row in rows]


def prune_unregistered(sql: Sql, *, expired_at: int, limit: int) -> int:
    """Forget expired invoices that the node was never told of, those past their time by `expired_at`; how many.

    Their code's sums stay as they are, and count them as `pruned`.
    """
    rows = sql.execute(
        "SELECT sequence, paycode_id FROM invoices WHERE registered = 0 AND status = 'expired' AND expires_at <= ?"
        " ORDER BY expires_at LIMIT ?",
        (expired_at, limit),
    ).fetchall()
    for sequence, paycode_id in rows:
        sql.execute("DELETE FROM invoices WHERE sequence = ?", (sequence,))
        sql.execute("UPDATE paycodes SET pruned = pruned + 1 WHERE paycode_id = ?", (paycode_id,))
    return len(rows)


def get(sql: Sql, slot: Slot) -> Invoice:
    """The row, which must exist."""
    invoice = by_slot(sql, slot)
    if invoice is None:
        raise LookupError(f"no row for {slot.label}")
    return invoice


def forget(sql: Sql, slot: Slot) -> None:
    """Remove a `reserved` row whose index turned out to belong to an invoice that the node has had before."""
    before = get(sql, slot)
    if before.status is not InvoiceStatus.RESERVED:
        raise IllegalMove(f"an invoice in state {before.status} is never forgotten")
    sql.execute("DELETE FROM invoices WHERE paycode_id = ? AND idx = ?", (slot.paycode_id, slot.index))
    paycodes.count(sql, slot.paycode_id, pending=-1)
