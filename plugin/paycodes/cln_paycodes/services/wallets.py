"""What payers may ask for over HTTP: a code by its public name, an invoice of it, and whether one was paid.

Payers are anonymous: only the exact user or paycode_id finds a code (a label is the operator's own), and what is
refused is said in words that show nothing of his.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from ..chaining import then
from ..core import lnurl
from ..core.links import Links
from ..core.records import Invoice, Paycode
from ..core.terms import PaycodeStatus
from ..errors import (
    AmountOutOfRange,
    BadParameter,
    CommentTooLong,
    NodeRefused,
    NodeUnknown,
    PaycodeDisabled,
    PaycodesError,
    TooManyUnpaid,
    UnknownInvoice,
    UnknownPaycode,
)
from ..store import paycodes
from ..store.store import Store
from .issuing import Issuing, Request


class Wallets:
    def __init__(self, store: Store, issuing: Issuing, links: Links) -> None:
        self._store = store
        self._issuing = issuing
        self._links = links

    # --- finding ---

    def by_user(self, user: str) -> Paycode:
        """LUD-16 names are lower case; what a person typed need not be."""
        paycode = self._store.read(lambda sql: paycodes.by_user(sql, user.lower()))
        if paycode is None:
            raise UnknownPaycode("no one by this name takes payments here")
        return paycode

    def by_id(self, paycode_id: str) -> Paycode:
        paycode = self._store.read(lambda sql: paycodes.by_id(sql, paycode_id.lower()))
        if paycode is None:
            raise UnknownPaycode("there is no such payment code here")
        return paycode

    def by_name(self, name: str) -> Paycode:
        """By user or paycode_id; no user is as long as an id."""
        return self.by_id(name) if len(name) == 64 else self.by_user(name)

    # --- LNURL ---

    def pay_request(self, paycode: Paycode) -> dict[str, Any]:
        """LUD-06, first step; makes nothing."""
        if paycode.status is PaycodeStatus.DISABLED:
            raise PaycodeDisabled("")
        return lnurl.pay_request(
            paycode,
            callback=self._links.callback(paycode),
            identifier=self._links.lightning_address(paycode),
        )

    def pay(self, paycode: Paycode, asked: lnurl.Asked) -> Future[dict[str, Any]]:
        """LUD-06, second step: a fresh invoice that commits to the metadata."""
        described = lnurl.metadata(paycode.terms.description, self._links.lightning_address(paycode))
        making = self._issuing.issue(
            paycode.paycode_id,
            Request(
                amount_msat=asked.amount_msat,
                comment=asked.comment,
                payer_data=asked.payer_data,
                hashed_description=described + asked.payer_data_raw,
            ),
        )

        def answer(invoice: Invoice) -> dict[str, Any]:
            assert invoice.bolt11 is not None
            return lnurl.pay_answer(paycode, bolt11=invoice.bolt11, verify=self._links.verify(invoice.payment_hash))

        return then(making, answer)

    def verify(self, payment_hash: str) -> dict[str, Any]:
        """LUD-21."""
        invoice = self._issuing.by_hash(payment_hash.lower())
        preimage = self._issuing.preimage(invoice)
        return {"status": "OK", "settled": preimage is not None, "preimage": preimage, "pr": invoice.bolt11}

    # --- the page ---

    def lnurl(self, paycode: Paycode) -> str:
        return self._links.lnurl(paycode)

    def lightning_address(self, paycode: Paycode) -> str | None:
        return self._links.lightning_address(paycode)

    def invoice(self, paycode: Paycode, *, amount_msat: int, comment: str | None) -> Future[Invoice]:
        """A fresh invoice with the plain description, for a person."""
        return self._issuing.issue(paycode.paycode_id, Request(amount_msat=amount_msat, comment=comment))

    def invoice_of(self, paycode: Paycode, payment_hash: str) -> Invoice:
        invoice = self._issuing.by_hash(payment_hash.lower())
        if invoice.paycode_id != paycode.paycode_id:
            raise UnknownInvoice("that invoice belongs to another code")
        return invoice


def reason(error: PaycodesError, paycode: Paycode | None) -> str:
    """Why a payer was refused, in his words and without the operator's."""
    if isinstance(error, BadParameter | UnknownPaycode):
        return error.message
    if isinstance(error, UnknownInvoice):
        return "there is no such invoice here"
    if isinstance(error, PaycodeDisabled):
        return "this code does not take payments at the moment"
    if isinstance(error, AmountOutOfRange) and paycode is not None:
        return f"amount: give {paycode.terms.amounts} millisatoshi"
    if isinstance(error, CommentTooLong) and paycode is not None:
        return f"comment: this code takes {paycode.terms.comments}"
    if isinstance(error, TooManyUnpaid):
        return "too many invoices of this code are waiting for payment: try again later"
    if isinstance(error, NodeRefused | NodeUnknown):
        return "the receiver's node gave no invoice: try again in a minute"
    return "the receiver cannot make invoices at the moment: try again later"
