"""The node's part of an invoice: it makes one that it lists, or signs one that it does not know.

The node's own `invoice` takes two turns of its loop and a commit for each invoice. `createinvoice`, of a string that is
made here, takes one turn, and on a connection with `batching` those that arrive together share a commit: with several
callers at a time it is quicker. But `createinvoice` with a payment hash that the node has, under another label, ends
lightningd (v26.06: the insert breaks a UNIQUE constraint, `wallet/invoices.c`). Under our own label it is harmless: the
label is looked for first, and the answer is 900. So it is called for an index once, right after it was taken, and only
when all of this holds:

1. The code's root key was derived from this node's secret. An imported one is known elsewhere, and whoever has it may
   make the same invoices under labels of his own.
2. The index has never been handed out: none is used twice, whichever sidecar or backup this one is. So the preimage has
   not left this process, in which it is made.
3. The node was asked for the payment hash, and its answer, that it has no invoice with it, has just arrived.

Between 3 and the call only someone who knows the preimage could bring the hash into the node; by 1 and 2 nobody does,
unless an operator derives it by hand with `makesecret`, and uses it in that very moment.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from ..chaining import pass_on, promise
from ..core.bolt11 import DESCRIPTION_MAX_BYTES
from ..core.keys import InvoiceKeys
from ..core.records import Invoice
from ..errors import NodeRefused, NodeUnknown, describe
from ..node.port import INVOICE_LABEL_ALREADY_EXISTS, Issued, Node, Wanted
from .registry import Registry
from .signing import Signer

log = logging.getLogger(__name__)

#: Invoices that are being made at a time from which on `createinvoice` is the quicker way.
_MANY = 3


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
        #: invoices that are being made
        self._under_way = 0
        self._counting = threading.Lock()

    def begin(self, row: Invoice, *, is_new: bool) -> Future[Issued]:
        """Have the node make and list the invoice of a row, the quickest way that is safe.

        `is_new`: its index was taken just now, and nothing was done with it yet.
        """
        keys = self._keys(row)
        self._count(+1)
        if is_new and self._may_create(row):
            made = self._create_if_free(row, keys)
        else:
            made = self._invoice(row, keys, self._left_s(row))
        made.add_done_callback(lambda _: self._count(-1))
        return made

    def _count(self, more: int) -> None:
        with self._counting:
            self._under_way += more

    def make(self, row: Invoice, *, expiry_s: int | None = None) -> Issued:
        """Have the node list an invoice that may have been handed out, for as long as its string says or for
        `expiry_s`, and wait for it; a connection lost on the way is tried once more (a repeat is harmless).
        """
        begin = partial(self._invoice, row, self._keys(row), expiry_s or self._left_s(row))
        try:
            return begin().result()
        except NodeUnknown:
            return begin().result()

    def _left_s(self, row: Invoice) -> int:
        """Seconds for which the invoice is to be payable from now on."""
        return max(1, row.expires_at - self._clock())

    def _invoice(self, row: Invoice, keys: InvoiceKeys, expiry_s: int) -> Future[Issued]:
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
                preimage=keys.preimage,
            )
        )

    # --- the quick way ---

    def _may_create(self, row: Invoice) -> bool:
        if not self._creates or self._under_way < _MANY:
            return False
        if not self._signer.is_ready:
            self._prepare_for_more()
            return False
        is_short = len((row.description or "").encode()) <= DESCRIPTION_MAX_BYTES
        return is_short and self._registry.is_derived(row.paycode_id)

    def _create_if_free(self, row: Invoice, keys: InvoiceKeys) -> Future[Issued]:
        made: Future[Issued] = promise()
        searching = self._node.begin_search(row.payment_hash)
        searching.add_done_callback(partial(self._searched, row, keys, made))
        return made

    def _searched(self, row: Invoice, keys: InvoiceKeys, made: Future[Issued], searching: Future[bool]) -> None:
        try:
            is_free = searching.exception() is None and not searching.result()
            if is_free and self._signer.is_ready:
                self._create(row, keys, made)
            else:
                pass_on(self._invoice(row, keys, self._left_s(row)), made)
        except BaseException as e:
            made.set_exception(e)

    def _create(self, row: Invoice, keys: InvoiceKeys, made: Future[Issued]) -> None:
        draft = self._signer.draft(row, keys, tells_text=True)
        creating = self._node.begin_creation(draft, label=row.label, preimage=keys.preimage)
        creating.add_done_callback(partial(self._created, row, keys, made))

    def _created(self, row: Invoice, keys: InvoiceKeys, made: Future[Issued], creating: Future[Issued]) -> None:
        error = creating.exception()
        if error is None:
            made.set_result(creating.result())
        elif isinstance(error, NodeRefused) and error.node_code != INVOICE_LABEL_ALREADY_EXISTS:
            # Nothing happened there. A node that does not take these strings gets no more of them.
            if self._creates:
                log.info("invoices are made one by one: %s", error)
            self._creates = False
            pass_on(self._invoice(row, keys, self._left_s(row)), made)
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

    def _keys(self, row: Invoice) -> InvoiceKeys:
        root = self._registry.root_by_id(row.paycode_id)
        assert root is not None  # codes are never deleted
        return root.invoice(row.index)
