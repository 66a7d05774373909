"""BOLT 12 offers of paycodes: what an offer promises, and the label that tells whose it is.

An offer is fixed for ever once it is made: it carries a description, and either no amount or exactly one. A code whose
`min_msat` and `max_msat` are the same has the latter; limits between have no place in an offer that wallets
would understand, so a payment of any amount is taken, and told as it came.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum

from .terms import COMMENT_CHARS_MAX, Terms

#: CLN v26.06 labels the invoices of an offer `<offer_id>-<payer's key>-<counter>`.
_INVOICE_LABEL = re.compile(r"([0-9a-f]{64})-[0-9a-f]{66}-[0-9]{1,10}", re.ASCII)
_LABEL = re.compile(r"paycode/([0-9a-f]{64})/offer/(any|[0-9]{1,19})/([0-9a-f]{16})", re.ASCII)
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class Promise:
    """What of a code's terms is in an offer of it."""

    paycode_id: str
    #: None: any amount
    amount_msat: int | None
    #: first 16 hex characters of the SHA256 of the description
    text_hash: str

    @classmethod
    def of(cls, paycode_id: str, terms: Terms) -> Promise:
        amount_msat = terms.min_msat if terms.min_msat == terms.max_msat else None
        return cls(paycode_id, amount_msat, hashlib.sha256(terms.description.encode()).hexdigest()[:16])

    @property
    def label(self) -> str:
        """The node's label of the offer: alone enough to find it again."""
        amount = "any" if self.amount_msat is None else str(self.amount_msat)
        return f"paycode/{self.paycode_id}/offer/{amount}/{self.text_hash}"


class Standing(str, Enum):
    """What an offer is for its code now."""

    CURRENT = "current"  # it says what the code says
    PRINTED = "printed"  # another text, the same price: one that is printed somewhere goes on working
    OUTDATED = "outdated"  # another price

    def __str__(self) -> str:
        return self.value


def standing(offer: Promise, current: Promise) -> Standing:
    if offer == current:
        return Standing.CURRENT
    return Standing.PRINTED if offer.amount_msat == current.amount_msat else Standing.OUTDATED


def parse_label(label: str | None) -> Promise | None:
    """What the offer with this label promises, None when it is not ours."""
    match = _LABEL.fullmatch(label or "")
    if match is None:
        return None
    return Promise(match[1], None if match[2] == "any" else int(match[2]), match[3])


def offer_id_of(invoice_label: str) -> str | None:
    """The offer that an invoice of the node was made for, as its label tells; None for every other invoice."""
    match = _INVOICE_LABEL.fullmatch(invoice_label)
    return None if match is None else match[1]


def note_as_comment(note: str | None) -> str | None:
    """A payer's note (`invreq_payer_note`), without what could confuse a reader, and not endless."""
    return _CONTROL.sub("", note or "")[:COMMENT_CHARS_MAX] or None
