"""The table of paycodes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..core.definitions import PaycodeDefinition
from ..core.records import Paycode
from ..core.terms import Issue, PaycodeStatus, Terms
from .store import Sql

_COLUMNS = (
    "paycode_id, number, label, description, user, min_msat, max_msat, expiry, comment_chars, issue, hold,"
    " max_pending, status, sealed_root, next_index, reserved_index, listed_from, issued, paid, received_msat, pending,"
    " mirrored, created_at, updated_at"
)
_SELECT = f"SELECT {_COLUMNS} FROM paycodes"


def _record(row: tuple[Any, ...]) -> Paycode:
    (paycode_id, number, label, description, user, min_msat, max_msat, expiry, comment_chars, issue, hold,
     max_pending, status, sealed_root, next_index, reserved_index, listed_from, issued, paid, received_msat, pending,
     mirrored, created_at, updated_at) = row  # fmt: skip
    return Paycode(
        paycode_id=paycode_id,
        number=number,
        terms=_terms(label, description, user, min_msat, max_msat, expiry, comment_chars, issue, hold, max_pending),
        status=PaycodeStatus(status),
        sealed_root=sealed_root,
        next_index=next_index,
        reserved_index=reserved_index,
        listed_from=listed_from,
        issued=issued,
        paid=paid,
        received_msat=received_msat,
        pending=pending,
        mirrored=bool(mirrored),
        created_at=created_at,
        updated_at=updated_at,
    )


@lru_cache(maxsize=1024)
def _terms(
    label: str,
    description: str,
    user: str | None,
    min_msat: int,
    max_msat: int | None,
    expiry: int,
    comment_chars: int,
    issue: str,
    hold: int,
    max_pending: int | None,
) -> Terms:
    """Kept, as the same few are read with every invoice, and checking them takes longer than reading them."""
    return Terms(
        label=label,
        description=description,
        user=user,
        min_msat=min_msat,
        max_msat=max_msat,
        expiry=expiry,
        comment_chars=comment_chars,
        issue=Issue(issue),
        hold=bool(hold),
        max_pending=max_pending,
    )


def _one(sql: Sql, where: str, *parameters: object) -> Paycode | None:
    row = sql.execute(f"{_SELECT} WHERE {where}", parameters).fetchone()
    return None if row is None else _record(row)


def by_id(sql: Sql, paycode_id: str) -> Paycode | None:
    return _one(sql, "paycode_id = ?", paycode_id)


def by_label(sql: Sql, label: str) -> Paycode | None:
    return _one(sql, "label = ?", label)


def by_user(sql: Sql, user: str) -> Paycode | None:
    return _one(sql, "user = ?", user)


def by_prefix(sql: Sql, prefix: str) -> list[Paycode]:
    """At most two codes whose id begins with `prefix` (hex): two mean that it is not unique."""
    rows = sql.execute(f"{_SELECT} WHERE paycode_id >= ? AND paycode_id < ? LIMIT 2", (prefix, prefix + "g"))
    return [_record(row) for row in rows]


def every(sql: Sql) -> list[Paycode]:
    """All codes in order of creation."""
    return [_record(row) for row in sql.execute(f"{_SELECT} ORDER BY created_at, rowid")]


def unmirrored(sql: Sql) -> list[Paycode]:
    """Codes whose definition in the node's datastore is not the one here."""
    return [_record(row) for row in sql.execute(f"{_SELECT} WHERE NOT mirrored")]


def next_number(sql: Sql) -> int:
    return int(sql.execute("SELECT coalesce(max(number), -1) + 1 FROM paycodes").fetchone()[0])


def insert(sql: Sql, definition: PaycodeDefinition, *, next_index: int, mirrored: bool) -> None:
    terms = definition.terms
    sql.execute(
        "INSERT INTO paycodes (paycode_id, number, label, description, user, min_msat, max_msat, expiry,"
        " comment_chars, issue, hold, max_pending, status, sealed_root, next_index, reserved_index, listed_from,"
        " mirrored, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            definition.paycode_id,
            definition.number,
            terms.label,
            terms.description,
            terms.user,
            terms.min_msat,
            terms.max_msat,
            terms.expiry,
            terms.comment_chars,
            str(terms.issue),
            terms.hold,
            terms.max_pending,
            str(definition.status),
            definition.sealed_root,
            next_index,
            definition.reserved_index,
            definition.listed_from,
            mirrored,
            definition.created_at,
            definition.updated_at,
        ),
    )


