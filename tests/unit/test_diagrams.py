"""The drawings of state machines in the README are those of the tables."""

from __future__ import annotations

import re

import pytest
from cln_paycodes.core.actions import FIRST, MACHINES, ActionKind, End
from cln_paycodes.core.states import FINAL, MOVES, InvoiceStatus
from diagrams import DIAGRAMS, README, draw, redraw

_ARROW = re.compile(r"^    (\S+) --> (\S+)(?: : (.*))?$", re.MULTILINE)


def arrows_of(name: str) -> list[tuple[str, ...]]:
    return [match.groups(default="") for match in _ARROW.finditer(draw(name))]


def test_readme_shows_the_machines_as_they_are() -> None:
    """Whoever changes a table draws it anew: `make diagrams`."""
    text = README.read_text()

    assert redraw(text) == text


def test_drawing_of_an_invoice_has_every_move_once() -> None:
    """Its arrows are the moves of the table, one in and one out of each final state."""
    arrows = arrows_of("an invoice")
    moves = {(str(now), str(to)) for now, tos in MOVES.items() for to in tos}
    ends = {(str(status), "[*]") for status in FINAL}

    assert {(now, to) for now, to, _ in arrows} == moves | ends | {("[*]", str(InvoiceStatus.RESERVED))}
    assert len(arrows) == len(set(arrows))


@pytest.mark.parametrize("kind", ActionKind, ids=str)
def test_drawing_of_an_action_has_every_move_once(kind: ActionKind) -> None:
    """Its arrows are the moves of the table, and each end says which."""
    arrows = arrows_of(f"the action {kind}")
    moves = {(now, to) for now, tos in MACHINES[kind].items() for to in tos}
    wanted = {(str(now), "[*]", str(to)) if isinstance(to, End) else (str(now), str(to), "") for now, to in moves}

    assert set(arrows) == wanted | {("[*]", str(FIRST[kind]), "")}
    assert len(arrows) == len(wanted) + 1


@pytest.mark.parametrize("name", DIAGRAMS)
def test_stale_drawing_is_found(name: str) -> None:
    """A drawing with a move too few is not what the tables give."""
    text = README.read_text()
    stale = text.replace(draw(name), draw(name).rpartition("    ")[0] + "```\n")

    assert stale != text
    assert redraw(stale) == text


def test_missing_place_is_told() -> None:
    """A machine that is not in the README is no drawing that agrees."""
    with pytest.raises(ValueError, match="there are places for an invoice"):
        redraw("<!-- states of an invoice: make diagrams -->\n<!-- end of states -->\n")
