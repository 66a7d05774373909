"""Issuing an invoice of a paycode: intent, call, outcome.

1. intent    the index is taken and the row is `reserved`, durable, before the node is asked
2. call      the node's `invoice` with our label and preimage: of identical calls exactly one wins (900, 901); for a
             lazy or held code its `signinvoice`, which leaves nothing behind
3. outcome   `issued` with the node's string; `void` when it refused; still `reserved` when no answer came

Because a repeated call is harmless, every doubt about step 2 or 3 is ended by calling again, never by assuming: here
for a caller with the same `idempotency_key`, in `reconcile` for all others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import crash
from ..core.labels import Slot
from ..core.records import Invoice, Paycode
from ..core.states import InvoiceStatus
from ..core.terms import PaycodeStatus, check_text
from ..errors import (
    AmountOutOfRange,
    BadParameter,
    CommentTooLong,
    IdempotencyReused,
    NodeRefused,
    NodeUnknown,
    PaycodeDisabled,
    TooManyUnpaid,
    UnknownInvoice,
)
from ..node.port import INVOICE_LABEL_ALREADY_EXISTS, INVOICE_PREIMAGE_ALREADY_EXISTS, Issued, Node
from ..store import invoices, paycodes
from ..store.store import Store
from ..store.writer import Transaction
from .adoption import is_listed
from .books import Books
from .registry import Registry
from .signing import Signer

_S = InvoiceStatus

#: Characters of an idempotency key.
KEY_CHARS = 128

#: Bytes of JSON that a payer may leave with an invoice (LUD-18 has a handful of short fields).
PAYER_DATA_BYTES = 4096

_TAKEN = (INVOICE_LABEL_ALREADY_EXISTS, INVOICE_PREIMAGE_ALREADY_EXISTS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a caller of `paycode-invoice` asks for."""

    amount_msat: int
    comment: str | None = None
    payer_data: dict[str, Any] | None = None
    idempotency_key: str | None = None
    #: the text that the invoice commits to by its hash (LUD-06); None: it carries the code's description
    hashed_description: str | None = None

    def __post_init__(self) -> None:
        if self.comment is not None:
            check_text("comment", self.comment, newlines=True)
        if self.idempotency_key is not None:
            check_text("idempotency_key", self.idempotency_key, most_chars=KEY_CHARS)
            if not self.idempotency_key:
                raise BadParameter("idempotency_key: give 1 to 128 characters, or leave it out")


class _NeedsIndexBlock(Exception):
    """The node does not remember yet that this index may be handed out."""


class IndexTaken(Exception):
    """The node has another invoice at this index: it was recorded as found, the next one is ours."""


