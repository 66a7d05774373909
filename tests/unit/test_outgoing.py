"""Which outgoing payments have reached their end, from their parts alone."""

from __future__ import annotations

import pytest
from cln_paycodes.core.outgoing import QUIET_S, outcomes_of
from cln_paycodes.core.records import NodePayment

NOW = 1_800_000_000
HASH = "aa" * 32


def part(
    status: str, *, at: int = NOW - QUIET_S, group: int = 1, number: int = 1, msat: int | None = 1000
) -> NodePayment:
    return NodePayment(
        payment_hash=HASH,
        groupid=group,
        partid=number,
        status=status,
        amount_msat=msat,
        amount_sent_msat=None if msat is None else msat + 1,
        label=None,
        created_at=at,
        completed_at=None if status == "pending" else at,
        created_index=number,
        updated_index=number,
    )


def test_payment_with_a_pending_part_is_under_way() -> None:
    """Neither failed parts nor complete ones end it."""
    for other in ("failed", "complete"):
        assert outcomes_of([part("pending"), part(other, number=2)], now=NOW) == ([], False)


def test_complete_parts_make_a_sent_payment_with_their_sums() -> None:
    """Failed parts of the same payment count for nothing."""
    [outcome], unquiet = outcomes_of(
        [part("complete"), part("failed", number=2, msat=50), part("complete", number=3, at=NOW)], now=NOW
    )

    assert (outcome.sent, outcome.amount_msat, outcome.amount_sent_msat, unquiet) == (True, 2000, 2002, False)
    assert outcome.finished_at == NOW
    assert outcome.subject == f"{HASH}/1"


@pytest.mark.parametrize(("age_s", "ended"), [(0, False), (QUIET_S - 1, False), (QUIET_S, True), (86_400, True)])
def test_failed_payment_has_failed_once_it_is_quiet(age_s: int, ended: bool) -> None:
    """Between two attempts all parts look failed."""
    outcomes, unquiet = outcomes_of([part("failed", at=NOW - age_s)], now=NOW)

    assert [outcome.sent for outcome in outcomes] == [False] * ended
    assert unquiet is not ended


def test_clock_that_was_set_back_holds_nothing_up_for_long() -> None:
    """A failure just ahead of the clock may be tried again, one far ahead tells of another clock."""
    assert outcomes_of([part("failed", at=NOW + 1)], now=NOW) == ([], True)
    assert len(outcomes_of([part("failed", at=NOW + 3600)], now=NOW)[0]) == 1


def test_groups_are_payments_of_their_own() -> None:
    """A second try of the same hash under another group ends for itself."""
    outcomes, _ = outcomes_of([part("failed", group=1), part("complete", group=2, msat=None)], now=NOW)

    assert [(outcome.groupid, outcome.sent, outcome.amount_msat) for outcome in outcomes] == [
        (1, False, None),
        (2, True, None),
    ]
