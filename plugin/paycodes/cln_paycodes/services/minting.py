"""The node's part of an invoice: it makes one that it lists, or signs one that it does not know.

The node's own `invoice` takes two turns of its loop and a commit for each invoice. `createinvoice`, of a string that is
made here, takes one turn, and on a connection with `batching` those that arrive together share a commit. Both list the
same invoice; the second may only be called for an index that is certainly free (`vacancy`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from ..chaining import promise
from ..core.bolt11 import DESCRIPTION_MAX_BYTES
from ..core.keys import InvoiceKeys
from ..core.labels import Slot
from ..core.records import Invoice
from ..errors import NodeRefused, NodeUnknown, describe
from ..node.port import INVOICE_LABEL_ALREADY_EXISTS, Issued, Node, Wanted
from .registry import INDEX_BLOCK, Registry
from .signing import Signer
from .vacancy import Vacancy

log = logging.getLogger(__name__)


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
        self._vacancy = Vacancy(node, registry)
        self._clock = clock
        self._submit = submit
        self._preparing = threading.Lock()
        #: until the node refuses it
        self._creates = True

    def begin(self, row: Invoice) -> Future[Issued]:
        """Have the node make and list the invoice of a row, the quickest way that is safe."""
        keys = self._keys(row)
        self._prepare_for_more(row.slot)
        if self._may_create(row):
            return self._create(row, keys)
        return self._invoice(row, keys, max(1, row.expires_at - self._clock()))

    def make(self, row: Invoice, *, expiry_s: int | None = None) -> Issued:
        """Have the node list an invoice that may have been handed out, for as long as its string says or for
        `expiry_s`, and wait for it; a connection lost on the way is tried once more (a repeat is harmless).
        """
        begin = partial(self._invoice, row, self._keys(row), expiry_s or max(1, row.expires_at - self._clock()))
        try:
            return begin().result()
        except NodeUnknown:
            return begin().result()

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
        return (
            self._vacancy.take(row.slot)
            and self._creates
            and self._signer.is_ready
            and len((row.description or "").encode()) <= DESCRIPTION_MAX_BYTES
        )

    def _create(self, row: Invoice, keys: InvoiceKeys) -> Future[Issued]:
        draft = self._signer.draft(row, keys, tells_text=True)
        made: Future[Issued] = promise()
        creating = self._node.begin_creation(draft, label=row.label, preimage=keys.preimage)
        creating.add_done_callback(partial(self._created, row, keys, made))
        return made

    def _created(self, row: Invoice, keys: InvoiceKeys, made: Future[Issued], creating: Future[Issued]) -> None:
        error = creating.exception()
        if error is None:
            made.set_result(creating.result())
        elif isinstance(error, NodeRefused) and error.node_code != INVOICE_LABEL_ALREADY_EXISTS:
            # Nothing happened there. A node that does not take these strings gets no more of them.
            if self._creates:
                log.info("invoices are made one by one: %s", error)
            self._creates = False
            _pass_on(self._invoice(row, keys, max(1, row.expires_at - self._clock())), made)
        else:
            made.set_exception(error)

    def _prepare_for_more(self, slot: Slot) -> None:
        """Find out what makes the next invoices quick, without waiting for it."""
        if (
            self._creates
            and not (self._signer.is_ready and not self._vacancy.needs_look(slot))
            and self._preparing.acquire(blocking=False)
        ):
            try:
                self._submit(self._prepare, slot)
            except RuntimeError:  # the plugin is stopping: there will be no more
                self._preparing.release()

    def _prepare(self, slot: Slot) -> None:
        try:
            self._signer.prepare()
            self._creates = self._creates and self._signer.is_exact
            self._registry.reserve_index_block(slot.paycode_id, left=INDEX_BLOCK // 2)
            self._vacancy.look_ahead(slot)
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


def _pass_on(first: Future[Issued], second: Future[Issued]) -> None:
    def done(finished: Future[Issued]) -> None:
        error = finished.exception()
        if error is None:
            second.set_result(finished.result())
        else:
            second.set_exception(error)

    first.add_done_callback(done)
