"""The table of actions: what a step left is what the next one gets, and no question that scans."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from cln_paycodes.core.actions import MACHINES, Checkpoint
from cln_paycodes.store import actions
from cln_paycodes.store.store import Sql
from hypothesis import given
from hypothesis import strategies as st
from samples import NOW, Explained, memory_sidecar

ID = "ab" * 32

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**62), 2**62)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
places = st.sampled_from([(kind, state) for kind, table in MACHINES.items() for state in table])


@st.composite
def checkpoints(draw: st.DrawFn) -> Checkpoint:
    kind, state = draw(places)
    return Checkpoint(
        action_id=ID,
        kind=kind,
        state=state,
        payload=draw(st.dictionaries(texts, json_values, max_size=4)),
        attempts=draw(st.integers(0, 2**31)),
        due_at=draw(numbers),
        last_error=draw(st.none() | texts),
        created_at=draw(numbers),
        updated_at=draw(numbers),
    )


@pytest.fixture
def sql() -> Iterator[sqlite3.Connection]:
    with memory_sidecar() as conn:
        yield conn


@given(first=checkpoints(), second=checkpoints())
def test_checkpoint_comes_back_as_it_was_stored(first: Checkpoint, second: Checkpoint) -> None:
    """Every field survives, in the first checkpoint and in those that follow; kind and beginning are for ever."""
    second = replace(second, kind=first.kind, state=first.state, created_at=first.created_at)
    with memory_sidecar() as sql:
        actions.insert(sql, first)
        inserted = actions.get(sql, ID)
        actions.update(sql, second)
        updated = actions.get(sql, ID)
        actions.delete(sql, ID)

        assert (inserted, updated, actions.get(sql, ID)) == (first, second, None)


def add(sql: Sql, number: int, due_at: int) -> str:
    kind = next(iter(MACHINES))
    first = Checkpoint(
        action_id=f"{number:064x}",
        kind=kind,
        state=next(iter(MACHINES[kind])),
        payload={},
        due_at=due_at,
        created_at=NOW,
        updated_at=NOW,
    )
    actions.insert(sql, first)
    return first.action_id


def test_due_are_those_whose_time_has_come(sql: sqlite3.Connection) -> None:
    """The longest due first; what is set aside is never due, and the next one is the first of those to come."""
    late, later, now, _ = (add(sql, number, NOW + wait) for number, wait in enumerate((-9, -60, 0, 30)))
    aside = add(sql, 7, NOW - 5)
    actions.set_aside(sql, aside, "its payload is not JSON")
    actions.set_aside(sql, add(sql, 8, NOW + 5), "its payload is not JSON")

    assert actions.due(sql, NOW) == [later, late, now]
    assert actions.next_due_at(sql, NOW) == NOW + 30
    assert actions.next_due_at(sql, NOW + 30) is None
    assert len(actions.every_id(sql)) == 6
    assert list(actions.every_set_aside(sql)) == [aside, f"{8:064x}"]


@pytest.mark.parametrize(
    "query",
    [partial(actions.due, now=NOW), partial(actions.next_due_at, now=NOW), partial(actions.get, action_id=ID)],
    ids=["due", "next due", "get"],
)
def test_question_of_every_step_does_not_scan(sql: sqlite3.Connection, query: Callable[[Any], object]) -> None:
    """With many parked actions, to find those that are due costs no look at the others."""
    explained = Explained(sql)
    query(explained)

    assert explained.plans
    assert [plan for plan in explained.plans if not plan.startswith("SEARCH actions USING")] == []
