"""Books against node: what one invoice's row and the node's word of it together mean.

A pure function from (row, fact, evidence, time) to a finding. It never decides from what it does not know: a row that
the node may be acting on right now is left alone, an amount or a hash that contradicts is a conflict for a person, an
invoice that is gone is issued again or called expired only when it is known that nobody paid it, and money that the
node says arrived always wins.

    row \\ node           unpaid                     paid                       expired
    none                 adopt                      adopt                      adopt
    reserved             confirm issued             confirm paid               confirm expired
    issued               agree                      confirm paid               confirm expired
    paying               release, if stale          confirm paid               confirm expired
    accepted, settling   agree                      confirm paid               agree (the hold's own end follows)
    paid                 conflict                   agree, if the same sum     conflict
    the other finals     conflict, while payable    confirm paid               agree

    row \\ absent, and    never paid                 paid                       not known
    reserved             reissue, void past its time (no one ever had its string)
    issued, paying       missing, expire past its   confirm paid               conflict
                         time
    issued, and the node was never told of it (lazy, held): agree, expire past its time
    all others           agree (cleaned away)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from .labels import Slot
from .records import Invoice, NodeInvoice
from .states import FINAL, InvoiceStatus

#: Seconds after which a hook's intent without an outcome is no longer a payment under way.
INTENT_STALE_S = 60

#: Seconds past `expires_at` after which an invoice that the node no longer has counts as expired: the
#: machine's clock and the node's word need not agree to the second.
EXPIRY_GRACE_S = 2

#: The largest integer of a SQLite column, less one for the index behind it.
HIGHEST_INDEX = 2**63 - 2

_S = InvoiceStatus


class FindingKind(str, Enum):
    ADOPTED = "adopted"  # in the node, unknown to the books
    CONFIRMED = "confirmed"  # the books are behind the node
    REISSUED = "reissued"  # index taken, node never called (or the answer was lost): call it (again)
    MISSING = "missing"  # open in the books, gone from the node, never paid: issue it again
    VOIDED = "voided"  # never reached the node and its time is over
    EXPIRED = "expired"  # open in the books, gone from the node, never paid, and its time is over
    RELEASED = "released"  # the payment that the hook saw did not come through
    CONFLICT = "conflict"  # node and books contradict each other, or it cannot be known whether they do

    def __str__(self) -> str:
        return self.value


class Trace(str, Enum):
    """What is known of payments to an invoice that the node no longer has."""

    NONE = "none"  # proved: it was never paid
    PAID = "paid"  # the node's own bookkeeping has the money that came in
    LOST = "lost"  # the node was restored from an older backup and has forgotten what came after
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    trace: Trace
    #: of a payment that is known
    received_msat: int | None = None
    paid_at: int | None = None


NO_EVIDENCE = Evidence(trace=Trace.UNKNOWN)


class Finding(NamedTuple):
    kind: FindingKind
    slot: Slot
    #: the state that the row gets; None for a conflict
    to: InvoiceStatus | None = None
    #: for a person
    detail: str = ""


#: The node's words, as states of ours.
STATUS_OF_NODE = {"unpaid": _S.ISSUED, "paid": _S.PAID, "expired": _S.EXPIRED}


def judge(
    slot: Slot,
    row: Invoice | None,
    fact: NodeInvoice | None,
    *,
    payment_hash: str | None,
    now: int,
    intent_fresh: bool = False,
    evidence: Evidence = NO_EVIDENCE,
) -> Finding | None:
    """What to do about one slot, or None when books and node agree.

    `payment_hash` is the one that the code derives for this index (None: the code is unknown); `fact` None means
    that the node was asked and has no such invoice, and then `evidence` is what is known of its end; `intent_fresh`
    says that the hook saw a payment for it moments ago, in this very process.
    """
    if fact is None:
        return None if row is None else _judge_absent(slot, row, now, intent_fresh, evidence)
    foreign = foreignness(slot, fact, payment_hash)
    if foreign is not None:
        return _conflict(slot, foreign)
    if row is None:
        return Finding(kind=FindingKind.ADOPTED, slot=slot, to=STATUS_OF_NODE[fact.status])
    if row.amount_msat != (fact.amount_msat or 0):
        return _judge_other_amount(slot, row, fact)
    if fact.status == "paid":
        return _judge_paid(slot, row, fact)
    if row.status is _S.PAID:
        return _conflict(slot, f"paid in the books, {fact.status} at the node")
    if fact.status == "expired":
        return _judge_expired(slot, row)
    return _judge_open(slot, row, fact, now, intent_fresh)


def foreignness(slot: Slot, fact: NodeInvoice, payment_hash: str | None) -> str | None:
    """Why the node's invoice is not the one of this slot, whatever the books have; None when it is."""
    if slot.index > HIGHEST_INDEX:
        return "the node has an invoice with an index that is never handed out"
    if payment_hash is None:
        return "the node has an invoice of a paycode that is not defined anywhere"
    if fact.payment_hash != payment_hash:
        return f"the node's invoice has the foreign payment hash {fact.payment_hash}"
    return None


