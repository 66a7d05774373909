"""What is taken over from the node without a look at the books, beside what is decided and written with one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cln_paycodes.core.answers import TOLD, invoice_event
from cln_paycodes.core.bolt11 import UnsignedInvoice, encode
from cln_paycodes.core.events import EventRow
from cln_paycodes.core.found import Found, derived, event_of, prove, slot_of
from cln_paycodes.core.keys import RootKey
from cln_paycodes.core.labels import Slot, parse_label
from cln_paycodes.core.reconciliation import HIGHEST_INDEX, Finding, FindingKind, judge
from cln_paycodes.core.records import NodeInvoice
from cln_paycodes.core.states import InvoiceStatus
from cln_paycodes.store import found_invoices, invoices
from hypothesis import given
from hypothesis import strategies as st
from samples import NOW, add_invoice, add_paycode, memory_sidecar

NODE_ID = "02" * 33
ROOTS = [RootKey.derive(bytes(32), number) for number in range(3)]
KNOWN = {root.paycode_id: root for root in ROOTS[:2]}

PAYER_DATA = '[["text/plain","tea"]]{"name":"Ann"}'


@st.composite
def strings(draw: st.DrawFn) -> str:
    return encode(
        UnsignedInvoice(
            currency="bcrt",
            amount_msat=draw(st.none() | st.integers(1, 10**12)),
            timestamp=draw(st.integers(0, 2**35 - 1)),
            payment_hash=draw(st.binary(min_size=32, max_size=32)),
            payment_secret=bytes(32),
            description=draw(st.just("tea") | st.binary(min_size=32, max_size=32)),
            expiry_s=600,
            min_final_cltv_expiry_delta=18,
            features=0,
        )
    )


@st.composite
def facts(draw: st.DrawFn) -> NodeInvoice:
    """Anything that the node may list: of known and unknown codes, right and foreign hashes, offers, other labels."""
    root = draw(st.sampled_from(ROOTS))
    index = draw(st.integers(1, 50) | st.sampled_from([10**18 - 1, 10**18, HIGHEST_INDEX, HIGHEST_INDEX + 1]))
    label = draw(st.sampled_from([Slot(root.paycode_id, index).label] * 4 + ["tea", f"paycode/{root.paycode_id}/01"]))
    right = root.payment_hash(index)
    paid = draw(st.booleans())
    return NodeInvoice(
        label=label,
        payment_hash=draw(st.sampled_from([right] * 4 + ["07" * 32])),
        status="paid" if paid else draw(st.sampled_from(["unpaid", "expired"])),
        amount_msat=draw(st.none() | st.integers(1, 10**12)),
        received_msat=draw(st.integers(1, 10**12)) if paid else None,
        bolt11=draw(st.none() | strings()),
        expires_at=draw(st.integers(0, 2**40)),
        paid_at=draw(st.integers(0, 2**40)) if paid else None,
        created_index=draw(st.integers(1, 99)),
        updated_index=draw(st.none() | st.integers(1, 99)),
        description=draw(st.none() | st.sampled_from(["tea", PAYER_DATA, "[not JSON"])),
        offer_id=draw(st.sampled_from([None] * 4 + ["aa" * 32])),
    )


def decided(fact: NodeInvoice) -> Finding | None:
    """What the run decides for itself when the books have no row; None for what it does not judge by its label."""
    slot = parse_label(fact.label)
    if slot is None or fact.offer_id is not None:
        return None
    root = KNOWN.get(slot.paycode_id)
    payment_hash = None if root is None else root.invoice(slot.index).payment_hash.hex()
    return judge(slot, None, fact, payment_hash=payment_hash, now=NOW)


def proved(fact: NodeInvoice) -> Found | None:
    slot = parse_label(fact.label)
    if slot is None:
        return None
    (payment_hash,) = derived([slot], KNOWN.get)
    columns = prove(slot, fact, payment_hash, now=NOW)
    return None if columns is None else Found._make(columns)


@given(fact=facts())
def test_what_is_proved_is_what_would_be_decided(fact: NodeInvoice) -> None:
    """A row comes out just when the decision is to take the invoice over, and says the same of it."""
    found, finding = proved(fact), decided(fact)

    assert (found is not None) == (finding is not None and finding.kind is FindingKind.ADOPTED)
    assert found is None or finding == Finding(
        kind=FindingKind.ADOPTED, slot=Slot(found.paycode_id, found.index), to=InvoiceStatus(found.status)
    )


@given(several=st.lists(facts(), max_size=8))
def test_event_is_that_of_the_stored_row(several: list[NodeInvoice]) -> None:
    """Whoever makes it, from what the node said or from the books: the same id, the same words."""
    found = {fact.label: row for fact in several if (row := proved(fact)) is not None}
    rows = {row.payment_hash: row for row in found.values()}.values()
    with memory_sidecar() as sql:
        for paycode_id in KNOWN:
            add_paycode(sql, paycode_id[:8], paycode_id=paycode_id)
        found_invoices.insert(sql, list(rows))
        stored = invoices.by_slots(sql, [slot_of(row) for row in rows])

    for row in rows:
        invoice = stored[slot_of(row)]
        event_type = TOLD.get(invoice.status)
        told = None if event_type is None else EventRow.of(invoice_event(NODE_ID, event_type, invoice))
        assert event_of(tuple(row), NODE_ID) == told
        assert row.invoice == replace(invoice, sequence=0)


@pytest.mark.parametrize(
    ("indexes", "known"),
    [({0: [1, 2]}, False), ({0: [3]}, True), ({0: [1, 9]}, True), ({1: [3]}, False), ({1: [3], 0: [2, 3]}, True)],
)
def test_rows_between_indexes_are_noticed(indexes: dict[int, list[int]], known: bool) -> None:
    """Of the same code only; what lies between them counts as well."""
    with memory_sidecar() as sql:
        codes = [add_paycode(sql, label) for label in ("coffee", "tea")]
        add_invoice(sql, Slot(codes[0], 3))
        slots = [Slot(codes[number], index) for number, some in indexes.items() for index in some]

        assert found_invoices.among(sql, slots) is known
