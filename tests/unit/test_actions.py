"""The kinds of actions: every pair is either a move of the table or refused, and waits are bounded."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from cln_paycodes.core.actions import (
    BACKOFF_MAX_S,
    BACKOFF_S,
    FIRST,
    JITTER,
    MACHINES,
    ActionKind,
    ActionState,
    Checkpoint,
    Done,
    End,
    Failed,
    Next,
    Outcome,
    Park,
    advance,
    agree,
    backoff_s,
)
from cln_paycodes.core.states import IllegalMove
from hypothesis import given
from hypothesis import strategies as st
from samples import NOW

# Written from the contract, not from the code.
CONTRACT = """
settle: asked      -> registered failed
settle: registered -> released done failed
settle: released   -> done failed
cancel: asked      -> done
"""


def _legal() -> set[tuple[str, str, str]]:
    legal = set()
    for line in CONTRACT.strip().splitlines():
        kind, _, move = line.partition(":")
        before, _, afters = move.partition("->")
        legal |= {(kind, before.strip(), after) for after in afters.split()}
    return legal


LEGAL = _legal()
STATES = [(kind, state) for kind, table in MACHINES.items() for state in table]
MOVES = [(*place, to) for place, to in product(STATES, [*ActionState, *End])]

chances = st.floats(0, 1)
moments = st.integers(0, 2**40)


def checkpoint(
    kind: ActionKind = ActionKind.SETTLE, state: ActionState = ActionState.ASKED, **given: Any
) -> Checkpoint:
    fields = {"payload": {"old": 1}, "due_at": NOW, "created_at": NOW, "updated_at": NOW, **given}
    return Checkpoint(action_id="ab" * 32, kind=kind, state=state, **fields)


def outcome_to(to: ActionState | End) -> Outcome:
    if to is End.DONE:
        return Done()
    return Failed("too late") if to is End.FAILED else Next(ActionState(to))


def is_legal(kind: ActionKind, state: ActionState, to: ActionState | End) -> bool:
    return (str(kind), str(state), str(to)) in LEGAL


@pytest.mark.parametrize(("kind", "state", "to"), [move for move in MOVES if is_legal(*move)], ids="-".join)
def test_move_of_the_contract_is_made(kind: ActionKind, state: ActionState, to: ActionState | End) -> None:
    """A move that the contract names is allowed; an end leaves no checkpoint."""
    after = advance(checkpoint(kind, state), outcome_to(to), now=NOW + 5, chance=0)

    assert (after is None) == isinstance(to, End)
    assert after is None or (after.state, after.kind, after.due_at, after.updated_at) == (to, kind, NOW + 5, NOW + 5)


@pytest.mark.parametrize(("kind", "state", "to"), [move for move in MOVES if not is_legal(*move)], ids="-".join)
def test_any_other_move_raises(kind: ActionKind, state: ActionState, to: ActionState | End) -> None:
    """A move that the contract does not name raises, going on to the same state included."""
    with pytest.raises(IllegalMove, match=f"{kind} cannot go from {state} to {to}"):
        advance(checkpoint(kind, state), outcome_to(to), now=NOW, chance=0)


def test_every_kind_has_its_table() -> None:
    """Each kind begins in a state of its own, every state is reached from there, and every state can come to an end."""
    for kind, table in MACHINES.items():
        reached: set[Any] = {FIRST[kind]}
        while (more := reached.union(*(table[state] for state in reached & set(table)))) != reached:
            reached = more

        assert set(table) <= reached
        assert all(moves for moves in table.values())
    assert set(MACHINES) == set(FIRST) == set(ActionKind)
    assert {(str(kind), str(state)) for kind, state in STATES} == {(kind, state) for kind, state, _ in LEGAL}


@given(first=st.integers(1, 10**6), second=st.integers(1, 10**6), chance=chances)
def test_backoff_grows_to_its_cap_and_no_further(first: int, second: int, chance: float) -> None:
    """More failures never wait less, the first waits a second or so, and none more than the cap and its jitter."""
    low, high = sorted((first, second))

    assert BACKOFF_S <= backoff_s(low, chance) <= backoff_s(high, chance) <= BACKOFF_MAX_S * (1 + JITTER)
    assert backoff_s(1, 0) == BACKOFF_S
    assert backoff_s(10**6, 0) == BACKOFF_MAX_S


@given(attempts=st.integers(1, 100), low=chances, high=chances)
def test_jitter_only_stretches(attempts: int, low: float, high: float) -> None:
    """A larger chance never makes a wait shorter, and stretches it by a fifth at most."""
    low, high = min(low, high), max(low, high)

    assert backoff_s(attempts, low) <= backoff_s(attempts, high) <= backoff_s(attempts, 0) * (1 + JITTER)


@given(wait_s=st.floats(0, 10**6), attempts=st.integers(0, 100), now=moments, chance=chances)
def test_parked_action_is_due_after_its_wait(wait_s: float, attempts: int, now: int, chance: float) -> None:
    """It is due when the step said, never in the same second, and waiting is no failure."""
    after = advance(checkpoint(attempts=attempts), Park(wake_after_s=wait_s), now=now, chance=chance)

    assert after is not None
    assert max(1, wait_s) <= after.due_at - now < max(1, wait_s) + 1
    assert (after.attempts, after.last_error, after.state) == (0, None, ActionState.ASKED)
    assert after.payload == {"old": 1}


@given(attempts=st.integers(0, 1000), now=moments, chance=chances)
def test_failure_is_counted_and_waits_its_backoff(attempts: int, now: int, chance: float) -> None:
    """One failure more is on record with its error, and the wait is that many failures'."""
    after = advance(checkpoint(attempts=attempts), Park(error="no route"), now=now, chance=chance)

    assert after is not None
    assert (after.attempts, after.last_error) == (attempts + 1, "no route")
    assert backoff_s(attempts + 1, chance) <= after.due_at - now < backoff_s(attempts + 1, chance) + 1


