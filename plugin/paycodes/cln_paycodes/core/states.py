"""The states of an invoice, and every move between them, as data.

    reserved   its index is taken; the node has not confirmed that it has it
    issued     the node has it (eager) or its string was handed out (lazy): it can be paid
    paying     the `invoice_payment` hook saw a complete payment: an intent, never a fact
    accepted   held: all its HTLCs have arrived and wait for the operator
    settling   held: the operator said settle; the node has not confirmed
    paid       the node's word that money arrived
    expired    past its time, unpaid, confirmed with the node
    canceled   held and given back, by the operator, at its deadline, or by the node that was to settle it
    void       never reached the node, its index is burned

A move that is not in the table raises `IllegalMove`. `paid`, `expired`, `canceled` and `void` are final, but for the
node's word that money arrived, which wins over the last three.
"""

from __future__ import annotations

from enum import Enum


class InvoiceStatus(str, Enum):
    RESERVED = "reserved"
    ISSUED = "issued"
    PAYING = "paying"
    ACCEPTED = "accepted"
    SETTLING = "settling"
    PAID = "paid"
    EXPIRED = "expired"
    CANCELED = "canceled"
    VOID = "void"

    def __str__(self) -> str:
        return self.value


_S = InvoiceStatus

#: Moves of the plugin's own accord: intents, answers of the node, the operator's commands.
MOVES: dict[InvoiceStatus, frozenset[InvoiceStatus]] = {
    _S.RESERVED: frozenset({_S.ISSUED, _S.VOID}),
    _S.ISSUED: frozenset({_S.PAYING, _S.PAID, _S.EXPIRED, _S.CANCELED, _S.ACCEPTED}),
    _S.PAYING: frozenset({_S.PAID, _S.ISSUED, _S.EXPIRED}),
    _S.ACCEPTED: frozenset({_S.SETTLING, _S.CANCELED, _S.ISSUED}),
    _S.SETTLING: frozenset({_S.PAID, _S.CANCELED}),
    _S.PAID: frozenset(),
    _S.EXPIRED: frozenset({_S.PAID}),
    _S.CANCELED: frozenset({_S.PAID}),
    _S.VOID: frozenset({_S.PAID}),
}

#: Final for the plugin: only the node's word that money arrived moves the last three on.
FINAL = frozenset({_S.PAID, _S.EXPIRED, _S.CANCELED, _S.VOID})

#: Counts against `max_pending`: may still be paid.
PENDING = frozenset(_S) - FINAL


class IllegalMove(Exception):
    """A bug in the plugin: the move is not in the table, and was not made."""


def move(now: InvoiceStatus, to: InvoiceStatus) -> InvoiceStatus:
    """`to`, when the table allows it from `now`; else IllegalMove."""
    if to not in MOVES[now]:
        raise IllegalMove(f"an invoice cannot go from {now} to {to}")
    return to
