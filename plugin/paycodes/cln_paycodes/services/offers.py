"""BOLT 12: the offers that the node makes for paycodes, kept in step with them, and the payments that come in by them.

The first offer of a code is made when it is first asked for (`paycode-qr kind=bolt12`): each one is a row at the node
for ever, anyone who has it can make the node issue invoices, and one that was made before the node had a public channel
may stay unreachable. From then on the code has one for its terms, whatever they become.

The node is asked for what it has before an offer is made, so a call whose answer was lost is not repeated; which offers
are ours is told by their labels, so a lost sidecar finds them again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial

from ..core.answers import invoice_event
from ..core.events import EventType
from ..core.offers import Promise, Standing, note_as_comment, offer_id_of, parse_label, standing
from ..core.records import NodeInvoice, NodeOffer, Offer, Paycode
from ..core.terms import PaycodeStatus
from ..errors import IllegalState, NodeRefused, NodeUnknown, PaycodeDisabled
from ..node.port import OFFER_ALREADY_DISABLED, OFFER_ALREADY_ENABLED, Node
from ..store import invoices, offers, outbox, paycodes
from ..store.store import Sql, Store
from ..store.writer import Transaction
from .registry import Registry

log = logging.getLogger(__name__)

#: Characters of a paycode_id that tell apart two codes with the same text and price.
_ISSUER_CHARS = 16


class Offers:
    def __init__(
        self,
        store: Store,
        node: Node,
        registry: Registry,
        *,
        node_id: str,
        clock: Callable[[], int],
        told: Callable[[], None],
    ) -> None:
        """`told` is called after each commit that made an event."""
        self._store = store
        self._node = node
        self._registry = registry
        self._node_id = node_id
        self._clock = clock
        self._told = told
        self._lock = threading.Lock()

    # --- what a code has ---

    def of(self, paycode: Paycode) -> list[Offer]:
        """All offers that the code ever had, the oldest first."""
        return self._store.read(partial(offers.of_paycode, paycode_id=paycode.paycode_id))

    def make(self, selector: str) -> Offer:
        """The code's offer, made now when it has none; PaycodeDisabled, IllegalState, NodeRefused, NodeUnknown."""
        with self._lock:
            paycode = self._registry.find(selector)
            offer = current(self.of(paycode), paycode)
            if paycode.terms.hold:
                raise IllegalState(
                    f"paycode {paycode.terms.label!r} holds its payments, and the node settles those of an offer at"
                    " once: it has no offer"
                )
            if offer is None:
                if paycode.status is PaycodeStatus.DISABLED:
                    raise PaycodeDisabled(
                        f"paycode {paycode.terms.label!r} is disabled and has no offer: paycode-enable turns it on"
                    )
                self._align(paycode)
                offer = current(self.of(paycode), paycode)
        assert offer is not None
        return offer

    # --- keeping in step ---

    def keep(self, paycode: Paycode) -> None:
        """Bring the node's offers of a code that has any in step with it; what fails is left to `reconcile`."""
        with self._lock:
            if self.of(paycode):
                try:
                    self._align(self._registry.find(paycode.paycode_id))
                except (NodeRefused, NodeUnknown) as e:
                    log.warning("the offers of paycode %s are not in step with it yet: %s", paycode.paycode_id, e)

    def settle(self, *, learn: bool) -> list[str]:
        """For `reconcile`: with `learn`, ask the node which are ours; bring all in step; what could not be done."""
        problems = []
        with self._lock:
            if learn:
                self._learn(self._node.offers())
            for paycode_id in self._store.read(offers.paycodes_with_offers):
                paycode = self._store.read(partial(paycodes.by_id, paycode_id=paycode_id))
                assert paycode is not None  # a foreign key
                try:
                    if not self._in_step(paycode):
                        self._align(paycode)
                except NodeRefused as e:
                    problems.append(f"the offers of paycode {paycode_id} are not in step with it: {e}")
        return problems

    def _in_step(self, paycode: Paycode) -> bool:
        """By what the sidecar knows."""
        known = self.of(paycode)
        has_one = not _is_offered(paycode) or current(known, paycode) is not None
        return has_one and all(offer.active == _wanted(offer, paycode) for offer in known)

    def _align(self, paycode: Paycode) -> None:
        """Ask the node, make what is missing, switch what is wrong; the lock is held."""
        self._learn(self._node.offers())
        if _is_offered(paycode) and current(self.of(paycode), paycode) is None:
            self._make(paycode)
        for offer in self.of(paycode):
            wanted = _wanted(offer, paycode)
            if offer.active != wanted:
                self._switch(offer, wanted)

    def _make(self, paycode: Paycode) -> None:
        promise = Promise.of(paycode.paycode_id, paycode.terms)
        made = self._call(paycode, promise, issuer=None)
        if made.label != promise.label:
            # Without blinded paths the node gives the same offer for the same content: another code has it.
            made = self._call(paycode, promise, issuer=paycode.paycode_id[:_ISSUER_CHARS])
        self._save(promise, made)

    def _call(self, paycode: Paycode, promise: Promise, *, issuer: str | None) -> NodeOffer:
        return self._node.make_offer(
            amount_msat=promise.amount_msat,
            description=paycode.terms.description,
            label=promise.label,
            issuer=issuer,
        )

    def _switch(self, offer: Offer, active: bool) -> None:
        try:
            if active:
                self._node.enable_offer(offer.offer_id)
            else:
                self._node.disable_offer(offer.offer_id)
        except NodeRefused as e:
            if e.node_code != (OFFER_ALREADY_ENABLED if active else OFFER_ALREADY_DISABLED):
                raise
        self._store.write(
            partial(
                offers.save,
                offer_id=offer.offer_id,
                promise=offer.promise,
                bolt12=offer.bolt12,
                active=active,
                now=self._clock(),
            )
        )

    def _learn(self, found: Iterable[NodeOffer]) -> None:
        for entry in found:
            promise = parse_label(entry.label)
            if promise is not None and self._registry.root_by_id(promise.paycode_id) is not None:
                known = self._store.read(partial(offers.by_id, offer_id=entry.offer_id))
                if known is None or known.active != entry.active:
                    self._save(promise, entry)

    def _save(self, promise: Promise, entry: NodeOffer) -> None:
        self._store.write(
            partial(
                offers.save,
                offer_id=entry.offer_id,
                promise=promise,
                bolt12=entry.bolt12,
                active=entry.active,
                now=self._clock(),
            )
        )

    # --- payments ---

    def look(self, invoice_label: str) -> None:
        """The node tells of a payment by an offer, perhaps ours: ask it, and write down what it says."""
        offer_id = offer_id_of(invoice_label)
        if offer_id is None or self._store.read(partial(offers.by_id, offer_id=offer_id)) is None:
            return
        fact = self._node.invoice_by_label(invoice_label)
        if fact is not None:
            self.take([fact])

    def take(self, facts: Iterable[NodeInvoice], *, dry_run: bool = False) -> int:
        """Write down those that are payments by offers of ours, each with its event; how many were new.

        What the node lists is a fact, so this needs no state between: the first to see a payment writes it down.
        """
        new = 0
        for fact in facts:
            if fact.offer_id is None or fact.status != "paid":
                continue
            if dry_run:
                new += self._store.read(partial(_is_new, fact=fact))
            else:
                new += self._store.write(partial(self._write, fact=fact))
        return new

    def _write(self, tx: Transaction, fact: NodeInvoice) -> bool:
        assert fact.offer_id is not None
        offer = offers.by_id(tx, fact.offer_id)
        if offer is None:
            return False
        now = self._clock()
        payment = offers.add_payment(tx, offer, fact, comment=note_as_comment(fact.payer_note), now=now)
        if payment is None:
            return False
        if outbox.add(tx, invoice_event(self._node_id, EventType.INVOICE_PAID, payment)):
            tx.after_commit(self._told)
        return True


def current(found: Iterable[Offer], paycode: Paycode) -> Offer | None:
    """Of a code's offers the one that says what the code says now."""
    promise = Promise.of(paycode.paycode_id, paycode.terms)
    return next((offer for offer in found if offer.promise == promise), None)


def _is_offered(paycode: Paycode) -> bool:
    """The code may have offers: nobody holds the payments of one."""
    return paycode.status is PaycodeStatus.ACTIVE and not paycode.terms.hold


def _wanted(offer: Offer, paycode: Paycode) -> bool:
    """The offer should be payable."""
    promise = Promise.of(paycode.paycode_id, paycode.terms)
    return _is_offered(paycode) and standing(offer.promise, promise) is not Standing.OUTDATED


def _is_new(sql: Sql, fact: NodeInvoice) -> bool:
    assert fact.offer_id is not None
    return offers.by_id(sql, fact.offer_id) is not None and invoices.by_hash(sql, fact.payment_hash) is None
