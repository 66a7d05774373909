"""The state file: one SQLite database, written in transactions, that SIGKILL cannot tear."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS vars (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS datastore (
    key BLOB PRIMARY KEY, data BLOB NOT NULL, generation INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS invoices (
    id INTEGER PRIMARY KEY, updated_index INTEGER, status TEXT NOT NULL, label TEXT NOT NULL UNIQUE,
    payment_hash TEXT NOT NULL UNIQUE, preimage TEXT NOT NULL, invstring TEXT NOT NULL, description TEXT,
    amount_msat INTEGER, expires_at INTEGER NOT NULL, pay_index INTEGER, received_msat INTEGER,
    paid_at INTEGER);
CREATE INDEX IF NOT EXISTS invoices_updated ON invoices (updated_index);
CREATE INDEX IF NOT EXISTS invoices_expiry ON invoices (status, expires_at);
CREATE INDEX IF NOT EXISTS invoices_pay ON invoices (pay_index);
CREATE TABLE IF NOT EXISTS htlcs (
    id INTEGER PRIMARY KEY, payment_id TEXT NOT NULL, payment_hash TEXT NOT NULL,
    amount_msat INTEGER NOT NULL, total_msat INTEGER NOT NULL, payment_secret TEXT NOT NULL,
    cltv_expiry INTEGER NOT NULL, state TEXT NOT NULL, preimage TEXT, failure TEXT);
CREATE INDEX IF NOT EXISTS htlcs_payment ON htlcs (payment_id);
CREATE INDEX IF NOT EXISTS htlcs_state ON htlcs (state);
CREATE TABLE IF NOT EXISTS payments (
    id INTEGER PRIMARY KEY, updated_index INTEGER, status TEXT NOT NULL, payment_hash TEXT NOT NULL,
    groupid INTEGER NOT NULL, partid INTEGER NOT NULL, destination TEXT, amount_msat INTEGER,
    amount_sent_msat INTEGER NOT NULL, created_at INTEGER NOT NULL, completed_at INTEGER, preimage TEXT,
    label TEXT, invstring TEXT, description TEXT, UNIQUE (payment_hash, groupid, partid));
CREATE INDEX IF NOT EXISTS payments_updated ON payments (updated_index);
CREATE TABLE IF NOT EXISTS foreign_invoices (payment_hash TEXT PRIMARY KEY, preimage TEXT NOT NULL);
"""

#: SQLite integers are signed; the u64 values of the API that are larger than this never occur in a table.
INTEGER_MAX = 2**63 - 1


class Store:
    """All state of the node but its keys.

    Between transactions the whole state is in the one file, so a copy of it taken while the node is stopped
    is a backup. ``synchronous=OFF`` leaves flushing to the kernel: that survives the death of the process,
    not of the machine, and nothing here is worth an fsync.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_SCHEMA)
        self._after_commit: list[Callable[[], None]] = []

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits on leaving, rolls back on an exception; a transaction inside another is part of it."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            self._after_commit.clear()
            raise
        callbacks, self._after_commit = self._after_commit, []
        for callback in callbacks:
            callback()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Have the world told only once what it is told is on disk."""
        self._after_commit.append(callback)

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return self._db.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._db.execute(sql, values).fetchone()
        return found

    def execute(self, sql: str, *values: Any) -> int:
        """Returns how many rows changed."""
        return self._db.execute(sql, values).rowcount

    def var(self, name: str, default: int = 0) -> int:
        found = self.row("SELECT value FROM vars WHERE name = ?", name)
        return default if found is None else int(found["value"])

    def set_var(self, name: str, value: int) -> None:
        self.execute("INSERT OR REPLACE INTO vars (name, value) VALUES (?, ?)", name, value)
