"""The HTLC desk: what becomes of each HTLC that ends here and is for an invoice of ours.

    not ours                      the node goes on at once, without a look at the disk
    the node would refuse it      the node goes on, and refuses it
    of a held invoice             `holds.py` keeps it until the operator has decided
    beyond a complete set         failed: the guard
    of an invoice that the node   the node is told of the invoice first, then goes on
    does not have yet (lazy)

The guard protects against duplicate payments. Parts that are let through are remembered until the invoice is at its
end; one with which they would be more than it takes to be what the payer says the payment is (`total_msat`) is failed,
as the node is not to see more of an invoice while it settles a complete payment. What was let through before the
plugin or the node was started is asked of the node, whose channels remember every HTLC that is undecided; and so it is
before any part is failed, because a payment that failed in the meantime may honestly be tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ..core.htlcs import (
    CONTINUE,
    Htlc,
    Key,
    incorrect_or_unknown_details,
    is_final,
    is_payable,
    read_htlc,
    undecided,
)
from ..core.keys import payment_secret_of
from ..core.records import Invoice
from ..core.states import FINAL, InvoiceStatus
from ..errors import PaycodesError, describe
from ..gathering import Gathering
from ..node.port import Node
from ..store import invoices
from ..store.store import Store
from .books import Books
from .holds import Answer, Holds, Part
from .lost import LostInvoices
from .registration import Registration

log = logging.getLogger(__name__)

_S = InvoiceStatus

#: Parts that are looked up together.
MOST_TOGETHER = 64

#: Parts of one payment that are remembered once they were handed over: more are not under way at a time, and whoever
#: tries them out by the million costs no memory. BOLT 2 has up to 483 in a channel.
MOST_OFFERED = 2000

#: Seconds that the node may take to settle a payment of its own to itself.
SELF_PAYMENT_S = 10.0


class _Payment:
    """What the desk knows of the HTLCs of one payment hash."""

    __slots__ = ("known", "let_msat", "lock", "offered", "paid_by_self_at", "told", "total_msat")

    def __init__(self) -> None:
        #: one part at a time is decided
        self.lock = threading.Lock()
        #: parts that the hook has handed over lately
        self.offered: deque[Key] = deque(maxlen=MOST_OFFERED)
        #: amounts of the parts that were let through
        self.let_msat: dict[Key, int] = {}
        #: what the payer says those are together, the least of it
        self.total_msat: int | None = None
        #: what was let through before this process came is among them
        self.known = False
        #: the node has the invoice, as this process knows
        self.told = False
        #: by the monotonic clock: the node began to settle a payment of its own, without HTLCs
        self.paid_by_self_at: float | None = None

    @property
    def is_paid_by_self(self) -> bool:
        at = self.paid_by_self_at
        return at is not None and time.monotonic() - at < SELF_PAYMENT_S

    def let(self, htlc: Htlc) -> None:
        self.let_msat[htlc.key] = htlc.amount_msat
        self.total_msat = min(htlc.total_msat, self.total_msat or htlc.total_msat)

    def replace_let(self, at_node: dict[Key, int]) -> None:
        """What the node has was let through, unless this process was asked for it and has not done so."""
        others = set(self.offered) - self.let_msat.keys()
        self.let_msat = {key: amount for key, amount in at_node.items() if key not in others}
        if not self.let_msat:
            self.total_msat = None


class Desk:
    def __init__(
        self,
        store: Store,
        node: Node,
        books: Books,
        registration: Registration,
        holds: Holds,
        lost: LostInvoices,
        *,
        clock: Callable[[], int],
        submit: Callable[..., None],
    ) -> None:
        """`submit` runs a job on a thread that may call the node."""
        self._store = store
        self._node = node
        self._books = books
        self._registration = registration
        self._holds = holds
        self._lost = lost
        self._clock = clock
        self._submit = submit
        #: of every invoice of ours that may still be paid
        self._hashes = set(store.read(invoices.open_hashes))
        self._payments: dict[str, _Payment] = {}
        self._arrived: Gathering[tuple[_Payment, Part]] = Gathering(MOST_TOGETHER)
        self._final_cltv_blocks = node.cltv_final()
        self._asking = threading.Lock()
        self._before: dict[str, dict[Key, int]] | None = None

    def changed(self, invoice: Invoice) -> None:
        """An invoice got this state: called after the commit, before anyone is told."""
        if invoice.status in FINAL:
            self._hashes.discard(bytes.fromhex(invoice.payment_hash))
            self._payments.pop(invoice.payment_hash, None)
        else:
            self._hashes.add(bytes.fromhex(invoice.payment_hash))

    def opened(self, payment_hashes: list[str]) -> None:
        """Open invoices that the books have from now on."""
        self._hashes.update(map(bytes.fromhex, payment_hashes))

    def take(self, params: Mapping[str, Any], answer: Answer) -> None:
        """The hook's call; `answer` is called now, or later from another thread, and takes only its first call."""
        if not is_final(params) or not self._may_be_ours(bytes.fromhex(params["htlc"]["payment_hash"])):
            answer(CONTINUE)
            return
        htlc = read_htlc(params)
        payment = self._payments.setdefault(htlc.payment_hash, _Payment())
        payment.offered.append(htlc.key)
        self._arrived.put((payment, Part(htlc, answer)))

    def start(self) -> None:
        """From here on what was taken is decided."""
        threading.Thread(target=self._run, name="paycodes-desk", daemon=True).start()

    def stop(self) -> None:
        self._arrived.close()

    def _run(self) -> None:
        """Parts that come together are looked up together; those for which that is enough are decided here, in their
        order, the others each on a thread of its own.
        """
        while arrived := self._arrived.take():
            rows = self._rows({part.htlc.payment_hash for _, part in arrived})
            for payment, part in arrived:
                row = rows.get(part.htlc.payment_hash)
                try:
                    is_decided = row is not None and self._let_at_once(payment, part, row)
                except Exception as e:
                    log.error("an HTLC of ours is looked at once more: %s", describe(e))
                    is_decided = False
                if not is_decided:
                    self._submit(self._decide, payment, part)

    def _rows(self, payment_hashes: Iterable[str]) -> dict[str, Invoice]:
        """By hash; none when they cannot be read now."""
        try:
            return self._store.read(lambda sql: invoices.by_hashes(sql, payment_hashes))
        except Exception as e:
            log.warning("HTLCs of ours are looked up one by one: %s", describe(e))
            return {}

    def _let_at_once(self, payment: _Payment, part: Part, row: Invoice) -> bool:
        """Let a part of an invoice that the node has had from the start go on, if nobody needs to be asked for that:
        False when it is not so.
        """
        is_plain = row.status in (_S.ISSUED, _S.PAYING) and not row.hold and row.registered and not row.registered_late
        if not is_plain or not payment.lock.acquire(blocking=False):
            return False
        try:
            if not payment.known and self._before is not None:
                self._look_back(payment, part.htlc)
            lets = payment.known and self._is_payable(part.htlc, row) and not _is_one_too_many(payment, part.htlc)
            if lets:
                payment.let(part.htlc)
                part.answer(CONTINUE)
            return lets
        finally:
            payment.lock.release()

    def note_settling(self, payment_hash: bytes) -> None:
        """The node is about to settle a payment; one whose HTLCs were not seen here it sends to itself.

        That is known once `invoice_payment` asks this plugin, not while it asks others first.
        """
        if payment_hash in self._hashes:
            payment = self._payments.setdefault(payment_hash.hex(), _Payment())
            if not payment.let_msat:
                payment.paid_by_self_at = time.monotonic()

    def _may_be_ours(self, payment_hash: bytes) -> bool:
        return payment_hash in self._hashes or self._lost.may_have(payment_hash)

    def _decide(self, payment: _Payment, part: Part) -> None:
        with payment.lock:
            try:
                decision = self._decision(payment, part)
            except PaycodesError as e:
                log.warning("an HTLC of ours is left to the node: %s", e)
                decision = self._left_to_node(payment, part)
            except Exception as e:
                log.error("an HTLC of ours is left to the node: %s", describe(e))
                decision = self._left_to_node(payment, part)
            if decision is not None:
                part.answer(decision)

    @staticmethod
    def _left_to_node(payment: _Payment, part: Part) -> Mapping[str, str]:
        """The node may take it: it counts as let through."""
        payment.let(part.htlc)
        return CONTINUE

    def _decision(self, payment: _Payment, part: Part) -> Mapping[str, str] | None:
        """The hook's answer; None when the part is kept."""
        htlc = part.htlc
        row = self._store.read(partial(invoices.by_hash, payment_hash=htlc.payment_hash)) or self._lost.adopt(htlc)
        if row is None or row.status in FINAL:
            self._payments.pop(htlc.payment_hash, None)
            return CONTINUE
        self.changed(row)
        if row.hold and row.status is not _S.ISSUED:
            return self._holds.take(part, row)
        if not self._is_payable(htlc, row) or (self._is_over(row) and not row.registered):
            return CONTINUE
        if row.hold:
            return self._holds.take(part, row)
        if self._is_surplus(payment, htlc):
            log.info("an HTLC beyond a complete payment of %s was failed", row.label)
            return incorrect_or_unknown_details(htlc, self._holds.height)
        if not payment.told and not self._registration.ensure(row):
            return CONTINUE
        payment.told = True
        payment.let(htlc)
        return CONTINUE

    def _is_payable(self, htlc: Htlc, row: Invoice) -> bool:
        keys = self._books.keys(row.slot)
        return keys is not None and is_payable(
            htlc,
            amount_msat=row.amount_msat,
            payment_secret=payment_secret_of(keys.preimage).hex(),
            final_cltv_blocks=self._final_cltv_blocks,
        )

    def _is_over(self, row: Invoice) -> bool:
        """The invoice has expired; one that the node has may live there for a second more."""
        return self._clock() >= row.expires_at

    # --- the guard ---

    def _is_surplus(self, payment: _Payment, htlc: Htlc) -> bool:
        if not payment.known:
            self._look_back(payment, htlc)
        if not _is_one_too_many(payment, htlc):
            return False
        try:
            at_node = undecided(self._node.incoming_htlcs())
        except PaycodesError as e:
            log.warning("an HTLC is taken for surplus, as the node cannot be asked: %s", e)
            return True
        payment.replace_let(at_node.get(htlc.payment_hash, {}))
        return _is_one_too_many(payment, htlc)

    def _look_back(self, payment: _Payment, htlc: Htlc) -> None:
        try:
            # Beside what was left to the node, here, while nobody could look back.
            payment.replace_let(self._let_before(htlc.payment_hash) | payment.let_msat)
            payment.known = True
        except PaycodesError as e:
            log.warning("what was let through earlier is not known yet: %s", e)

    def _let_before(self, payment_hash: str) -> dict[Key, int]:
        """What of a payment is at the node since before the hook's first call in this process."""
        with self._asking:
            if self._before is None:
                self._before = undecided(self._node.incoming_htlcs())
        return self._before.get(payment_hash, {})


def _is_one_too_many(payment: _Payment, htlc: Htlc) -> bool:
    """The parts that were let through do not need this one, or with it one of them would not be needed.

    The node may take them in any order, as other plugins may be asked after this one: with a part too many it would be
    complete before the last of them comes.
    """
    if payment.is_paid_by_self:
        return True
    amounts = [amount for key, amount in payment.let_msat.items() if key != htlc.key] + [htlc.amount_msat]
    total_msat = min(htlc.total_msat, payment.total_msat or htlc.total_msat)
    return sum(amounts) - min(amounts) >= total_msat
