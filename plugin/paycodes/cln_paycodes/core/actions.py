"""Work in several steps that survives any crash: its kinds, their states and every move, as data.

An action is about one thing, whose id it bears: about one held invoice its payment_hash, so that settling and
canceling it exclude each other. Between two steps there is nothing but its checkpoint, which is on disk.

    settle      asked        the operator said settle; the node does not know the invoice
                registered   the node has the invoice, the books still say `accepted`
                released     the books say `settling`, the HTLCs were let go; the node's word is awaited
    cancel      asked        the books say `canceled`; HTLCs may still be held

A step is a function of the checkpoint and gives an outcome. It may be run again after a crash, and twice at any time:
what it does outside the sidecar it does so that a second time changes nothing. What it changes in the sidecar it
leaves to the outcome's `write`, which is on disk together with the checkpoint it leads to, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import Enum
from math import ceil
from typing import Any

from .states import IllegalMove


class ActionKind(str, Enum):
    SETTLE = "settle"
    CANCEL = "cancel"

    def __str__(self) -> str:
        return self.value


class ActionState(str, Enum):
    ASKED = "asked"
    REGISTERED = "registered"
    RELEASED = "released"

    def __str__(self) -> str:
        return self.value


class End(str, Enum):
    DONE = "done"
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


_S = ActionState

#: Every move of every kind. From `released` on the node has the HTLCs, and the payer may know the preimage: settling
#: fails there only on the node's word that it has given them back. Before that the plugin may have died and let go of
#: them, to the payer or, once the node knew the invoice, to the node.
MACHINES: dict[ActionKind, dict[ActionState, frozenset[ActionState | End]]] = {
    ActionKind.SETTLE: {
        _S.ASKED: frozenset({_S.REGISTERED, End.FAILED}),
        _S.REGISTERED: frozenset({_S.RELEASED, End.DONE, End.FAILED}),
        _S.RELEASED: frozenset({End.DONE, End.FAILED}),
    },
    ActionKind.CANCEL: {
        _S.ASKED: frozenset({End.DONE}),
    },
}

#: Where an action of a kind begins.
FIRST = {ActionKind.SETTLE: _S.ASKED, ActionKind.CANCEL: _S.ASKED}

#: Seconds after the first failure of a step, doubled with each one in a row, and at most. It is short: a deadline in
#: blocks waits for nobody.
BACKOFF_S = 1
BACKOFF_MAX_S = 60

#: A wait after a failure is stretched by up to this part of itself, so that what failed together is not repeated
#: together.
JITTER = 0.2

#: JSON.
Payload = Mapping[str, Any]

#: What is to be written in the transaction that stores the outcome; it takes that transaction.
Write = Callable[[Any], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """How far an action is."""

    action_id: str
    kind: ActionKind
    state: ActionState
    payload: Payload
    #: failures in a row
    attempts: int = 0
    #: unix second of the next run that nothing else asks for
    due_at: int
    last_error: str | None = None
    created_at: int
    updated_at: int


# --- what a step gives ---


@dataclass(frozen=True, slots=True)
class Next:
    """The step is through: on to the next one, at once."""

    state: ActionState
    #: None: as it is
    payload: Payload | None = None
    _: KW_ONLY
    write: Write | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Park:
    """Nothing to do for now: look again later, or when woken."""

    #: None: the backoff after so many failures in a row
    wake_after_s: float | None = None
    #: None: stay
    state: ActionState | None = None
    payload: Payload | None = None
    #: for a person, when waiting is not how it should be: it counts as a failure
    error: str | None = None
    write: Write | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The action came to its good end."""

    write: Write | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The action came to its bad end."""

    #: for a person
    error: str
    _: KW_ONLY
    write: Write | None = field(default=None, compare=False)


Outcome = Next | Park | Done | Failed


def advance(checkpoint: Checkpoint, outcome: Outcome, *, now: int, chance: float) -> Checkpoint | None:
    """The checkpoint that the outcome leads to, None when the action is over; IllegalMove when the table has no such
    move.

    `chance` is a random number from 0 to 1.
    """
    if isinstance(outcome, Done | Failed):
        _require_move(checkpoint, End.DONE if isinstance(outcome, Done) else End.FAILED)
        return None
    state = outcome.state or checkpoint.state
    if isinstance(outcome, Next) or state is not checkpoint.state:
        _require_move(checkpoint, state)
    payload = checkpoint.payload if outcome.payload is None else outcome.payload
    moved = replace(checkpoint, state=state, payload=payload, updated_at=now)
    if isinstance(outcome, Next):
        return replace(moved, attempts=0, due_at=now, last_error=None)
    attempts = 0 if outcome.error is None else checkpoint.attempts + 1
    wait_s = backoff_s(attempts, chance) if outcome.wake_after_s is None else outcome.wake_after_s
    # Never due in the second in which it was parked: no step can spin.
    return replace(moved, attempts=attempts, due_at=now + max(1, ceil(wait_s)), last_error=outcome.error)


def _require_move(checkpoint: Checkpoint, to: ActionState | End) -> None:
    if to not in MACHINES[checkpoint.kind][checkpoint.state]:
        raise IllegalMove(f"an action to {checkpoint.kind} cannot go from {checkpoint.state} to {to}")


def backoff_s(attempts: int, chance: float) -> float:
    """Seconds to wait after that many failures in a row; `chance` is a random number from 0 to 1."""
    doublings = min(max(attempts, 1) - 1, 30)
    return min(BACKOFF_MAX_S, BACKOFF_S * 2.0**doublings) * (1 + JITTER * chance)


def agree(first: Outcome, second: Outcome) -> bool:
    """A step that was run twice did its work once: both runs lead to the same state with the same payload.

    A run that found nothing to do but wait binds no later one: what it waited for may have come in between.
    """
    if isinstance(first, Park) and first.state is None and first.payload is None:
        return True
    if type(first) is not type(second):
        return False
    if isinstance(first, Done | Failed) or isinstance(second, Done | Failed):
        return True
    return (first.state, first.payload) == (second.state, second.payload)