def test_progress_forgets_failures() -> None:
    """The next step begins with no failures on record, and with the payload it was given."""
    before = checkpoint(attempts=7, last_error="no route", due_at=NOW + 60)

    after = advance(before, Next(ActionState.REGISTERED, {"new": 2}), now=NOW, chance=1)

    assert after is not None
    assert (after.attempts, after.last_error, after.due_at, after.payload) == (0, None, NOW, {"new": 2})
    assert after.created_at == before.created_at


def test_parking_in_another_state_is_a_move() -> None:
    """A step may move on and wait there, where the table lets it."""
    parked = Park(wake_after_s=10, state=ActionState.REGISTERED, payload={"new": 2})

    after = advance(checkpoint(), parked, now=NOW, chance=0)

    assert after is not None
    assert (after.state, after.payload, after.due_at) == (ActionState.REGISTERED, {"new": 2}, NOW + 10)
    with pytest.raises(IllegalMove):
        advance(checkpoint(), Park(wake_after_s=10, state=ActionState.RELEASED), now=NOW, chance=0)


REGISTERED, RELEASED = ActionState.REGISTERED, ActionState.RELEASED


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        (Next(REGISTERED, {"a": 1}), Next(REGISTERED, {"a": 1}), True),
        (Next(REGISTERED, write=print), Next(REGISTERED, write=repr), True),
        (Next(REGISTERED, {"a": 1}), Next(REGISTERED, {"a": 2}), False),
        (Next(REGISTERED), Next(RELEASED), False),
        (Next(REGISTERED), Park(wake_after_s=1), False),
        (Next(REGISTERED), Park(wake_after_s=1, state=REGISTERED), False),
        (Next(REGISTERED), Failed("it is there already"), False),
        (Done(), Done(), True),
        (Done(), Failed("gone"), False),
        (Failed("now"), Failed("a second later"), True),
        (Failed("gone"), Done(), False),
        (Park(wake_after_s=1), Park(wake_after_s=2, error="still not"), True),
        (Park(wake_after_s=1), Next(REGISTERED), True),
        (Park(wake_after_s=1, payload={"a": 1}), Park(wake_after_s=1, payload={"a": 2}), False),
        (Park(wake_after_s=1, state=REGISTERED), Done(), False),
    ],
)
def test_runs_agree_when_they_lead_to_the_same_place(first: Outcome, second: Outcome, alike: bool) -> None:
    """A step that was run twice gives the same state and payload; only one that found nothing to do may go on."""
    assert agree(first, second) is alike
