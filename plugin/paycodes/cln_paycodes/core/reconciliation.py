"""Books against node: what one invoice's row and the node's word of it together mean.

A pure function from (row, fact, time) to a finding. It never decides from what it does not know: a row that the node
may be acting on right now is left alone, an amount or a hash that contradicts is a conflict for a person, and money
that the node says arrived always wins.

    row \\ node      absent                          unpaid              paid                   expired
    none            (nothing)                       adopt               adopt                  adopt
    reserved        reissue, void past its time     confirm issued      confirm paid           confirm expired
    issued          missing, expire past its time   agree               confirm paid           confirm expired
    paying          conflict, until asked again     release, if stale   confirm paid           confirm expired
    paid            agree (cleaned away)            conflict            agree, if the same sum conflict
    expired, void   agree                           conflict            confirm paid           agree
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .labels import Slot
from .records import Invoice, NodeInvoice
from .states import InvoiceStatus

#: Seconds after which a hook's intent without an outcome is no longer a payment under way.
INTENT_STALE_S = 60

#: Seconds past `expires_at` after which an invoice that the node no longer has counts as expired: the
#: machine's clock and the node's word need not agree to the second.
EXPIRY_GRACE_S = 2

_S = InvoiceStatus


class FindingKind(str, Enum):
    ADOPTED = "adopted"  # in the node, unknown to the books
    CONFIRMED = "confirmed"  # the books are behind the node
    REISSUED = "reissued"  # index taken, node never called (or the answer was lost): call it (again)
    MISSING = "missing"  # open in the books, gone from the node: issue it again
    VOIDED = "voided"  # never reached the node and its time is over
    EXPIRED = "expired"  # open in the books, gone from the node, and its time is over
    RELEASED = "released"  # the payment that the hook saw did not come through
    CONFLICT = "conflict"  # node and books contradict each other

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    kind: FindingKind
    slot: Slot
    #: the state that the row gets; None for a conflict
    to: InvoiceStatus | None = None
    #: for a person
    detail: str = ""


#: The node's words, as states of ours.
STATUS_OF_NODE = {"unpaid": _S.ISSUED, "paid": _S.PAID, "expired": _S.EXPIRED}


def judge(
    slot: Slot, row: Invoice | None, fact: NodeInvoice | None, *, payment_hash: str | None, now: int
) -> Finding | None:
    """What to do about one slot, or None when books and node agree.

    `payment_hash` is the one that the code derives for this index (None: the code is unknown); `fact` None means
    that the node was asked and has no such invoice.
    """
    if fact is None:
        return None if row is None else _judge_absent(slot, row, now)
    if payment_hash is None:
        return _conflict(slot, "the node has an invoice of a paycode that is not defined anywhere")
    if fact.payment_hash != payment_hash:
        return _conflict(slot, f"the node's invoice has the foreign payment hash {fact.payment_hash}")
    if row is None:
        return Finding(kind=FindingKind.ADOPTED, slot=slot, to=STATUS_OF_NODE[fact.status])
    return _judge_present(slot, row, fact, now)


def _judge_absent(slot: Slot, row: Invoice, now: int) -> Finding | None:
    over = now > row.expires_at + EXPIRY_GRACE_S
    if row.status is _S.RESERVED:
        if over:
            return Finding(kind=FindingKind.VOIDED, slot=slot, to=_S.VOID)
        return Finding(kind=FindingKind.REISSUED, slot=slot, to=_S.ISSUED)
    if row.status is _S.ISSUED:
        if over:
            return Finding(kind=FindingKind.EXPIRED, slot=slot, to=_S.EXPIRED)
        return Finding(kind=FindingKind.MISSING, slot=slot, to=_S.ISSUED)
    if row.status is _S.PAYING:
        return _conflict(slot, "a payment had arrived for it, and the node no longer has the invoice")
    return None


def _judge_present(slot: Slot, row: Invoice, fact: NodeInvoice, now: int) -> Finding | None:
    if fact.status == "paid":
        if row.status is not _S.PAID:
            return Finding(kind=FindingKind.CONFIRMED, slot=slot, to=_S.PAID)
        if row.received_msat != fact.received_msat:
            return _conflict(slot, f"received_msat is {row.received_msat} here and {fact.received_msat} at the node")
        return None
    if row.status is _S.PAID:
        return _conflict(slot, f"paid in the books, {fact.status} at the node")
    if fact.status == "expired":
        if row.status in (_S.EXPIRED, _S.VOID, _S.CANCELED):
            return None
        return Finding(kind=FindingKind.CONFIRMED, slot=slot, to=_S.EXPIRED)
    if row.status is _S.RESERVED:
        return Finding(kind=FindingKind.CONFIRMED, slot=slot, to=_S.ISSUED)
    if row.status is _S.PAYING:
        stale = not 0 <= now - row.moved_at < INTENT_STALE_S
        return Finding(kind=FindingKind.RELEASED, slot=slot, to=_S.ISSUED) if stale else None
    if row.status is _S.ISSUED:
        return None
    return _conflict(slot, f"{row.status} in the books, still open at the node")


def _conflict(slot: Slot, detail: str) -> Finding:
    return Finding(kind=FindingKind.CONFLICT, slot=slot, detail=detail)
