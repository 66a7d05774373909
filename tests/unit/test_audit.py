"""The audit of a node in use: its sums beside those of the books."""

from __future__ import annotations

from cln_paycodes.core.audit import NodeTally
from cln_paycodes.core.states import InvoiceStatus as S
from cln_paycodes.services.audit import audit
from samples import add_invoice, add_paycode, memory_sidecar, slot_of


def test_invoice_that_the_node_has_just_made_is_no_difference() -> None:
    """The node lists it, and its answer is on the way to the books: callers that never pause raise no alarm."""
    slots = [slot_of("coffee", index) for index in (1, 2, 3)]
    tally = NodeTally()
    for slot in slots[:2]:
        tally.meet(slot.index, "unpaid", None)
    with memory_sidecar() as sql:
        paycode_id = add_paycode(sql, "coffee")
        add_invoice(sql, slots[0], S.ISSUED)
        add_invoice(sql, slots[1], S.RESERVED)
        add_invoice(sql, slots[2], S.RESERVED)
        (line,) = audit(sql, tallies={paycode_id: tally})

    assert (line.books.issued, line.node.issued) == (1, 2)
    assert line.agree


def test_invoice_that_the_books_lack_is_a_difference() -> None:
    """The node has one more."""
    tally = NodeTally()
    for index in (1, 2):
        tally.meet(index, "unpaid", None)
    with memory_sidecar() as sql:
        paycode_id = add_paycode(sql, "coffee")
        add_invoice(sql, slot_of("coffee", 1), S.ISSUED)
        (line,) = audit(sql, tallies={paycode_id: tally})

    assert not line.agree
