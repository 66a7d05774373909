"""What an offer promises, and whose it is."""

from __future__ import annotations

import hashlib

import pytest
from cln_paycodes.core.offers import Promise, Standing, note_as_comment, offer_id_of, parse_label, standing
from cln_paycodes.core.terms import Terms

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
