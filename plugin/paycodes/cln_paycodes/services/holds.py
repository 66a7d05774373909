"""Held payments: their HTLCs are kept until the operator settles or cancels, or the time to do so is over.

Only this process keeps them. Where the plugin dies, lightningd lets its HTLCs go on: the node does not know a held
invoice, so they go back to the payer, and the books say so when the plugin is back. Where the node dies too, it offers
the same HTLCs again, and they are attached to the hold that they were part of.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from .. import crash
from ..core.answers import hold_event
from ..core.events import EventType
from ..core.holds import claim_deadline_height, margin_blocks
from ..core.htlcs import (
    CONTINUE,
    Htlc,
    Key,
    final_incorrect_amount,
    incorrect_or_unknown_details,
    mpp_timeout,
    temporary_failure,
    undecided,
)
from ..core.labels import Slot
from ..core.records import Hold, Invoice
from ..core.states import InvoiceStatus
from ..errors import IllegalState, PaycodesError, UnknownInvoice, describe
from ..node.port import Node
from ..store import holds, invoices, outbox
from ..store.store import Sql, Store
from ..store.writer import Transaction
from .books import Books
from .timer import Timer

log = logging.getLogger(__name__)

_S = InvoiceStatus

#: Seconds after its first part in which a payment has to be complete (BOLT 4: at least 60).
INCOMPLETE_S = 60.0

#: Blocks before its deadline from which on a hold that nobody has decided is worth a warning.
URGENT_BLOCKS = 12

#: Answers the hook, once.
Answer = Callable[[Mapping[str, str]], None]


@dataclass(frozen=True, slots=True)
class Part:
    """An HTLC that waits for its answer."""

    htlc: Htlc
    answer: Answer


@dataclass(slots=True)
class _Kept:
    """The parts of one payment that wait here."""

    parts: dict[Key, Part] = field(default_factory=dict)
    #: it was accepted, which is on disk
    is_complete: bool = False

    @property
    def amount_msat(self) -> int:
        return sum(part.htlc.amount_msat for part in self.parts.values())


class Holds:
    def __init__(
        self,
        store: Store,
        node: Node,
        books: Books,
        timer: Timer,
        *,
        node_id: str,
        clock: Callable[[], int],
        told: Callable[[], None],
        stirred: Callable[[str], None],
        submit: Callable[..., None],
    ) -> None:
        """`told` is called after a commit that made an event, `stirred` when HTLCs of a payment that was all there come
        back; `submit` runs a job on a thread that may wait for the disk.
        """
        self._store = store
        self._node = node
        self._books = books
        self._timer = timer
        self._node_id = node_id
        self._clock = clock
        self._told = told
        self._stirred = stirred
        self._submit = submit
        self._margin = margin_blocks(cltv_delta=node.cltv_delta(), cltv_final=node.cltv_final())
        #: of the newest block that the node told of
        self.height = node.block_height()
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    # --- HTLCs ---

    def take(self, part: Part, row: Invoice) -> Mapping[str, str] | None:
        """The hook's answer to an HTLC of a held invoice; None when it is kept."""
        with self._lock:
            current = self._store.read(partial(invoices.by_slot, slot=row.slot))
            assert current is not None
            if current.status is _S.ISSUED:
                return self._gather(part, current)
            if current.status in (_S.ACCEPTED, _S.SETTLING):
                return self._attach(part, current)
            self._give_back(row.payment_hash, self._unexpected)  # what came before it was over
            return CONTINUE

    def _gather(self, part: Part, row: Invoice) -> Mapping[str, str] | None:
        htlc = part.htlc
        if self._deadline([htlc]) <= self.height:
            return self._unexpected(htlc)
        kept = self._kept.setdefault(row.payment_hash, _Kept())
        kept.parts[htlc.key] = part
        if len({other.htlc.total_msat for other in kept.parts.values()}) > 1:
            self._give_back(row.payment_hash, final_incorrect_amount)
        elif kept.amount_msat >= htlc.total_msat:
            self._give_back_surplus(kept, htlc.total_msat)
            self._accept(row, kept)
        elif len(kept.parts) == 1:
            self._timer.after(INCOMPLETE_S, partial(self._submit, self._time_out, row.payment_hash, kept))
        return None

    def _give_back_surplus(self, kept: _Kept, total_msat: int) -> None:
        """Keep only parts of which each is needed, as the node may get them in any order after its restart: one that
        comes while it settles a complete payment ends lightningd.
        """
        for key, part in sorted(kept.parts.items(), key=lambda item: item[1].htlc.amount_msat):
            if kept.amount_msat - part.htlc.amount_msat < total_msat:
                return
            del kept.parts[key]
            part.answer(self._unexpected(part.htlc))

    def _accept(self, row: Invoice, kept: _Kept) -> None:
        """All parts are here: told to the operator, in one transaction with the state."""
        try:
            self._store.write(partial(self._record_accepted, slot=row.slot, kept=kept))
        except Exception as e:  # whatever it is: nobody else gives them back
            why = e.message if isinstance(e, PaycodesError) else describe(e)
            log.warning("a payment that was to be held is given back: %s", why)
            self._give_back(row.payment_hash, lambda _: temporary_failure())
        else:
            kept.is_complete = True
            crash.point("hold:accepted")

    def _record_accepted(self, tx: Transaction, slot: Slot, kept: _Kept) -> None:
        now, htlcs = self._clock(), [part.htlc for part in kept.parts.values()]
        deadline = self._deadline(htlcs)
        invoice = self._books.change(tx, slot, _S.ACCEPTED)
        holds.insert(
            tx,
            invoice.payment_hash,
            parts=[htlc.key for htlc in htlcs],
            amount_msat=kept.amount_msat,
            accepted_at=now,
            claim_deadline_height=deadline,
        )
        self._tell(tx, EventType.HOLD_ACCEPTED, invoice, parts=len(htlcs), claim_deadline_height=deadline)

    def _attach(self, part: Part, row: Invoice) -> Mapping[str, str] | None:
        """The node offers an HTLC again after its restart, or there is one that was not part of the payment."""
        hold = self._store.read(partial(holds.by_hash, payment_hash=row.payment_hash))
        if hold is None or part.htlc.key not in hold.parts:
            return self._unexpected(part.htlc)
        if row.status is _S.SETTLING:
            return CONTINUE
        self._kept.setdefault(row.payment_hash, _Kept()).parts[part.htlc.key] = part
        self._stirred(row.payment_hash)
        return None

    def _deadline(self, htlcs: list[Htlc]) -> int:
        return claim_deadline_height((htlc.cltv_expiry for htlc in htlcs), margin=self._margin)

    def _time_out(self, payment_hash: str, kept: _Kept) -> None:
        """Whatever became of the invoice meanwhile: nobody else gives back what never was a hold."""
        with self._lock:
            if self._kept.get(payment_hash) is kept and not kept.is_complete:
                self._give_back(payment_hash, lambda _: mpp_timeout())

    def _give_back(self, payment_hash: str, failure: Callable[[Htlc], Mapping[str, str]]) -> None:
        """Fail what is kept of a payment; the lock is held."""
        kept = self._kept.pop(payment_hash, None)
        for part in () if kept is None else kept.parts.values():
            part.answer(failure(part.htlc))

    def _unexpected(self, htlc: Htlc) -> Mapping[str, str]:
        return incorrect_or_unknown_details(htlc, self.height)

    def release(self, payment_hash: str) -> None:
        """Let the node have what is kept of a payment: it knows the invoice now, and settles it."""
        with self._lock:
            kept = self._kept.pop(payment_hash, None)
            for part in () if kept is None else kept.parts.values():
                part.answer(CONTINUE)

    def knows_tip(self) -> bool:
        """The height is that of the chain; not so while the node catches up, when it was away for some blocks."""
        height = self._node.tip_height()
        if height is None:
            return False
        self.height = height
        return True

    def is_attached(self, hold: Hold) -> bool:
        """All HTLCs of the payment are kept here."""
        with self._lock:
            kept = self._kept.get(hold.payment_hash)
            return kept is not None and hold.parts <= kept.parts.keys()

    def is_lost(self, hold: Hold) -> bool:
        """An HTLC of the payment is neither kept here nor waiting at the node: the payer has it back."""
        at_node = undecided(self._node.incoming_htlcs()).get(hold.payment_hash, {})
        with self._lock:
            kept = self._kept.get(hold.payment_hash)
            here = set() if kept is None else kept.parts.keys()
            return not hold.parts <= here | at_node.keys()

    def is_returned(self, hold: Hold) -> bool:
        """No HTLC of a payment that was let go waits at the node any more: it was settled, or the payer has it back."""
        return hold.payment_hash not in undecided(self._node.incoming_htlcs())

    def is_leaving(self, hold: Hold) -> bool:
        """An HTLC of the payment is decided and still in its channel: the node's bookkeeper does not know of it yet."""
        htlcs = self._node.incoming_htlcs()
        return any(htlc.payment_hash == hold.payment_hash and not htlc.is_undecided for htlc in htlcs)

    def give_back(self, payment_hash: str) -> None:
        """Fail what is kept of a payment that is canceled."""
        with self._lock:
            self._give_back(payment_hash, self._unexpected)

    # --- the books ---

    def find(self, payment_hash: str) -> Hold:
        """Raises UnknownInvoice, and IllegalState when nothing is held of that invoice."""
        found = self.listed(payment_hash)
        if not found:
            raise self._store.read(partial(_no_hold, payment_hash=payment_hash))
        return found[0]

    def listed(self, payment_hash: str | None) -> list[Hold]:
        """One hold whatever became of it, if there is such a one, or all that are not at their end."""
        if payment_hash is None:
            return self.pending()
        hold = self._store.read(partial(holds.by_hash, payment_hash=payment_hash))
        return [] if hold is None else [hold]

    def urgent(self) -> list[Hold]:
        """Those that are canceled within `URGENT_BLOCKS` when nobody decides."""
        return [
            hold
            for hold in self.pending()
            if hold.status is _S.ACCEPTED and hold.claim_deadline_height - self.height <= URGENT_BLOCKS
        ]

    def pending(self) -> list[Hold]:
        """Those that are not at their end, the most urgent first."""
        return self._store.read(holds.pending)

    def is_too_late(self, hold: Hold) -> bool:
        """So few blocks are left that it is canceled, and no longer settled."""
        return self.height >= hold.claim_deadline_height

    def record_canceled(self, tx: Transaction, hold: Hold, reason: str) -> None:
        """State, reason and event; what is canceled already stays as it is. Raises IllegalState."""
        row = invoices.get(tx, hold.slot)
        if row.status is _S.CANCELED:
            return
        if row.status not in (_S.ACCEPTED, _S.SETTLING):
            raise IllegalState(f"{row.label} is {row.status}: it cannot be canceled any more")
        self._record_canceled(tx, hold.slot, reason)

    def record_canceled_unpaid(self, tx: Transaction, payment_hash: str, reason: str) -> None:
        """The same of an invoice of which no payment was complete. Raises UnknownInvoice, IllegalState."""
        row = invoices.by_hash(tx, payment_hash)
        if row is None or not row.hold or row.status is not _S.ISSUED:
            raise _no_hold(tx, payment_hash)
        holds.insert(tx, payment_hash, parts=[], amount_msat=0, accepted_at=0, claim_deadline_height=0)
        self._record_canceled(tx, row.slot, reason)

    def _record_canceled(self, tx: Transaction, slot: Slot, reason: str) -> None:
        canceled = self._books.change(tx, slot, _S.CANCELED)
        holds.set_reason(tx, canceled.payment_hash, reason)
        self._tell(tx, EventType.HOLD_CANCELED, canceled, reason=reason)

    def _tell(self, tx: Transaction, event_type: EventType, invoice: Invoice, **of_hold: str | int) -> None:
        event = hold_event(self._node_id, event_type, invoice, timestamp=self._clock(), **of_hold)
        if outbox.add(tx, event):
            tx.after_commit(self._told)


def _no_hold(sql: Sql, payment_hash: str) -> PaycodesError:
    """Why there is none."""
    row = invoices.by_hash(sql, payment_hash)
    if row is None:
        return UnknownInvoice(f"no held payment has the payment hash {payment_hash}: see listholds")
    if not row.hold:
        return IllegalState(f"{row.label} is not a held invoice")
    return IllegalState(f"{row.label} is {row.status}: nothing is held")
