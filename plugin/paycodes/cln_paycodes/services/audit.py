"""Reading the books for the audit: each code's sums, and what of them the node's list no longer shows."""

from __future__ import annotations

from ..core.audit import AuditLine, NodeTally, Sums
from ..core.records import Paycode
from ..core.states import InvoiceStatus
from ..store import invoices, paycodes
from ..store.store import Sql

#: Rows that are read at a time.
SLICE = 5000


def audit(sql: Sql, *, tallies: dict[str, NodeTally]) -> list[AuditLine]:
    """One line for each code in the books, and for those that only the node has invoices of."""
    codes = paycodes.every(sql)
    lines = [_line(sql, paycode, tallies.get(paycode.paycode_id, NodeTally())) for paycode in codes]
    unknown = tallies.keys() - {paycode.paycode_id for paycode in codes}
    return lines + [
        AuditLine(paycode_id=paycode_id, label="", books=Sums(), node=tallies[paycode_id].sums, cleaned=Sums())
        for paycode_id in sorted(unknown)
    ]


def _line(sql: Sql, paycode: Paycode, tally: NodeTally) -> AuditLine:
    return AuditLine(
        paycode_id=paycode.paycode_id,
        label=paycode.terms.label,
        books=Sums(paycode.issued, paycode.paid, paycode.received_msat),
        node=tally.sums,
        cleaned=_cleaned(sql, paycode.paycode_id, tally) + Sums(paycodes.pruned(sql, paycode.paycode_id)),
    )


def _cleaned(sql: Sql, paycode_id: str, tally: NodeTally) -> Sums:
    cleaned, start = Sums(), 0
    while True:
        rows = invoices.outlines(sql, paycode_id, from_index=start, limit=SLICE)
        for index, status, received_msat in rows:
            if index in tally.listed or status in invoices.UNISSUED:
                continue
            paid = status is InvoiceStatus.PAID
            cleaned += Sums(1, int(paid), (received_msat or 0) if paid else 0)
        if len(rows) < SLICE:
            return cleaned
        start = rows[-1][0] + 1
