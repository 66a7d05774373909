"""How far the node's indexes have been read, and single facts about this sidecar."""

from __future__ import annotations

from .store import Sql


def get(sql: Sql, name: str) -> int | None:
    row = sql.execute("SELECT value FROM cursors WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def put(sql: Sql, name: str, value: int) -> None:
    sql.execute(
        "INSERT INTO cursors (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def every(sql: Sql) -> dict[str, int]:
    return dict(sql.execute("SELECT name, value FROM cursors").fetchall())


def fact(sql: Sql, name: str) -> str | None:
    row = sql.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def facts_below(sql: Sql, prefix: str) -> dict[str, str]:
    """The facts whose names begin with `prefix`, which is left out of their names here."""
    rows = sql.execute("SELECT name, value FROM facts WHERE name >= ? AND name < ?", (prefix, prefix + "\U0010ffff"))
    return {str(name)[len(prefix) :]: str(value) for name, value in rows}


def put_fact(sql: Sql, name: str, value: str) -> None:
    sql.execute(
        "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def drop_fact(sql: Sql, name: str) -> None:
    sql.execute("DELETE FROM facts WHERE name = ?", (name,))