def set_terms(sql: Sql, paycode_id: str, terms: Terms, *, now: int) -> None:
    sql.execute(
        "UPDATE paycodes SET label = ?, description = ?, user = ?, min_msat = ?, max_msat = ?, expiry = ?,"
        " comment_chars = ?, issue = ?, hold = ?, max_pending = ?, mirrored = 0, updated_at = ?"
        " WHERE paycode_id = ?",
        (
            terms.label,
            terms.description,
            terms.user,
            terms.min_msat,
            terms.max_msat,
            terms.expiry,
            terms.comment_chars,
            str(terms.issue),
            terms.hold,
            terms.max_pending,
            now,
            paycode_id,
        ),
    )


def set_status(sql: Sql, paycode_id: str, status: PaycodeStatus, *, now: int) -> None:
    sql.execute(
        "UPDATE paycodes SET status = ?, mirrored = 0, updated_at = ? WHERE paycode_id = ?",
        (str(status), now, paycode_id),
    )


def mark_mirrored(sql: Sql, paycode_id: str, reserved_index: int) -> None:
    """The node's datastore has this definition, with this `reserved_index`."""
    sql.execute(
        "UPDATE paycodes SET mirrored = 1, reserved_index = max(reserved_index, ?) WHERE paycode_id = ?",
        (reserved_index, paycode_id),
    )


def mark_unmirrored(sql: Sql, paycode_id: str) -> None:
    """The node's datastore does not have the definition as it is here."""
    sql.execute("UPDATE paycodes SET mirrored = 0 WHERE paycode_id = ?", (paycode_id,))


def raise_next_index(sql: Sql, paycode_id: str, at_least: int) -> None:
    """No index below `at_least` is handed out any more."""
    sql.execute(
        "UPDATE paycodes SET next_index = ? WHERE paycode_id = ? AND next_index < ?",
        (at_least, paycode_id, at_least),
    )


def set_listed_from(sql: Sql, paycode_id: str, at_least: int) -> None:
    """Indexes below `at_least` may have been handed out unlisted: none of them is handed out any more."""
    sql.execute(
        "UPDATE paycodes SET listed_from = max(listed_from, ?1), next_index = max(next_index, ?1)"
        " WHERE paycode_id = ?2",
        (at_least, paycode_id),
    )


def release_names(sql: Sql, paycode_id: str) -> None:
    """A code that is about to get others gives its label and user free."""
    sql.execute("UPDATE OR IGNORE paycodes SET label = paycode_id, user = NULL WHERE paycode_id = ?", (paycode_id,))


def set_next_index(sql: Sql, paycode_id: str, next_index: int) -> None:
    """The one place where an index may go back: a rebuilt code whose every invoice is known."""
    sql.execute("UPDATE paycodes SET next_index = ? WHERE paycode_id = ?", (next_index, paycode_id))


def pruned(sql: Sql, paycode_id: str) -> int:
    """Invoices of a code that count as issued and were forgotten since."""
    row = sql.execute("SELECT pruned FROM paycodes WHERE paycode_id = ?", (paycode_id,)).fetchone()
    return int(row[0])


def count(
    sql: Sql,
    paycode_id: str,
    *,
    issued: int = 0,
    paid: int = 0,
    pending: int = 0,
    received_msat: int = 0,
    behind_index: int = 0,
) -> None:
    """Add to the code's sums; called with every change of an invoice, in its transaction.

    No index below `behind_index` is handed out any more.
    """
    if not (issued or paid or pending or received_msat or behind_index):
        return
    sql.execute(
        "UPDATE paycodes SET issued = issued + ?, paid = paid + ?, pending = pending + ?,"
        " received_msat = received_msat + ?, next_index = max(next_index, ?) WHERE paycode_id = ?",
        (issued, paid, pending, received_msat, behind_index, paycode_id),
    )
