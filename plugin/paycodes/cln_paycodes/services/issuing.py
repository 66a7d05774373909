"""Issuing an invoice of a paycode: intent, call, outcome.

1. intent    the index is taken and the row is `reserved` before the node is asked: no end of a process undoes that
2. call      the node's `invoice` with our label and preimage: of identical calls exactly one wins (900, 901); for a
             lazy or held code its `signinvoice`, which leaves nothing behind
3. outcome   `issued` with the node's string; `void` when it refused; still `reserved` when no answer came

Because a repeated call is harmless, every doubt about step 2 or 3 is ended by calling again, never by assuming: here
for a caller with the same `idempotency_key`, in `reconcile` for all others.

Before the caller has the invoice, all of it is on a disk (`_is_at_node`). What the node lists is on the node's, from
where a sidecar that lost its last moments with the power gets it back, before the first index is taken again
(`Registry.settle_indexes`): only what the node does not know costs an fsync here, and that behind the call.

No thread waits for another on this way: each step is begun by what ends the one before, in the writer's thread or in
the one that reads the node's answers. Only what is out of the ordinary, and has to wait, gets a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .. import crash
from ..chaining import pass_on, promise
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
from ..store import invoices
from ..store.store import Store
from ..store.writer import Transaction
from .adoption import is_listed
from .books import Books
from .minting import Mint
from .registry import Registry, find

_S = InvoiceStatus

#: Characters of an idempotency key.
KEY_CHARS = 128

#: Bytes of JSON that a payer may leave with an invoice (LUD-18 has a handful of short fields).
PAYER_DATA_BYTES = 4096

#: Threads for what has to wait: a code's next block of indexes, a call whose answer was lost or not an invoice.
_THREADS = 16

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


@dataclass(slots=True)
class _Order:
    """A caller's request on its way."""

    selector: str
    request: Request
    future: Future[Invoice] = field(default_factory=promise)
    #: the node must remember that the index may be handed out
    strict: bool = True
    #: its row was made for it, under these terms
    new_of: Paycode | None = None


class _NeedsIndexBlock(Exception):
    """The node does not remember yet that the next index of this code may be handed out."""


class IndexTaken(Exception):
    """The node has another invoice at this index: it was recorded as found, the next one is ours."""


