"""What an offer promises, and whose it is."""

from __future__ import annotations

import hashlib

import pytest
from cln_paycodes.core.offers import Promise, Standing, note_as_comment, offer_id_of, parse_label, standing
from cln_paycodes.core.records import NodeInvoice
from cln_paycodes.core.terms import Terms
from cln_paycodes.store import invoices, offers, paycodes
from samples import NOW, add_paycode, memory_sidecar

CODE = "ab" * 32


def promise_of(**terms: int | str) -> Promise:
    given = {"label": "shop", "description": "Tea", **terms}
    return Promise.of(CODE, Terms(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize("terms", [{}, {"min_msat": 5000, "max_msat": 5000}, {"description": "🍵"}])
def test_a_label_tells_whose_offer_it_is_and_what_it_promises(terms: dict[str, int | str]) -> None:
    """A lost sidecar learns from it; CLN takes labels of this length."""
    promise = promise_of(**terms)

    assert parse_label(promise.label) == promise


@pytest.mark.parametrize(
    "label",
    [None, "", "coffee", f"paycode/{CODE}/1", f"paycode/{CODE}/offer/x/{'0' * 16}", f"paycode/{CODE}/offer/any/"],
)
def test_labels_of_others(label: str | None) -> None:
    """They are left alone."""
    assert parse_label(label) is None


def test_what_an_offer_is_for_its_code() -> None:
    """A printed one outlives its words, not its price."""
    offer = promise_of(min_msat=5000, max_msat=5000)

    assert standing(offer, offer) is Standing.CURRENT
    assert standing(offer, promise_of(min_msat=5000, max_msat=5000, description="Other")) is Standing.PRINTED
    assert standing(offer, promise_of(min_msat=6000, max_msat=6000)) is Standing.OUTDATED
    assert standing(offer, promise_of(min_msat=5000)) is Standing.OUTDATED


def test_the_label_of_an_invoice_of_an_offer() -> None:
    """As CLN makes it: offer, payer's key, counter."""
    offer_id = hashlib.sha256(b"offer").hexdigest()

    assert offer_id_of(f"{offer_id}-02{'ab' * 32}-17") == offer_id
    assert offer_id_of(f"paycode/{CODE}/1") is None
    assert offer_id_of(f"{offer_id}-17") is None


@pytest.mark.parametrize(("note", "comment"), [(None, None), ("", None), ("\x00\u202e", None), ("a\x1bb\nc", "ab\nc")])
def test_notes_are_cleaned(note: str | None, comment: str | None) -> None:
    """Money is never refused for its note: what could confuse a reader is left out."""
    assert note_as_comment(note) == comment


def test_notes_are_not_endless() -> None:
    """As long as the longest comment."""
    assert len(note_as_comment("x" * 10_000) or "") == 2000


def fact_of(number: int) -> NodeInvoice:
    return NodeInvoice(
        label="",
        payment_hash=hashlib.sha256(bytes([number])).hexdigest(),
        status="paid",
        amount_msat=1000,
        received_msat=1001,
        bolt11=None,
        expires_at=NOW + 10,
        paid_at=NOW,
        created_index=number,
        updated_index=number,
        description="Tea",
        offer_id="offer",
        bolt12="lni1",
        payer_note=None,
    )


def test_payments_of_an_offer_are_written_once_and_use_no_index() -> None:
    """The code's own indexes and sums stay as they are; the offer has its own."""
    with memory_sidecar() as sql:
        paycode_id = add_paycode(sql, "shop")
        promise = Promise.of(paycode_id, Terms(label="shop", description="Tea"))
        offers.save(sql, offer_id="offer", promise=promise, bolt12="lno1", active=True, now=NOW)
        for number in (1, 2, 1):
            offer = offers.by_id(sql, "offer")
            assert offer is not None
            offers.add_payment(sql, offer, fact_of(number), comment=None, now=NOW)
        offer = offers.by_id(sql, "offer")
        paycode = paycodes.by_id(sql, paycode_id)
        rows = [invoices.by_hash(sql, fact_of(number).payment_hash) for number in (1, 2)]

    assert offer is not None
    assert paycode is not None
    assert (offer.paid, offer.received_msat) == (2, 2002)
    assert (paycode.next_index, paycode.issued, paycode.paid) == (1, 0, 0)
    assert [row.index for row in rows if row is not None] == [-1, -2]
