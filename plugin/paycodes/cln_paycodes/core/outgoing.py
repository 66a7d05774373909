"""Outgoing payments: parts grouped into payments, and which of them have reached their end.

xpay emits success and failure notifications per part, and a failure always says `pending`; `listsendpays` holds the
truth: a group with a pending part is under way; else it is complete when any part is. When none is, it has failed
only once it has been quiet for a while: between two attempts of one payment all parts look failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .records import NodePayment

#: Seconds without a new part after which a payment without a complete one counts as failed: payment plugins try the
#: next route at once, not seconds later.
QUIET_S = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class OutgoingOutcome:
    """One payment (all parts of one hash and group) that reached its end."""

    payment_hash: str
    groupid: int
    sent: bool
    #: what the receiver got and what it cost, of the complete parts; None where the node does not say
    amount_msat: int | None
    amount_sent_msat: int | None
    #: unix seconds
    finished_at: int

    @property
    def subject(self) -> str:
        return f"{self.payment_hash}/{self.groupid}"


def outcomes_of(parts: Iterable[NodePayment], *, now: int) -> tuple[list[OutgoingOutcome], bool]:
    """The payments among these parts that reached their end, and whether one may have failed but is not quiet yet.

    `parts` holds every part of each payment in it.
    """
    groups: dict[tuple[str, int], list[NodePayment]] = {}
    for part in parts:
        groups.setdefault((part.payment_hash, part.groupid), []).append(part)
    outcomes, unquiet = [], False
    for (payment_hash, groupid), group in groups.items():
        if any(part.status == "pending" for part in group):
            continue
        complete = [part for part in group if part.status == "complete"]
        finished_at = max(part.completed_at or part.created_at for part in complete or group)
        if not complete and abs(now - finished_at) < QUIET_S:  # the clock may have been set back meanwhile
            unquiet = True
            continue
        outcomes.append(
            OutgoingOutcome(
                payment_hash=payment_hash,
                groupid=groupid,
                sent=bool(complete),
                amount_msat=_sum(part.amount_msat for part in complete),
                amount_sent_msat=_sum(part.amount_sent_msat for part in complete),
                finished_at=finished_at,
            )
        )
    return outcomes, unquiet


def _sum(amounts: Iterable[int | None]) -> int | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None
