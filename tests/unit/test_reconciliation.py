"""Every decision of `reconcile`, from (row, fact, evidence, time) alone."""

from __future__ import annotations

from itertools import product

import pytest
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.reconciliation import (
    EXPIRY_GRACE_S,
    HIGHEST_INDEX,
    NO_EVIDENCE,
    Evidence,
    Finding,
    FindingKind,
    Trace,
    judge,
)
from cln_paycodes.core.records import Invoice, NodeInvoice
from cln_paycodes.core.states import FINAL, MOVES, InvoiceStatus
from samples import NOW, hash_of, slot_of

S = InvoiceStatus
K = FindingKind
SLOT = slot_of("coffee", 7)
OVER = NOW + 3600 + EXPIRY_GRACE_S + 1
OPEN = frozenset({S.RESERVED, S.ISSUED, S.PAYING})
TRACES = tuple(Evidence(trace=trace, received_msat=5, paid_at=NOW) for trace in Trace)


def row_in(status: InvoiceStatus, amount_msat: int = 1000, *, registered: bool = True) -> Invoice:
    paid = status is S.PAID
    return Invoice(
        sequence=1,
        paycode_id=SLOT.paycode_id,
        index=SLOT.index,
        payment_hash=hash_of(SLOT),
        status=status,
        amount_msat=amount_msat,
        received_msat=1000 if paid else None,
        bolt11="lnbcrt1",
        created_at=NOW,
        expires_at=NOW + 3600,
        paid_at=NOW if paid else None,
        moved_at=NOW,
        comment=None,
        payer_data=None,
        idempotency_key=None,
        description=None,
        description_hashed=False,
        offer_id=None,
        hold=False,
        registered=registered,
        registered_late=False,
    )


def fact_that_is(
    status: str, slot: Slot = SLOT, received_msat: int = 1000, payment_hash: str | None = None
) -> NodeInvoice:
    paid = status == "paid"
    return NodeInvoice(
        label=slot.label,
        payment_hash=payment_hash or hash_of(slot),
        status=status,
        amount_msat=1000,
        received_msat=received_msat if paid else None,
        bolt11="lnbcrt1",
        expires_at=NOW + 3600,
        paid_at=NOW if paid else None,
        created_index=1,
        updated_index=None,
        description=None,
    )


def decide(
    status: InvoiceStatus | None,
    word: str | None,
    *,
    now: int = NOW,
    fresh: bool = False,
    evidence: Evidence = NO_EVIDENCE,
) -> tuple[FindingKind, InvoiceStatus | None] | None:
    finding = judge(
        SLOT,
        None if status is None else row_in(status),
        None if word is None else fact_that_is(word),
        payment_hash=hash_of(SLOT),
        now=now,
        intent_fresh=fresh,
        evidence=evidence,
    )
    return None if finding is None else (finding.kind, finding.to)


@pytest.mark.parametrize(
    ("status", "unpaid", "paid", "expired"),
    [
        (None, (K.ADOPTED, S.ISSUED), (K.ADOPTED, S.PAID), (K.ADOPTED, S.EXPIRED)),
        (S.RESERVED, (K.CONFIRMED, S.ISSUED), (K.CONFIRMED, S.PAID), (K.CONFIRMED, S.EXPIRED)),
        (S.ISSUED, None, (K.CONFIRMED, S.PAID), (K.CONFIRMED, S.EXPIRED)),
        (S.PAYING, (K.RELEASED, S.ISSUED), (K.CONFIRMED, S.PAID), (K.CONFIRMED, S.EXPIRED)),
        (S.ACCEPTED, None, (K.CONFIRMED, S.PAID), None),
        (S.SETTLING, None, (K.CONFIRMED, S.PAID), None),
        (S.PAID, (K.CONFLICT, None), None, (K.CONFLICT, None)),
        (S.EXPIRED, (K.CONFLICT, None), (K.CONFIRMED, S.PAID), None),
        (S.CANCELED, (K.CONFLICT, None), (K.CONFIRMED, S.PAID), None),
        (S.VOID, (K.CONFLICT, None), (K.CONFIRMED, S.PAID), None),
    ],
)
def test_what_the_node_lists_decides(
    status: InvoiceStatus | None, unpaid: object, paid: object, expired: object
) -> None:
    """Each state against each word of the node has one decision, and money that arrived always wins."""
    assert decide(status, "unpaid") == unpaid
    assert decide(status, "paid") == paid
    assert decide(status, "expired") == expired


@pytest.mark.parametrize("status", sorted(set(S) - OPEN))
def test_what_is_final_or_held_and_gone_was_cleaned(status: InvoiceStatus) -> None:
    """A row that needs nothing more from the node agrees with its absence, whatever else is known."""
    assert {decide(status, None, evidence=evidence, now=now) for evidence in TRACES for now in (NOW, OVER)} == {None}


@pytest.mark.parametrize("now", [NOW, OVER])
@pytest.mark.parametrize("status", sorted(OPEN))
def test_money_that_the_bookkeeper_saw_makes_a_gone_invoice_paid(status: InvoiceStatus, now: int) -> None:
    """An invoice that was paid and cleaned away before the books knew is paid."""
    assert decide(status, None, evidence=Evidence(trace=Trace.PAID), now=now) == (K.CONFIRMED, S.PAID)


@pytest.mark.parametrize("now", [NOW, OVER])
@pytest.mark.parametrize("status", [S.ISSUED, S.PAYING])
def test_gone_without_any_trace_is_a_conflict(status: InvoiceStatus, now: int) -> None:
    """Not knowing is never taken for unpaid: neither issued again nor told as expired."""
    assert decide(status, None, now=now) == (K.CONFLICT, None)


