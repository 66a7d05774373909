"""Invoices that were handed out and of which this sidecar knows nothing: it was lost, or comes from an older backup.

A lazy or held invoice that nobody has paid yet is in the sidecar alone. When that is gone its string still is with a
payer, and its hash can be derived: the indexes that may have been handed out unseen are known for each code
(`adoption.py`), and are looked up by hash for as long as such an invoice can be valid. A payer who knows the payment
secret has its string.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from ..core.htlcs import MOST_TIMES, Htlc, is_payable
from ..core.keys import payment_secret_of
from ..core.labels import Slot
from ..core.records import Invoice, Paycode
from ..core.states import InvoiceStatus
from ..errors import describe
from ..store import invoices
from ..store.store import Store
from ..store.writer import Transaction
from .adoption import Unseen, unseen
from .registry import Registry

log = logging.getLogger(__name__)

#: Seconds that an HTLC waits at most until the hashes are derived.
READY_S = 20.0


class LostInvoices:
    def __init__(self, store: Store, registry: Registry, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._slots: dict[bytes, Slot] = {}
        self._derived: dict[str, Unseen] = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()

    def refresh(self) -> None:
        """Codes may have skipped indexes: derive what is new among them, in the background."""
        self._ready.clear()
        threading.Thread(target=self._refresh, name="paycodes-lost", daemon=True).start()

    def _refresh(self) -> None:
        with self._lock:
            try:
                for paycode in self._registry.every():
                    self._derive(paycode)
            except Exception as e:
                log.error("payments to invoices that are not in the sidecar may be refused: %s", describe(e))
            self._ready.set()

    def _derive(self, paycode: Paycode) -> None:
        found = self._store.read(partial(unseen, paycode_id=paycode.paycode_id))
        if found is None or found == self._derived.get(paycode.paycode_id) or self._clock() >= found.until:
            return
        rows = self._store.read(
            partial(
                invoices.outlines,
                paycode_id=paycode.paycode_id,
                first=found.first,
                last=found.below - 1,
                limit=found.below - found.first,
            )
        )
        known = {index for index, _, _ in rows}
        root = self._registry.root(paycode)
        for index in range(found.first, found.below):
            if index not in known:
                self._slots[root.invoice(index).payment_hash] = Slot(paycode.paycode_id, index)
        self._derived[paycode.paycode_id] = found

    def may_have(self, payment_hash: bytes) -> bool:
        """Answers at once; True for all hashes while some are being derived."""
        return payment_hash in self._slots or not self._ready.is_set()

    def adopt(self, htlc: Htlc) -> Invoice | None:
        """A row for the invoice that an HTLC pays, if it was handed out unseen and the code takes such an amount."""
        if not self._ready.wait(READY_S):
            return None
        slot = self._slots.get(bytes.fromhex(htlc.payment_hash))
        if slot is None:
            return None
        paycode = self._registry.find(slot.paycode_id)
        keys = self._registry.root(paycode).invoice(slot.index)
        terms, until = paycode.terms, self._derived[slot.paycode_id].until
        in_terms = terms.min_msat <= htlc.total_msat <= MOST_TIMES * terms.highest_msat and self._clock() < until
        if not in_terms or not is_payable(
            htlc,
            amount_msat=htlc.total_msat,
            payment_secret=payment_secret_of(keys.preimage).hex(),
            final_cltv_blocks=0,  # which the node sees to
        ):
            return None
        log.info("%s is paid, which is not in the sidecar: taken over with the amount that is sent", slot.label)
        return self._store.write(
            partial(self._record, slot=slot, paycode=paycode, amount_msat=htlc.total_msat, until=until)
        )

    def _record(self, tx: Transaction, slot: Slot, paycode: Paycode, amount_msat: int, until: int) -> Invoice:
        row, now = invoices.by_slot(tx, slot), self._clock()
        if row is not None:
            return row
        return invoices.insert(
            tx,
            slot,
            payment_hash=self._registry.root(paycode).invoice(slot.index).payment_hash.hex(),
            status=InvoiceStatus.ISSUED,
            amount_msat=amount_msat,
            created_at=now,
            expires_at=until,
            moved_at=now,
            description=paycode.terms.description,
            hold=paycode.terms.hold,
            registered=False,
        )
