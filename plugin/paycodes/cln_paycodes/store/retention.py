"""Forgetting events that every endpoint has acknowledged. Their ids are kept, so that none is ever made again."""

from __future__ import annotations

from collections.abc import Iterable

from .store import Sql

#: An event `v` may go: someone acknowledged it, everyone did, and the last one did so at `?2` or before.
_DONE = (
    "(SELECT count(*) > 0 AND count(*) = count(delivered_at) AND max(delivered_at) <= ?2"
    " FROM deliveries d WHERE d.sequence = v.sequence)"
)


def prunable(sql: Sql, *, start: int, acknowledged_until: int, limit: int) -> tuple[list[int], int | None]:
    """Of `limit` events from sequence `start` on those that may go, and where to look on (None: no more)."""
    rows = sql.execute(
        f"SELECT v.sequence, {_DONE} FROM events v WHERE v.sequence >= ?1 ORDER BY v.sequence LIMIT ?3",
        (start, acknowledged_until, limit),
    ).fetchall()
    return [row[0] for row in rows if row[1]], rows[-1][0] + 1 if len(rows) == limit else None


def prune(sql: Sql, sequences: Iterable[int], *, acknowledged_until: int) -> int:
    """Forget those of the events that still may go; how many."""
    return sum(_prune_one(sql, sequence, acknowledged_until) for sequence in sequences)


def _prune_one(sql: Sql, sequence: int, acknowledged_until: int) -> int:
    done = sql.execute(
        f"INSERT INTO pruned_events (id) SELECT v.id FROM events v WHERE v.sequence = ?1 AND {_DONE}",
        (sequence, acknowledged_until),
    ).rowcount
    if done:
        sql.execute("DELETE FROM events WHERE sequence = ?", (sequence,))
    return done
