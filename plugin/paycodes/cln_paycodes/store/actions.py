"""The table of actions: one checkpoint for each thing that something is being done about.

A row that cannot be understood (damaged, or a newer plugin's) is set aside: marked with the reason, and never due. It
is tried again at the next start.
"""

from __future__ import annotations

import json
from typing import Any

from ..core.actions import MACHINES, ActionKind, ActionState, Checkpoint
from .store import Sql

_COLUMNS = "action_id, kind, state, payload, attempts, due_at, last_error, created_at, updated_at"
_SELECT = f"SELECT {_COLUMNS} FROM actions"


class Undecodable(Exception):
    """The row is there and cannot be understood; says why."""


def get(sql: Sql, action_id: str) -> Checkpoint | None:
    """Raises Undecodable."""
    row = sql.execute(f"{_SELECT} WHERE action_id = ?", (action_id,)).fetchone()
    return None if row is None else _record(row)


def _record(row: tuple[Any, ...]) -> Checkpoint:
    action_id, kind, state, payload, attempts, due_at, last_error, created_at, updated_at = row
    return Checkpoint(
        action_id=action_id,
        kind=_kind(kind),
        state=_state(kind, state),
        payload=_payload(payload),
        attempts=attempts,
        due_at=due_at,
        last_error=last_error,
        created_at=created_at,
        updated_at=updated_at,
    )


def _kind(text: str) -> ActionKind:
    try:
        return ActionKind(text)
    except ValueError as e:
        raise Undecodable(f"unknown kind {text[:40]!r}") from e


def _state(kind: str, text: str) -> ActionState:
    known = {str(state): state for state in MACHINES[_kind(kind)]}
    if text not in known:
        raise Undecodable(f"unknown state {text[:40]!r} of kind {kind}")
    return known[text]


def _payload(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text)
    except ValueError as e:
        raise Undecodable("its payload is not JSON") from e
    if not isinstance(payload, dict):
        raise Undecodable("its payload is not a JSON object")
    return payload


def insert(sql: Sql, checkpoint: Checkpoint) -> None:
    """The first checkpoint; the id must be free."""
    sql.execute(f"INSERT INTO actions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _values(checkpoint))


def update(sql: Sql, checkpoint: Checkpoint) -> None:
    """How far it is now; what was set aside is so no more."""
    action_id, _, state, payload, attempts, due_at, last_error, _, updated_at = _values(checkpoint)
    sql.execute(
        "UPDATE actions SET state = ?, payload = ?, attempts = ?, due_at = ?, last_error = ?, updated_at = ?,"
        " set_aside = NULL WHERE action_id = ?",
        (state, payload, attempts, due_at, last_error, updated_at, action_id),
    )


def _values(checkpoint: Checkpoint) -> tuple[Any, ...]:
    return (
        checkpoint.action_id,
        str(checkpoint.kind),
        str(checkpoint.state),
        json.dumps(checkpoint.payload, sort_keys=True, allow_nan=False),
        checkpoint.attempts,
        checkpoint.due_at,
        checkpoint.last_error,
        checkpoint.created_at,
        checkpoint.updated_at,
    )


def delete(sql: Sql, action_id: str) -> None:
    sql.execute("DELETE FROM actions WHERE action_id = ?", (action_id,))


def every_id(sql: Sql) -> list[str]:
    """Of all there are, set aside or not."""
    return [row[0] for row in sql.execute("SELECT action_id FROM actions ORDER BY due_at")]


def due(sql: Sql, now: int) -> list[str]:
    """Ids of those to drive now, the longest due first."""
    rows = sql.execute("SELECT action_id FROM actions WHERE set_aside IS NULL AND due_at <= ? ORDER BY due_at", (now,))
    return [row[0] for row in rows]


def next_due_at(sql: Sql, now: int) -> int | None:
    """The unix second after `now` at which one is due."""
    row = sql.execute("SELECT min(due_at) FROM actions WHERE set_aside IS NULL AND due_at > ?", (now,)).fetchone()
    return None if row[0] is None else int(row[0])


def set_aside(sql: Sql, action_id: str, reason: str) -> None:
    sql.execute("UPDATE actions SET set_aside = ? WHERE action_id = ?", (reason, action_id))


def every_set_aside(sql: Sql) -> dict[str, str]:
    """Ids with the reasons."""
    rows = sql.execute("SELECT action_id, set_aside FROM actions WHERE set_aside IS NOT NULL ORDER BY action_id")
    return dict(rows.fetchall())
