"""The node's part of an invoice: it makes one that it lists, or signs one that it does not know.

The node's own `invoice` takes two turns of its loop and a commit for each invoice. `createinvoice`, of a string that is
made here, takes one turn, and on a connection with `batching` those that arrive together share a commit: it is quicker,
much so with several callers at a time. But `createinvoice` with a payment hash that the node has, under another label,
ends lightningd (v26.06: the insert breaks a UNIQUE constraint, `wallet/invoices.c`). Under our own label it does no
harm: the label is looked for first, and the answer is 900. So it is called for an index once, right after it was taken,
and only when all of this holds:

1. The code's root key was derived from this node's secret. An imported one is known elsewhere, and whoever has it may
   make the same invoices under labels of his own.
2. The index has never been handed out: none is used twice, whichever sidecar or backup this one is. So the preimage has
   not left this process, in which it is made.
3. The node was asked for the payment hash, and its answer, that it has no invoice with it, has just arrived. For a
   caller who asks for one invoice after the other it is asked ahead, while he is given the one before.

Between 3 and the call only someone who knows the preimage could bring the hash into the node; by 1 and 2 nobody does,
unless an operator derives it by hand with `makesecret`, and uses it in that very moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from ..chaining import pass_on, promise, then
from ..core.bolt11 import DESCRIPTION_MAX_BYTES, READABLE_MSAT
from ..core.keys import InvoiceKeys
from ..core.labels import Slot
from ..core.records import Invoice, Paycode
from ..errors import NodeRefused, NodeUnknown, describe
from ..node.port import INVOICE_LABEL_ALREADY_EXISTS, Issued, Node, Wanted
from .registry import Registry
from .signing import Signer

log = logging.getLogger(__name__)

#: Seconds for which the node's word that it does not have a payment hash is good.
_FREE_S = 0.1

#: Seconds within which a second invoice is wanted where it is worth finding out what makes the next ones quick.
_RUSH_S = 1.0


@dataclass(frozen=True, slots=True)
class _Look:
    """The node was asked whether it has a payment hash."""

    payment_hash: str
    is_taken: Future[bool]
    #: by the monotonic clock
    asked_at: float

    def is_good_for(self, payment_hash: str) -> bool:
        """What it says, or will say, is about this hash and fresh."""
        is_fresh = not self.is_taken.done() or time.monotonic() - self.asked_at <= _FREE_S
        return is_fresh and self.payment_hash == payment_hash


class Mint:
    def __init__(
        self,
        node: Node,
        registry: Registry,
        signer: Signer,
        *,
        clock: Callable[[], int],
        submit: Callable[..., None],
    ) -> None:
        """`submit` runs a job with its arguments on a thread that may call the node."""
        self._node = node
        self._registry = registry
        self._signer = signer
        self._clock = clock
        self._submit = submit
        self._preparing = threading.Lock()
        #: until the node refuses it
        self._creates = True
        #: when the last index was taken, by the monotonic clock, and how long after the one before
        self._taken_at = -_RUSH_S
        self._pause_s = _RUSH_S
        #: what that index was taken for
        self._newest: Slot | None = None
        #: for the index that comes next
        self._ahead: _Look | None = None

    def begin(self, row: Invoice) -> Future[Issued]:
        """Have the node make and list the invoice of a row."""
        return self._invoice(row, self._left_s(row))

    def begin_new(self, row: Invoice, paycode: Paycode) -> Future[Issued]:
        """The same for an index that was taken just now, and with which nothing was done yet: the quickest safe way."""
        if not self._may_create(paycode, row):
            return self.begin(row)
        made: Future[Issued] = promise()
        self._draft_if_free(row).add_done_callback(partial(self._drafted, row, made))
        return made

    def make(self, row: Invoice, *, expiry_s: int | None = None) -> Issued:
        """Have the node list an invoice that may have been handed out, for as long as its string says or for
        `expiry_s`, and wait for it; a connection lost on the way is tried once more (a repeat is harmless).
        """
        begin = partial(self._invoice, row, expiry_s or self._left_s(row))
        try:
            return begin().result()
        except NodeUnknown:
            return begin().result()

    def _left_s(self, row: Invoice) -> int:
        """Seconds for which the invoice is to be payable from now on."""
        return max(1, row.expires_at - self._clock())

    def _invoice(self, row: Invoice, expiry_s: int) -> Future[Issued]:
        description = row.description
        if description is None:
            description = self._registry.find(row.paycode_id).terms.description
        return self._node.begin_invoice(
            Wanted(
                label=row.label,
                amount_msat=row.amount_msat,
                description=description,
                description_hashed=row.description_hashed,
                expiry_s=expiry_s,
                preimage=self._keys(row).preimage,
            )
        )

    # --- the quick way ---

    def _may_create(self, paycode: Paycode, row: Invoice) -> bool:
        now = time.monotonic()
        self._pause_s, self._taken_at, self._newest = now - self._taken_at, now, row.slot
        if not self._creates:
            return False
        if not self._signer.is_ready:
            if self._pause_s < _RUSH_S:
                self._prepare_for_more()
            return False
        is_readable = (
            row.amount_msat <= READABLE_MSAT and len((row.description or "").encode()) <= DESCRIPTION_MAX_BYTES
        )
        return paycode.sealed_root is None and is_readable

    def _draft_if_free(self, row: Invoice) -> Future[str | None]:
        def draft(is_taken: bool) -> str | None:
            if is_taken or not self._signer.is_ready:
                return None
            return self._signer.draft(row, self._keys(row), tells_text=True)

        ahead, self._ahead = self._ahead, None
        if ahead is None or not ahead.is_good_for(row.payment_hash):
            ahead = self._look(row.payment_hash)
        return then(ahead.is_taken, draft)

    def _look(self, payment_hash: str) -> _Look:
        return _Look(payment_hash, self._node.begin_search(payment_hash), time.monotonic())

    def _drafted(self, row: Invoice, made: Future[Issued], drafting: Future[str | None]) -> None:
        try:
            draft = None if drafting.exception() else drafting.result()
            if draft is None:
                pass_on(self._invoice(row, self._left_s(row)), made)
            else:
                creating = self._node.begin_creation(draft, label=row.label, preimage=self._keys(row).preimage)
                creating.add_done_callback(partial(self._created, row, made))
        except BaseException as e:
            made.set_exception(e)

    def _created(self, row: Invoice, made: Future[Issued], creating: Future[Issued]) -> None:
        error = creating.exception()
        if error is None:
            made.set_result(creating.result())
        elif isinstance(error, NodeRefused) and error.node_code != INVOICE_LABEL_ALREADY_EXISTS:
            # Nothing happened there. A node that does not take these strings gets no more of them.
            if self._creates:
                log.info("invoices are made one by one: %s", error)
            self._creates = False
            pass_on(self._invoice(row, self._left_s(row)), made)
        else:
            made.set_exception(error)

    def _prepare_for_more(self) -> None:
        """Find out what makes the next invoices quick, without waiting for it."""
        if self._preparing.acquire(blocking=False):
            try:
                self._submit(self._prepare)
            except RuntimeError:  # the plugin is stopping: there will be no more
                self._preparing.release()

    def _prepare(self) -> None:
        try:
            self._signer.prepare()
            self._creates = self._creates and self._signer.is_exact
        except Exception as e:
            log.debug("invoices are made one by one for now: %s", describe(e))
        finally:
            self._preparing.release()

    # --- signing alone ---

    @property
    def can_sign_at_once(self) -> bool:
        """`begin_signature` waits for nothing."""
        return self._signer.is_ready

    def begin_signature(self, row: Invoice) -> Future[str]:
        """The string of an invoice that the node does not get to know yet."""
        return self._signer.begin(row, self._keys(row))

    def prepare_next(self, row: Invoice) -> None:
        """Derive the next invoice's keys, while the node is busy with this one."""
        self._derive(row.paycode_id, row.index + 1)

    def look_ahead(self, row: Invoice) -> None:
        """Ask for the next invoice's hash, after one for a caller who is alone and does not pause."""
        if self._newest == row.slot and self._pause_s < _FREE_S:
            self._ahead = self._look(self._derive(row.paycode_id, row.index + 1).payment_hash.hex())

    def _keys(self, row: Invoice) -> InvoiceKeys:
        return self._derive(row.paycode_id, row.index)

    def _derive(self, paycode_id: str, index: int) -> InvoiceKeys:
        root = self._registry.root_by_id(paycode_id)
        assert root is not None  # codes are never deleted
        return self._registry.invoice_keys(root, index)
