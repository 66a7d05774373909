"""The states of an invoice: every pair is either a move of the contract or refused."""

from __future__ import annotations

from itertools import product

import pytest
from cln_paycodes.core.states import FINAL, MOVES, PENDING, IllegalMove, InvoiceStatus, move

# Written from the contract's chapter "States", not from the code.
CONTRACT = """
reserved -> issued void
issued   -> paying paid expired canceled accepted
paying   -> paid issued expired
accepted -> settling canceled issued
settling -> paid canceled
expired  -> paid
canceled -> paid
void     -> paid
"""
LEGAL = {
    (InvoiceStatus(before.strip()), InvoiceStatus(after))
    for before, _, afters in (line.partition("->") for line in CONTRACT.strip().splitlines())
    for after in afters.split()
}
PAIRS = list(product(InvoiceStatus, repeat=2))


@pytest.mark.parametrize(("now", "to"), [pair for pair in PAIRS if pair in LEGAL], ids="-".join)
def test_move_of_the_contract_is_made(now: InvoiceStatus, to: InvoiceStatus) -> None:
    """A move that the contract names is allowed."""
    assert move(now, to) is to


@pytest.mark.parametrize(("now", "to"), [pair for pair in PAIRS if pair not in LEGAL], ids="-".join)
def test_any_other_move_raises(now: InvoiceStatus, to: InvoiceStatus) -> None:
    """A move that the contract does not name raises, staying in a state included."""
    with pytest.raises(IllegalMove, match=f"from {now} to {to}"):
        move(now, to)


def test_every_state_has_its_row() -> None:
    """No state is missing from the table."""
    assert set(MOVES) == set(InvoiceStatus)


def test_final_states_move_only_on_the_word_that_money_arrived() -> None:
    """What is over stays over, but for money."""
    assert {str(status) for status in FINAL} == {"paid", "expired", "canceled", "void"}
    assert {to for now, to in LEGAL if now in FINAL} == {InvoiceStatus.PAID}


def test_pending_is_what_can_still_be_paid() -> None:
    """Every state is either final or counts as pending."""
    assert {str(status) for status in PENDING} == {"reserved", "issued", "paying", "accepted", "settling"}


@pytest.mark.parametrize("status", InvoiceStatus)
def test_every_state_can_lead_to_paid_but_paid(status: InvoiceStatus) -> None:
    """Wherever the books stand, they can follow the node's word that money arrived."""
    reached, seen = {status}, set()
    while reached:
        seen |= reached
        reached = {to for now, to in LEGAL if now in reached} - seen

    assert InvoiceStatus.PAID in seen
