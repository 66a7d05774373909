"""Records to test with: one code, its invoices, and an empty sidecar in memory."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from cln_paycodes.core.definitions import PaycodeDefinition
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.records import Invoice
from cln_paycodes.core.states import InvoiceStatus
from cln_paycodes.core.terms import PaycodeStatus, Terms
from cln_paycodes.store import invoices, paycodes
from cln_paycodes.store.schema import migrations
from cln_paycodes.store.store import Sql, Store
from sqlite_utils import Database

NOW = 1_800_000_000


def paycode_id_of(label: str) -> str:
    return hashlib.sha256(label.encode()).hexdigest()


def slot_of(label: str, index: int) -> Slot:
    return Slot(paycode_id_of(label), index)


def hash_of(slot: Slot) -> str:
    return hashlib.sha256(slot.label.encode()).hexdigest()


def definition_of(label: str, **changes: Any) -> PaycodeDefinition:
    """A code of that label; the changes are to its terms, but for the names of a definition's own fields."""
    own = {name: changes.pop(name) for name in list(changes) if name in PaycodeDefinition.__dataclass_fields__}
    fields: dict[str, Any] = {
        "paycode_id": paycode_id_of(label),
        "number": None,
        "terms": Terms(label=label, description=label, **changes),
        "status": PaycodeStatus.ACTIVE,
        "sealed_root": None,
        "reserved_index": 1,
        "listed_from": 1,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return PaycodeDefinition(**{**fields, **own})


def add_paycode(sql: Sql, label: str, **changes: Any) -> str:
    """Insert a code and give its id."""
    definition = definition_of(label, **changes)
    paycodes.insert(sql, definition, next_index=1, mirrored=False)
    return definition.paycode_id


def add_invoice(sql: Sql, slot: Slot, status: InvoiceStatus = InvoiceStatus.RESERVED, **fields: Any) -> Invoice:
    given: dict[str, Any] = {
        "payment_hash": hash_of(slot),
        "amount_msat": 21_000,
        "created_at": NOW,
        "expires_at": NOW + 3600,
        "moved_at": NOW,
        **fields,
    }
    return invoices.insert(sql, slot, status=status, **given)


@contextmanager
def memory_sidecar() -> Iterator[sqlite3.Connection]:
    """The sidecar's tables in memory."""
    conn = sqlite3.connect(":memory:", isolation_level=None)
    try:
        conn.execute("PRAGMA foreign_keys = ON")
        migrations.apply(Database(conn, execute_plugins=False))
        yield conn
    finally:
        conn.close()


class Explained:
    """Runs statements, and keeps the steps of SQLite's plan for each."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self.plans: list[str] = []

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        steps = self._conn.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
        self.plans += [detail for *_, detail in steps]
        return self._conn.execute(statement, parameters)

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        rows = list(parameters)
        steps = self._conn.execute(f"EXPLAIN QUERY PLAN {statement}", rows[0]).fetchall()
        self.plans += [detail for *_, detail in steps]
        return self._conn.executemany(statement, rows)


def commit_levels(store: Store) -> list[int]:
    """SQLite's `synchronous` at every COMMIT that the writing connection makes from now on: 2 is FULL, 1 is NORMAL."""
    seen: list[int] = []
    level = {"value": 2}

    def trace(sql: str) -> None:
        if sql.startswith("PRAGMA synchronous"):
            level["value"] = 2 if "FULL" in sql else 1
        elif sql == "COMMIT":
            seen.append(level["value"])

    store._sidecar.writer.set_trace_callback(trace)
    return seen
