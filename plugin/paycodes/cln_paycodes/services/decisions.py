"""What becomes of a held payment that is all there: the operator settles or cancels it, or its time is over.

Both are actions (`actions.py`) with the payment hash for their id, so that neither can undo the other. Settling
tells the node of the invoice only now, and lets the HTLCs go to it only when that is sure; then the node settles them.

Who has the money when processes die, by the point that was reached:

    settle                                     plugin alone dies             plugin and node die
    1  before the decision is on disk          payer: canceled, told         held on: the decision is still open
    2  decided (action:begun)                  payer: canceled, told         operator: offered again, settled
    3  node about to be told (register:marked) payer: canceled, told         operator: offered again, settled
    4  node has the invoice (register:called)  operator: the node settles    operator: offered again, settled
    5  books `settling` (action:stored)        operator: the node settles    operator: offered again, let go
    6  HTLCs let go (settle:released)          operator: the node settles    operator: offered again, let go
    7  the node said paid (paid:recorded)      operator                      operator

    cancel
    1  before the decision is on disk          payer: canceled, told         held on: the decision is still open
    2  books `canceled` (action:begun)         payer                         payer: offered again, failed
    3  HTLCs failed (cancel:failed)            payer                         payer

A payment that is given up after the node was told of its invoice (the deadline came while the node was away, a channel
is gone) is canceled only when the node has forgotten the invoice: no HTLC that comes late is settled then. While the
node catches up with the chain nothing is let go, as nobody knows how late it is. A payment that was let go is canceled
when the node itself has given it back: another plugin refused it, or it came too late after a crash. An invoice
that the node had, and that is gone, may have been paid and deleted meanwhile: the node's bookkeeper is asked.

What was answered to `hold-settle` is never lost: it answers when the HTLCs are let go (6).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from .. import crash
from ..core.actions import ActionKind, ActionState, Checkpoint, Done, Failed, Next, Outcome, Park
from ..core.reconciliation import Trace
from ..core.records import Hold, Invoice
from ..core.states import InvoiceStatus
from ..errors import ActionUnderWay, IllegalState, NodeRefused, PaycodesError, WaitTimeout
from ..node.port import Node
from ..store import holds, invoices
from ..store.store import Store
from ..store.writer import Transaction
from .actions import Engine
from .books import Books
from .holds import Holds
from .registration import Registration
from .timer import Timer
from .waiting import Waiters
from .witness import Witness

log = logging.getLogger(__name__)

_S = InvoiceStatus

#: Seconds for which the node takes a held invoice's HTLCs once it was told of it: the payer's own time may be over, and
#: no HTLC waits longer (CLN's `max-locktime-blocks` is 2016).
SETTLE_EXPIRY_S = 14 * 24 * 3600

#: Seconds until an action looks again for HTLCs that the node offers after its restart, or for the node's word.
LOOK_S = 1.0

_LOST = "the plugin stopped or a channel closed while the payment was held: the payer has it back"

_REFUSED = "it was let go, and the node or another plugin has refused it: the payer has it back"

#: Seconds that a command waits for the node's word, which comes at once unless the node was just restarted.
ANSWER_S = 10.0

#: Seconds after which a payment that was let go and is not paid is worth a person's look.
STUCK_S = 600


class Decisions:
    def __init__(
        self,
        store: Store,
        node: Node,
        books: Books,
        holds: Holds,
        registration: Registration,
        engine: Engine,
        waiters: Waiters,
        timer: Timer,
        *,
        clock: Callable[[], int],
        submit: Callable[..., None],
    ) -> None:
        """`submit` runs a job on a thread that may call the node."""
        self._store = store
        self._node = node
        self._books = books
        self._holds = holds
        self._registration = registration
        self._engine = engine
        self._waiters = waiters
        self._timer = timer
        self._clock = clock
        self._submit = submit
        engine.machine(
            ActionKind.SETTLE,
            {
                ActionState.ASKED: self._register,
                ActionState.REGISTERED: self._let_go,
                ActionState.RELEASED: self._await_word,
            },
            on_rejection=_refused,
            ended=self._settle_ended,
        )
        engine.machine(
            ActionKind.CANCEL, {ActionState.ASKED: self._give_back}, on_rejection=_refused, ended=lambda *_: None
        )

    # --- what the operator says ---

    def settle(self, payment_hash: str) -> Hold:
        """Take a held payment; the same again changes nothing.

        Raises UnknownInvoice, and IllegalState when it is canceled or too late. A hold that is still `accepted` then
        has HTLCs that the node, just restarted, has not offered again: the decision is kept.
        """
        hold = self._holds.find(payment_hash)
        self._store.write(partial(self._decide_to_settle, hold=hold))
        try:
            self._waiters.wait(hold.slot, _S.PAID, ANSWER_S).result()
        except (WaitTimeout, IllegalState):
            hold = self._holds.find(payment_hash)
            if hold.status is _S.CANCELED:
                raise IllegalState(f"{hold.slot.label} could not be settled: {hold.reason}") from None
            return hold
        return self._holds.find(payment_hash)

    def _decide_to_settle(self, tx: Transaction, hold: Hold) -> None:
        row = invoices.get(tx, hold.slot)
        if row.status in (_S.SETTLING, _S.PAID):
            return
        if row.status is not _S.ACCEPTED:
            raise IllegalState(f"{row.label} is {row.status}: it cannot be settled any more")
        if self._holds.is_too_late(hold):
            raise IllegalState(self._too_late(hold))
        self._engine.begin(tx, hold.payment_hash, ActionKind.SETTLE, {})

    def _too_late(self, hold: Hold) -> str:
        return (
            f"it is too late to settle {hold.slot.label}: the tip is at block {self._holds.height}, and from block"
            f" {hold.claim_deadline_height} on the channel might have to be closed to get the money"
        )

    def cancel(self, payment_hash: str, reason: str = "canceled by hold-cancel") -> Hold:
        """Give a held payment back to its payer, or take no payment of an invoice that has none yet; the same again
        changes nothing.

        Raises UnknownInvoice, and IllegalState when it is being settled or is over.
        """
        self._store.write(partial(self._decide_to_cancel, payment_hash=payment_hash, reason=reason))
        return self._holds.find(payment_hash)

    def _decide_to_cancel(self, tx: Transaction, payment_hash: str, reason: str) -> None:
        hold = holds.by_hash(tx, payment_hash)
        if hold is not None and hold.status is _S.CANCELED:
            return
        self._engine.begin(tx, payment_hash, ActionKind.CANCEL, {})
        if hold is None:
            self._holds.record_canceled_unpaid(tx, payment_hash, reason)
        else:
            self._holds.record_canceled(tx, hold, reason)

    # --- time ---

    def start(self) -> None:
        """Look what became of payments that were held when the plugin stopped, until all are accounted for."""
        self._submit(self._watch)

    def on_block(self, height: int) -> None:
        """A new tip: what nobody has decided in time is canceled."""
        self._holds.height = height
        self._submit(self._watch)

    def _watch(self) -> None:
        waiting = True
        try:
            undecided = [hold for hold in self._holds.pending() if hold.status is _S.ACCEPTED]
            waiting = bool([hold for hold in undecided if self._is_unaccounted(hold)])
        except PaycodesError as e:
            log.warning("held payments are looked at again: %s", e)
        if waiting:
            self._timer.after(LOOK_S, partial(self._submit, self._watch))

    def _is_unaccounted(self, hold: Hold) -> bool:
        """Its HTLCs are not all here, or nobody could say: look again soon. What is over is canceled."""
        try:
            if self._holds.is_too_late(hold):
                self.cancel(hold.payment_hash, f"nobody decided before block {hold.claim_deadline_height}")
            elif not self._holds.is_attached(hold):
                if self._holds.is_lost(hold):
                    self.cancel(hold.payment_hash, _LOST)
                return True
        except ActionUnderWay:
            self._engine.wake(hold.payment_hash)
        except PaycodesError as e:
            log.warning("%s is looked at again: %s", hold.slot.label, e)
            return True
        return False

    # --- settling, step by step ---

    def _register(self, checkpoint: Checkpoint) -> Outcome:
        hold = self._holds.find(checkpoint.action_id)
        if self._row(hold).registered and self._is_paid(hold):
            return Next(ActionState.REGISTERED)  # an earlier process died when the node had been told
        if not self._holds.knows_tip():
            return Park(wake_after_s=LOOK_S)
        if self._holds.is_too_late(hold):
            return self._give_up(hold, self._too_late(hold))
        if not self._holds.is_attached(hold):
            return self._give_up(hold, _LOST) if self._holds.is_lost(hold) else Park(wake_after_s=LOOK_S)
        self._registration.ensure(self._row(hold), expiry_s=SETTLE_EXPIRY_S)
        return Next(ActionState.REGISTERED)

    def _let_go(self, checkpoint: Checkpoint) -> Outcome:
        hold = self._holds.find(checkpoint.action_id)
        if self._is_paid(hold):
            return Done()
        if not self._holds.knows_tip():
            return Park(wake_after_s=LOOK_S)
        if self._holds.is_too_late(hold):
            return self._give_up(hold, self._too_late(hold))
        if self._holds.is_attached(hold):
            return Next(ActionState.RELEASED, write=partial(self._record_settling, hold=hold))
        return self._give_up(hold, _LOST) if self._holds.is_lost(hold) else Park(wake_after_s=LOOK_S)

    def _record_settling(self, tx: Transaction, hold: Hold) -> None:
        if invoices.get(tx, hold.slot).status is _S.ACCEPTED:
            self._books.change(tx, hold.slot, _S.SETTLING)

    def _await_word(self, checkpoint: Checkpoint) -> Outcome:
        hold = self._holds.find(checkpoint.action_id)
        self._holds.release(hold.payment_hash)
        crash.point("settle:released")
        if self._is_paid(hold):
            return Done()
        if self._holds.is_returned(hold):
            # What it has settled it listed as paid before.
            return Done() if self._is_paid(hold) else self._give_up(hold, _REFUSED)
        if self._clock() - checkpoint.created_at > STUCK_S:
            return Park(error=f"{hold.slot.label} was let go, and the node has not settled it")
        return Park(wake_after_s=LOOK_S)

    def _is_paid(self, hold: Hold) -> bool:
        row = self._books.settle_with_node(hold.slot)
        return row is not None and row.status is _S.PAID

    def _row(self, hold: Hold) -> Invoice:
        return self._store.read(partial(invoices.get, slot=hold.slot))

    def _give_up(self, hold: Hold, reason: str) -> Outcome:
        """Cancel it, after the node has forgotten what it may have been told: whatever lets go of HTLCs from now on,
        it does not settle them. Raises NodeRefused when it was paid just now.
        """
        fact = self._node.invoice_by_label(hold.slot.label)
        if fact is None and self._row(hold).registered:
            # Someone deleted it, perhaps when it was paid: this process was not there.
            if self._holds.is_leaving(hold):
                return Park(wake_after_s=LOOK_S)
            evidence = Witness(self._node, unbroken=False, rewound=False).evidence(hold.payment_hash, in_doubt=True)
            if evidence.trace is Trace.PAID:
                write = partial(self._books.record_paid, slot=hold.slot, evidence=evidence)
                return Park(write=write, wake_after_s=LOOK_S)
        elif fact is not None and fact.status != "expired":
            self._node.delete_unpaid_invoice(hold.slot.label)
        return Failed(reason, write=partial(self._holds.record_canceled, hold=hold, reason=reason))

    def _settle_ended(self, checkpoint: Checkpoint, end: Done | Failed) -> None:
        if isinstance(end, Failed):
            self._holds.give_back(checkpoint.action_id)

    # --- canceling ---

    def _give_back(self, checkpoint: Checkpoint) -> Outcome:
        self._holds.give_back(checkpoint.action_id)
        crash.point("cancel:failed")
        return Done()


def _refused(_: Checkpoint, error: NodeRefused) -> Outcome:
    """Nothing happened at the node: tried again until it takes it, or until the payment's deadline."""
    return Park(error=str(error))