class Issuing:
    def __init__(
        self,
        store: Store,
        node: Node,
        registry: Registry,
        books: Books,
        mint: Mint,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._node = node
        self._mint = mint
        self._registry = registry
        self._books = books
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: dict[Slot, Future[Invoice]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="paycodes-issue")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def issue(self, selector: str, request: Request) -> Future[Invoice]:
        """A fresh invoice, or the one that the same `idempotency_key` got, once nothing can undo it."""
        order = _Order(selector, request)
        if self._registry.indexes_known:
            self._reserve(order)
        else:
            self._in_thread(order.future, partial(self._reserve_at_start, order))
        return order.future

    def _in_thread(self, waiting: Future[Invoice], work: Callable[[], None]) -> None:
        """Do what may have to wait; what it raises, `waiting` gets."""

        def run() -> None:
            try:
                work()
            except BaseException as e:
                waiting.set_exception(e)

        try:
            self._threads.submit(run)
        except RuntimeError:
            waiting.set_exception(NodeUnknown("the plugin is stopping: ask again when it is back"))

    # --- intent ---

    def _reserve(self, order: _Order) -> None:
        """Get the row of this request: an existing one of the same key, or a new one in state `reserved`."""
        taking = self._store.submit(partial(self._take_index, order=order), durable=False)
        taking.add_done_callback(partial(self._reserved, order))

    def _reserve_at_start(self, order: _Order) -> None:
        order.selector = self._registry.find_to_issue(order.selector).paycode_id
        self._reserve(order)

    def _reserved(self, order: _Order, taking: Future[Invoice]) -> None:
        error = taking.exception()
        if isinstance(error, _NeedsIndexBlock):
            self._in_thread(order.future, partial(self._reserve_in_new_block, order))
        elif error is not None:
            order.future.set_exception(error)
        else:
            crash.point("issue:reserved")
            row = taking.result()
            if row.status is _S.RESERVED:
                driving = self._drive(row, new_of=order.new_of)
                driving.add_done_callback(partial(self._driven, order))
                self._mint.prepare_next(row)
            else:
                order.future.set_result(row)

    def _reserve_in_new_block(self, order: _Order) -> None:
        self._registry.reserve_index_block(self._registry.find(order.selector).paycode_id)
        order.strict = False
        self._reserve(order)

    def _driven(self, order: _Order, driving: Future[Invoice]) -> None:
        if isinstance(driving.exception(), IndexTaken):
            self._reserve(order)
        else:
            pass_on(driving, order.future)

    def _take_index(self, tx: Transaction, order: _Order) -> Invoice:
        request, paycode = order.request, find(tx, order.selector)
        order.new_of = None
        if request.idempotency_key is not None:
            row = invoices.by_idempotency_key(tx, paycode.paycode_id, request.idempotency_key)
            if row is not None:
                return _same_request(row, request)
        _require_terms(paycode, request)
        if order.strict and paycode.next_index >= paycode.reserved_index:
            raise _NeedsIndexBlock
        row = self._insert(tx, paycode, request)
        order.new_of = paycode
        return row

    def _insert(self, tx: Transaction, paycode: Paycode, request: Request) -> Invoice:
        slot, now = Slot(paycode.paycode_id, paycode.next_index), self._clock()
        keys = self._registry.invoice_keys(self._registry.root(paycode), slot.index)
        return invoices.insert(
            tx,
            slot,
            payment_hash=keys.payment_hash.hex(),
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
        """Someone is at this slot right now: `reconcile` leaves it alone."""
        return slot in self._under_way

    def is_any_under_way(self, slots: Iterable[Slot]) -> bool:
        """The same of some slot among many; they are looked at only while there is something under way at all."""
        return bool(self._under_way) and any(slot in self._under_way for slot in slots)

    def drive(self, row: Invoice) -> Invoice:
        """Bring a `reserved` row to its outcome, and wait for it.

        Raises NodeRefused (the row is `void`), NodeUnknown (the row is still `reserved`: drive it again), IndexTaken.
        """
        return self._drive(row, new_of=None).result()

    def _drive(self, row: Invoice, *, new_of: Paycode | None) -> Future[Invoice]:
        """Callers of the same slot share one call to the node; `new_of` is the code if the row was made just now."""
        with self._lock:
            joined = self._under_way.get(row.slot)
            if joined is not None:
                return joined
            outcome = self._under_way[row.slot] = Future[Invoice]()
        outcome.add_done_callback(lambda _: self._under_way.pop(row.slot))
        try:
            now_row = row if new_of is not None else self._books.by_slot(row.slot)
            assert now_row is not None
            if now_row.status is not _S.RESERVED:
                outcome.set_result(now_row)  # it was brought there before this one took the slot
            elif row.registered:
                calling = self._mint.begin(row) if new_of is None else self._mint.begin_new(row, new_of)
                calling.add_done_callback(partial(self._called, row, outcome))
            elif self._mint.can_sign_at_once:
                self._begin_signature(row, outcome)
            else:
                self._in_thread(outcome, partial(self._begin_signature, row, outcome))
        except BaseException as e:
            outcome.set_exception(e)
        return outcome

    def _begin_signature(self, row: Invoice, outcome: Future[Invoice]) -> None:
        self._mint.begin_signature(row).add_done_callback(partial(self._signed, row, outcome))

    def _signed(self, row: Invoice, outcome: Future[Invoice], signing: Future[str]) -> None:
        error = signing.exception()
        if error is None:
            crash.point("issue:signed")
            self._record(row, outcome, bolt11=signing.result())
        elif isinstance(error, NodeRefused):
            self._in_thread(outcome, partial(self._recover, row, outcome, error))
        else:
            outcome.set_exception(error)

    def _called(self, row: Invoice, outcome: Future[Invoice], call: Future[Issued]) -> None:
        error = call.exception()
        if error is None:
            self._record_call(row, outcome, call.result())
        else:
            self._in_thread(outcome, partial(self._recover, row, outcome, error))

    def _recover(self, row: Invoice, outcome: Future[Invoice], error: BaseException) -> None:
        """What to do about a call that gave no invoice; one whose answer was lost is repeated once."""
        try:
            if not isinstance(error, NodeUnknown):
                raise error
            answer = self._mint.begin(row).result()
        except NodeRefused as e:
            if e.node_code in _TAKEN:
                outcome.set_result(self._take_over(row))
                return
            self._change(row, _S.VOID).result()
            raise
        self._record_call(row, outcome, answer)

    def _record_call(self, row: Invoice, outcome: Future[Invoice], answer: Issued) -> None:
        crash.point("issue:called")
        self._record(row, outcome, bolt11=answer.bolt11, expires_at=answer.expires_at)

    def _record(self, row: Invoice, outcome: Future[Invoice], **fields: Any) -> None:
        self._change(row, _S.ISSUED, **fields).add_done_callback(partial(self._recorded, outcome))

    def _recorded(self, outcome: Future[Invoice], recording: Future[Invoice]) -> None:
        error = recording.exception()
        if error is None:
            crash.point("issue:issued")
            outcome.set_result(recording.result())
            self._mint.look_ahead(recording.result())
        else:
            outcome.set_exception(error)

    def _change(self, row: Invoice, to: InvoiceStatus, **fields: Any) -> Future[Invoice]:
        durable = to is not _S.ISSUED or not _is_at_node(row)
        return self._store.submit(lambda tx: self._books.change(tx, row.slot, to, **fields), durable=durable)

    def list_again(self, row: Invoice) -> None:
        """Have the node list an invoice that it has lost."""
        self._mint.make(row)

    def _take_over(self, row: Invoice) -> Invoice:
        """The node has this label or preimage already: our own earlier call, or an index that others used."""
        fact = self._node.invoice_by_label(row.label)
        if fact is None or fact.payment_hash != row.payment_hash:
            # The preimage is under a foreign label, or the label has a foreign preimage: the index is burned.
            self._change(row, _S.VOID).result()
            raise IndexTaken
        if fact.amount_msat == row.amount_msat and fact.status == "unpaid":
            settled = self._books.settle_with_node(row.slot)
            assert settled is not None
            return settled
        self._record_as_found(row)
        raise IndexTaken

    def _record_as_found(self, row: Invoice) -> None:
        """An invoice of an earlier life of this code: its row gets what the node says, not what was asked now."""
        self._store.write(partial(_give_way, slot=row.slot))
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


def _is_at_node(row: Invoice) -> bool:
    """The node can tell all of an issued invoice: it lists it, and no words came with the request."""
    return row.registered and row.comment is None and row.payer_data is None and row.idempotency_key is None


def _give_way(tx: Transaction, *, slot: Slot) -> None:
    """The row goes, unless another thread has written down what the node says."""
    row = invoices.by_slot(tx, slot)
    if row is not None and row.status is _S.RESERVED:
        invoices.forget(tx, slot)


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


def _require_terms(paycode: Paycode, request: Request) -> None:
    terms, pending = paycode.terms, paycode.pending
    if paycode.status is PaycodeStatus.DISABLED:
        raise PaycodeDisabled(f"paycode {terms.label!r} is disabled: paycode-enable turns it on again")
    if not terms.min_msat <= request.amount_msat <= terms.highest_msat:
        raise AmountOutOfRange(f"amount_msat: paycode {terms.label!r} takes {terms.amounts} msat")
    if len(request.comment or "") > terms.comment_chars:
        raise CommentTooLong(f"comment: paycode {terms.label!r} takes {terms.comments}")
    if terms.max_pending is not None and pending >= terms.max_pending:
        raise TooManyUnpaid(
            f"paycode {terms.label!r} has {pending} unpaid invoices, its limit: try again when some are paid or expired"
        )