class Issuing:
    def __init__(
        self,
        store: Store,
        node: Node,
        registry: Registry,
        books: Books,
        signer: Signer,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._node = node
        self._signer = signer
        self._registry = registry
        self._books = books
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: dict[Slot, Future[Invoice]] = {}

    def issue(self, selector: str, request: Request) -> Invoice:
        """A fresh invoice, or the one that the same `idempotency_key` got; it is on disk when this returns."""
        paycode = self._registry.find_to_issue(selector)
        while True:
            row = self._reserve(paycode.paycode_id, request)
            if row.status is not _S.RESERVED:
                return row
            try:
                return self.drive(row)
            except IndexTaken:
                continue

    # --- intent ---

    def _reserve(self, paycode_id: str, request: Request) -> Invoice:
        """The row of this request: an existing one of the same key, or a new one in state `reserved`."""
        may_extend = True
        while True:
            try:
                row = self._store.write(
                    partial(self._take_index, paycode_id=paycode_id, request=request, strict=may_extend)
                )
            except _NeedsIndexBlock:
                self._registry.reserve_index_block(paycode_id)
                may_extend = False
                continue
            crash.point("issue:reserved")
            return row

    def _take_index(self, tx: Transaction, paycode_id: str, request: Request, strict: bool) -> Invoice:
        paycode = paycodes.by_id(tx, paycode_id)
        assert paycode is not None  # codes are never deleted
        if request.idempotency_key is not None:
            row = invoices.by_idempotency_key(tx, paycode_id, request.idempotency_key)
            if row is not None:
                return _same_request(row, request)
        _require_terms(paycode, request, paycodes.pending(tx, paycode_id))
        if strict and paycode.next_index >= paycode.reserved_index:
            raise _NeedsIndexBlock
        slot, now = Slot(paycode_id, paycode.next_index), self._clock()
        return invoices.insert(
            tx,
            slot,
            payment_hash=self._registry.root(paycode).invoice(slot.index).payment_hash.hex(),
            status=_S.RESERVED,
            amount_msat=request.amount_msat,
            created_at=now,
            expires_at=now + paycode.terms.expiry,
            moved_at=now,
            comment=request.comment,
            payer_data=request.payer_data,
            idempotency_key=request.idempotency_key,
            description=request.hashed_description or paycode.terms.description,
            description_hashed=request.hashed_description is not None,
            hold=paycode.terms.hold,
            registered=is_listed(paycode.terms),
        )

    # --- call and outcome ---

    def is_under_way(self, slot: Slot) -> bool:
        """A thread is at this slot right now: `reconcile` leaves it alone."""
        return slot in self._under_way

    def drive(self, row: Invoice) -> Invoice:
        """Bring a `reserved` row to its outcome; callers of the same slot share one call to the node.

        Raises NodeRefused (the row is `void`), NodeUnknown (the row is still `reserved`: drive it again).
        """
        with self._lock:
            joined = self._under_way.get(row.slot)
            if joined is None:
                future = self._under_way[row.slot] = Future[Invoice]()
        if joined is not None:
            return joined.result()
        try:
            outcome = self._drive(row)
        except BaseException as e:
            future.set_exception(e)
            raise
        else:
            future.set_result(outcome)
            return outcome
        finally:
            with self._lock:
                del self._under_way[row.slot]

    def _drive(self, row: Invoice) -> Invoice:
        now_row = self._books.by_slot(row.slot)
        assert now_row is not None
        if now_row.status is not _S.RESERVED:
            return now_row  # another thread brought it there before this one took the slot
        if not row.registered:
            return self._outcome(row, _S.ISSUED, bolt11=self._sign(row))
        try:
            answer = self.call_node(row, expiry_s=max(1, row.expires_at - self._clock()))
        except NodeRefused as e:
            if e.node_code in _TAKEN:
                return self._take_over(row)
            self._outcome(row, _S.VOID)
            raise
        crash.point("issue:called")
        issued = self._outcome(row, _S.ISSUED, bolt11=answer.bolt11, expires_at=answer.expires_at)
        crash.point("issue:issued")
        return issued

    def _sign(self, row: Invoice) -> str:
        """The string of an invoice that the node does not get to know yet."""
        keys = self._registry.root(self._registry.find(row.paycode_id)).invoice(row.index)
        bolt11 = self._signer.sign(row, keys)
        crash.point("issue:signed")
        return bolt11

    def _outcome(self, row: Invoice, to: InvoiceStatus, **fields: Any) -> Invoice:
        return self._store.write(lambda tx: self._books.change(tx, row.slot, to, **fields))

    def call_node(self, row: Invoice, *, expiry_s: int) -> Issued:
        """The node's `invoice` for a row; a connection lost on the way is tried once more (a repeat is harmless)."""
        paycode = self._registry.find(row.paycode_id)
        call = partial(
            self._node.create_invoice,
            label=row.label,
            amount_msat=row.amount_msat,
            description=paycode.terms.description if row.description is None else row.description,
            description_hashed=row.description_hashed,
            expiry_s=expiry_s,
            preimage=self._registry.root(paycode).invoice(row.index).preimage,
        )
        try:
            return call()
        except NodeUnknown:
            return call()

    def _take_over(self, row: Invoice) -> Invoice:
        """The node has this label or preimage already: our own earlier call, or an index that others used."""
        fact = self._node.invoice_by_label(row.label)
        if fact is None or fact.payment_hash != row.payment_hash:
            # The preimage is under a foreign label, or the label has a foreign preimage: the index is burned.
            self._outcome(row, _S.VOID)
            raise IndexTaken
        if fact.amount_msat == row.amount_msat and fact.status == "unpaid":
            settled = self._books.settle_with_node(row.slot)
            assert settled is not None
            return settled
        self._record_as_found(row)
        raise IndexTaken

    def _record_as_found(self, row: Invoice) -> None:
        """An invoice of an earlier life of this code: its row gets what the node says, not what was asked now."""
        self._store.write(lambda tx: invoices.forget(tx, row.slot))
        self._books.settle_with_node(row.slot)

    # --- looking one up ---

    def by_hash(self, payment_hash: str) -> Invoice:
        invoice = self._store.read(lambda sql: invoices.by_hash(sql, payment_hash))
        if invoice is None or invoice.offer_id is not None:  # what came by an offer is the node's to prove
            raise UnknownInvoice(f"no invoice of a paycode has the payment hash {payment_hash}")
        return invoice

    def preimage(self, invoice: Invoice) -> str | None:
        """The preimage in hex once the node has said that it is paid, None before."""
        if invoice.status is not _S.PAID:
            return None
        return self._registry.root(self._registry.find(invoice.paycode_id)).invoice(invoice.index).preimage.hex()


def _same_request(row: Invoice, request: Request) -> Invoice:
    if (row.amount_msat, row.comment, row.payer_data) != (
        request.amount_msat,
        request.comment,
        request.payer_data,
    ):
        raise IdempotencyReused(
            "idempotency_key: it was used for another amount, comment or payer_data: choose a new one"
        )
    return row


def _require_terms(paycode: Paycode, request: Request, pending: int) -> None:
    terms = paycode.terms
    if paycode.status is PaycodeStatus.DISABLED:
        raise PaycodeDisabled(f"paycode {terms.label!r} is disabled: paycode-enable turns it on again")
    if not terms.min_msat <= request.amount_msat <= terms.highest_msat:
        raise AmountOutOfRange(
            f"amount_msat: paycode {terms.label!r} takes {terms.min_msat} to {terms.highest_msat} msat"
        )
    if len(request.comment or "") > terms.comment_chars:
        raise CommentTooLong(f"comment: paycode {terms.label!r} takes at most {terms.comment_chars} characters")
    if terms.max_pending is not None and pending >= terms.max_pending:
        raise TooManyUnpaid(
            f"paycode {terms.label!r} has {pending} unpaid invoices, its limit: try again when some are paid or expired"
        )