def _judge_absent(slot: Slot, row: Invoice, now: int, intent_fresh: bool, evidence: Evidence) -> Finding | None:
    over = now > row.expires_at + EXPIRY_GRACE_S
    if row.status not in (_S.RESERVED, _S.ISSUED, _S.PAYING):
        return None
    if row.status is _S.ISSUED and not row.registered:
        return Finding(kind=FindingKind.EXPIRED, slot=slot, to=_S.EXPIRED) if over else None
    if evidence.trace is Trace.PAID:
        return Finding(kind=FindingKind.CONFIRMED, slot=slot, to=_S.PAID)
    if row.status is _S.RESERVED:
        if over:
            return Finding(kind=FindingKind.VOIDED, slot=slot, to=_S.VOID)
        return Finding(kind=FindingKind.REISSUED, slot=slot, to=_S.ISSUED)
    if row.status is _S.PAYING and intent_fresh:
        return None
    if row.status is _S.PAYING and evidence.trace is not Trace.NONE:
        return _conflict(slot, "a payment had arrived for it, and the node no longer has the invoice")
    if evidence.trace is Trace.UNKNOWN:
        return _conflict(slot, "gone from the node, and nothing there says whether it was paid before")
    if over:
        return Finding(kind=FindingKind.EXPIRED, slot=slot, to=_S.EXPIRED)
    return Finding(kind=FindingKind.MISSING, slot=slot, to=_S.ISSUED)


def _judge_other_amount(slot: Slot, row: Invoice, fact: NodeInvoice) -> Finding:
    """A reserved row was never handed out: it gives way to an invoice of an earlier life of this code."""
    if row.status is _S.RESERVED:
        return Finding(kind=FindingKind.ADOPTED, slot=slot, to=STATUS_OF_NODE[fact.status])
    return _conflict(slot, f"amount_msat is {row.amount_msat} here and {fact.amount_msat} at the node")


def _judge_paid(slot: Slot, row: Invoice, fact: NodeInvoice) -> Finding | None:
    if row.status is not _S.PAID:
        return Finding(kind=FindingKind.CONFIRMED, slot=slot, to=_S.PAID)
    if row.received_msat != fact.received_msat:
        return _conflict(slot, f"received_msat is {row.received_msat} here and {fact.received_msat} at the node")
    return None


def _judge_expired(slot: Slot, row: Invoice) -> Finding | None:
    if row.status in FINAL or row.status in (_S.ACCEPTED, _S.SETTLING):
        return None
    return Finding(kind=FindingKind.CONFIRMED, slot=slot, to=_S.EXPIRED)


def _judge_open(slot: Slot, row: Invoice, fact: NodeInvoice, now: int, intent_fresh: bool) -> Finding | None:
    if row.status is _S.RESERVED:
        return Finding(kind=FindingKind.CONFIRMED, slot=slot, to=_S.ISSUED)
    if row.status is _S.PAYING:
        return None if intent_fresh else Finding(kind=FindingKind.RELEASED, slot=slot, to=_S.ISSUED)
    if row.status in FINAL and now < fact.expires_at:
        return _conflict(slot, f"{row.status} in the books, still open at the node")
    return None


def _conflict(slot: Slot, detail: str) -> Finding:
    return Finding(kind=FindingKind.CONFLICT, slot=slot, detail=detail)