@pytest.mark.parametrize("trace", [Trace.NONE, Trace.LOST])
def test_open_and_gone_and_never_paid_is_issued_again_until_its_time_is_over(trace: Trace) -> None:
    """Under the same slot while it could still be paid, else expired."""
    evidence = Evidence(trace=trace)

    assert decide(S.ISSUED, None, evidence=evidence) == (K.MISSING, S.ISSUED)
    assert decide(S.ISSUED, None, evidence=evidence, now=OVER) == (K.EXPIRED, S.EXPIRED)


def test_intent_on_a_node_that_forgot_is_a_conflict() -> None:
    """The hook saw a payment, the node was restored from before it: only a person can know."""
    assert decide(S.PAYING, None, evidence=Evidence(trace=Trace.LOST)) == (K.CONFLICT, None)
    assert decide(S.PAYING, None, evidence=Evidence(trace=Trace.NONE)) == (K.MISSING, S.ISSUED)


@pytest.mark.parametrize("evidence", [e for e in TRACES if e.trace is not Trace.PAID])
def test_reserved_and_absent_needs_no_evidence(evidence: Evidence) -> None:
    """No one ever had its string: it is issued, or void once its time is over."""
    assert decide(S.RESERVED, None, evidence=evidence) == (K.REISSUED, S.ISSUED)
    assert decide(S.RESERVED, None, evidence=evidence, now=OVER) == (K.VOIDED, S.VOID)


@pytest.mark.parametrize("word", ["unpaid", None])
def test_payment_of_this_moment_is_left_alone(word: str | None) -> None:
    """While the hook's intent is fresh the node may be settling it."""
    assert decide(S.PAYING, word, fresh=True) is None


def test_clock_that_was_set_back_expires_nothing() -> None:
    """An open row is open as long as node or clock say so, and the hook's intent does not depend on the clock."""
    evidence = Evidence(trace=Trace.NONE)

    assert decide(S.ISSUED, None, evidence=evidence, now=NOW - 86_400) == (K.MISSING, S.ISSUED)
    assert decide(S.ISSUED, "unpaid", now=NOW - 86_400) is None
    assert decide(S.PAYING, "unpaid", now=NOW - 86_400, fresh=True) is None


def test_final_row_waits_for_the_node_to_expire_what_is_over() -> None:
    """A node that was just restored still lists as unpaid what it will expire at once."""
    assert decide(S.EXPIRED, "unpaid", now=NOW + 3600) is None


def conflict(row: Invoice | None, fact: NodeInvoice, payment_hash: str | None) -> Finding | None:
    return judge(SLOT, row, fact, payment_hash=payment_hash, now=NOW)


@pytest.mark.parametrize("status", [None, *S])
@pytest.mark.parametrize("word", ["unpaid", "paid", "expired"])
def test_foreign_hash_is_never_overwritten(status: InvoiceStatus | None, word: str) -> None:
    """A label of ours over another hash is a conflict that names that hash, even when it is paid."""
    row = None if status is None else row_in(status)
    finding = conflict(row, fact_that_is(word, payment_hash="ab" * 32), hash_of(SLOT))

    assert finding is not None
    assert (finding.kind, finding.to) == (K.CONFLICT, None)
    assert "ab" * 32 in finding.detail


def test_invoice_of_an_unknown_code_is_a_conflict() -> None:
    """Without the key nothing about it can be proved."""
    finding = conflict(None, fact_that_is("paid"), None)

    assert finding is not None
    assert finding.kind is K.CONFLICT


def test_index_beyond_what_can_be_stored_is_a_conflict() -> None:
    """It was not handed out here, and it stops nothing."""
    slot = Slot(SLOT.paycode_id, HIGHEST_INDEX + 1)
    finding = judge(slot, None, fact_that_is("paid", slot), payment_hash=hash_of(slot), now=NOW)

    assert finding is not None
    assert finding.kind is K.CONFLICT


def test_other_sum_is_a_conflict() -> None:
    """Paid on both sides with different sums is for a person."""
    finding = conflict(row_in(S.PAID), fact_that_is("paid", received_msat=999), hash_of(SLOT))

    assert finding is not None
    assert (finding.kind, "1000" in finding.detail, "999" in finding.detail) == (K.CONFLICT, True, True)


@pytest.mark.parametrize(("status", "kind"), [(S.RESERVED, K.ADOPTED), (S.ISSUED, K.CONFLICT), (S.PAID, K.CONFLICT)])
def test_invoice_for_another_amount(status: InvoiceStatus, kind: FindingKind) -> None:
    """A row that was never handed out gives way to the node's invoice; any other contradicts it."""
    finding = conflict(row_in(status, amount_msat=2000), fact_that_is("unpaid"), hash_of(SLOT))

    assert finding is not None
    assert finding.kind is kind


def test_every_decision_can_be_carried_out() -> None:
    """No decision asks for a move that the table of states does not have, in one step or by way of another state."""
    by_way = {(S.RESERVED, S.PAID), (S.RESERVED, S.EXPIRED), (S.ACCEPTED, S.PAID)}
    asked = set()
    for status, word, fresh, evidence, now in product(
        S, ("unpaid", "paid", "expired", None), (True, False), TRACES, (NOW, OVER)
    ):
        decision = decide(status, word, now=now, fresh=fresh, evidence=evidence)
        if decision is not None and decision[1] is not None and decision[1] is not status:
            asked.add((status, decision[1]))

    assert {(now, to) for now, to in asked if to not in MOVES[now]} <= by_way
    assert all(to is S.PAID for now, to in asked if now in FINAL)
    assert len(asked) > 10
