"""Reading the books for the audit: each code's sums, and what of them the node's list no longer shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..core.audit import AuditLine, NodeTally, Sums
from ..core.labels import Slot
from ..core.reconciliation import HIGHEST_INDEX
from ..core.records import Paycode
from ..core.states import InvoiceStatus
from ..store import invoices, paycodes
from ..store.store import Sql

#: Rows that are read at a time.
SLICE = 5000


def audit(sql: Sql, *, tallies: dict[str, NodeTally]) -> list[AuditLine]:
    """One line for each code in the books, and for those that only the node has invoices of.

    `sql` shows one moment, after the one that the tallies are of.
    """
    codes = paycodes.every(sql)
    reserved = [slot for _, slot in invoices.open_slots(sql, InvoiceStatus.RESERVED, now=0, limit=SLICE)]
    lines = [_line(sql, paycode, tallies.get(paycode.paycode_id, NodeTally()), reserved) for paycode in codes]
    unknown = tallies.keys() - {paycode.paycode_id for paycode in codes}
    return lines + [
        AuditLine(paycode_id=paycode_id, label="", books=Sums(), node=tallies[paycode_id].sums, cleaned=Sums())
        for paycode_id in sorted(unknown)
    ]


def _line(sql: Sql, paycode: Paycode, tally: NodeTally, reserved: Iterable[Slot]) -> AuditLine:
    under_way = sum(slot.paycode_id == paycode.paycode_id and slot.index in tally.listed for slot in reserved)
    return AuditLine(
        paycode_id=paycode.paycode_id,
        label=paycode.terms.label,
        books=Sums(paycode.issued, paycode.paid, paycode.received_msat),
        node=tally.sums,
        under_way=under_way,
        cleaned=_cleaned(sql, paycode.paycode_id, tally) + Sums(paycodes.pruned(sql, paycode.paycode_id)),
    )


def _cleaned(sql: Sql, paycode_id: str, tally: NodeTally) -> Sums:
    cleaned = Sums()
    for first, last in tally.listed.gaps(0, HIGHEST_INDEX):
        for status, received_msat in _between(sql, paycode_id, first, last):
            if status not in invoices.UNISSUED:
                paid = status is InvoiceStatus.PAID
                cleaned += Sums(1, int(paid), (received_msat or 0) if paid else 0)
    return cleaned


def _between(sql: Sql, paycode_id: str, first: int, last: int) -> Iterator[tuple[InvoiceStatus, int | None]]:
    """State and received_msat of a code's rows from one index to another."""
    while True:
        rows = invoices.outlines(sql, paycode_id, first=first, last=last, limit=SLICE)
        for _, status, received_msat in rows:
            yield status, received_msat
        if len(rows) < SLICE:
            return
        first = rows[-1][0] + 1
