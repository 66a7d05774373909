"""Invoices: their rows, their life from unpaid to paid or expired, and who waits (``wallet/invoices.c``)."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from . import keys
from .errors import NodeAbort
from .indexes import Indexes
from .store import INTEGER_MAX, Store

Row = sqlite3.Row

#: asyncio refuses to sleep for longer than a day or so on some platforms; look again at least this often.
_LONGEST_SLEEP_S = 3600.0


@dataclass(frozen=True)
class _Waiter:
    #: None for whoever waits for any invoice to be paid.
    number: int | None
    answer: asyncio.Future[Row | None]


class Invoices:
    def __init__(self, store: Store, indexes: Indexes) -> None:
        self._store = store
        self._indexes = indexes
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[_Waiter] = []

    def by_label(self, label: str) -> Row | None:
        return self._store.row("SELECT * FROM invoices WHERE label = ?", label)

    def by_hash(self, payment_hash: str) -> Row | None:
        return self._store.row("SELECT * FROM invoices WHERE payment_hash = ?", payment_hash)

    def by_id(self, number: int) -> Row:
        row = self._store.row("SELECT * FROM invoices WHERE id = ?", number)
        if row is None:
            raise KeyError(number)
        return row

    def page(self, index: str | None, start: int, limit: int | None) -> list[Row]:
        """A page by index; ``deleted`` acts as ``created``, and never updated rows count as updated at 0."""
        column = "coalesce(updated_index, 0)" if index == "updated" else "id"
        sql = f"SELECT * FROM invoices WHERE {column} >= ? ORDER BY {column}, id LIMIT ?"
        return self._store.rows(sql, min(start, INTEGER_MAX), -1 if limit is None else limit)

    def create(
        self,
        label: str,
        payment_hash: str,
        preimage: str,
        invstring: str,
        description: str | None,
        amount_msat: int | None,
        expiry_s: int,
    ) -> Row:
        """A new unpaid invoice. The caller has made sure that the label is free."""
        if self.by_hash(payment_hash) is not None:
            raise NodeAbort("UNIQUE constraint failed: invoices.payment_hash")
        expires_at = int(time.time()) + expiry_s
        if expires_at > INTEGER_MAX:
            raise NodeAbort(f"expiry {expiry_s} overflows")
        number = self._indexes.bump("invoices", "created", {"status": "unpaid", "label": label, "bolt11": invstring})
        self._store.execute(
            "INSERT INTO invoices (id, status, label, payment_hash, preimage, invstring, description,"
            " amount_msat, expires_at) VALUES (?, 'unpaid', ?, ?, ?, ?, ?, ?, ?)",
            *(number, label, payment_hash, preimage, invstring, description, amount_msat, expires_at),
        )
        self._store.after_commit(self.arm_expiry)
        return self.by_id(number)

    def delete(self, row: Row) -> None:
        self._store.execute("DELETE FROM invoices WHERE id = ?", row["id"])
        details = {"status": row["status"], "label": row["label"], "bolt11": row["invstring"]}
        self._indexes.bump("invoices", "deleted", details)
        self._store.after_commit(lambda: self._tell(row["id"], None))

    def delete_description(self, row: Row) -> None:
        details = {"label": row["label"], "description": row["description"]}
        updated = self._indexes.bump("invoices", "updated", details)
        self._store.execute(
            "UPDATE invoices SET description = NULL, updated_index = ? WHERE id = ?", updated, row["id"]
        )

    def resolve(self, row: Row, received_msat: int) -> bool:
        """Paid, unless it was paid, expired or deleted meanwhile."""
        current = self._store.row("SELECT * FROM invoices WHERE id = ? AND status = 'unpaid'", row["id"])
        if current is None:
            return False
        pay_index = self._store.var("next_pay_index", 1)
        self._store.set_var("next_pay_index", pay_index + 1)
        updated = self._indexes.bump("invoices", "updated", {"status": "paid", "label": row["label"]})
        self._store.execute(
            "UPDATE invoices SET status = 'paid', pay_index = ?, received_msat = ?, paid_at = ?,"
            " updated_index = ? WHERE id = ?",
            *(pay_index, received_msat, int(time.time()), updated, row["id"]),
        )
        self._store.after_commit(lambda: self._tell(row["id"], self.by_id(row["id"]), paid=True))
        return True

    def arm_expiry(self) -> None:
        """Set the timer for the unpaid invoice that expires first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        first = self._store.row("SELECT min(expires_at) AS at FROM invoices WHERE status = 'unpaid'")
        if first is None or first["at"] is None:
            return
        delay = min(max(0.0, first["at"] - time.time()), _LONGEST_SLEEP_S)
        self._timer = asyncio.get_running_loop().call_later(delay, self.expire)

    def expire(self) -> None:
        """Expire what is due; the wait detail has no label, as in lightningd."""
        with self._store.transaction():
            due = self._store.rows(
                "SELECT * FROM invoices WHERE status = 'unpaid' AND expires_at <= ?", int(time.time())
            )
            for row in due:
                updated = self._indexes.bump("invoices", "updated", {"status": "expired"})
                self._store.execute(
                    "UPDATE invoices SET status = 'expired', updated_index = ? WHERE id = ?",
                    updated,
                    row["id"],
                )
            self._store.after_commit(lambda: self._tell_expired(due))
        self.arm_expiry()

    def _tell_expired(self, rows: list[Row]) -> None:
        for row in rows:
            self._tell(row["id"], self.by_id(row["id"]))

    def _tell(self, number: int, row: Row | None, paid: bool = False) -> None:
        waiting = []
        for waiter in self._waiters:
            wanted = waiter.number == number or (waiter.number is None and paid)
            if waiter.answer.done():
                continue
            if wanted:
                waiter.answer.set_result(row)
            else:
                waiting.append(waiter)
        self._waiters = waiting

    async def wait_for(self, number: int | None) -> Row | None:
        """The invoice once it is paid or expired, None if deleted; without a number the next one paid."""
        answer: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(_Waiter(number, answer))
        return await answer

    def paid_after(self, pay_index: int) -> Row | None:
        return self._store.row(
            "SELECT * FROM invoices WHERE pay_index > ? ORDER BY pay_index LIMIT 1",
            min(pay_index, INTEGER_MAX),
        )

    def check_payment(self, payment_hash: str, total_msat: int, payment_secret: str) -> Row | str:
        """The unpaid invoice that this payment may settle, or why it may not (``invoice_check_payment``)."""
        row = self.by_hash(payment_hash)
        if row is None:
            return f"Unknown invoice {payment_hash}"
        if row["status"] != "unpaid":
            return f"Already paid or expired invoice {payment_hash}"
        if payment_secret != keys.payment_secret(bytes.fromhex(row["preimage"])):
            return f"Attempt to pay {payment_hash} with wrong payment_secret"
        expected = row["amount_msat"]
        if expected is not None and total_msat < expected:
            return f"Attempt to pay {payment_hash} with amount {total_msat}msat < {expected}msat"
        if expected is not None and total_msat > 2 * expected:
            return f"Attempt to pay {payment_hash} with amount {total_msat}msat > {2 * expected}msat"
        return row


def to_json(row: Row) -> dict[str, Any]:
    """An invoice as ``listinvoices`` shows it: what does not apply is absent."""
    answer = {
        "label": row["label"],
        "bolt11": row["invstring"],
        "payment_hash": row["payment_hash"],
        "amount_msat": row["amount_msat"],
        "status": row["status"],
        "pay_index": row["pay_index"],
        "amount_received_msat": row["received_msat"],
        "paid_at": row["paid_at"],
        "payment_preimage": row["preimage"] if row["status"] == "paid" else None,
        "description": row["description"],
        "expires_at": row["expires_at"],
        "created_index": row["id"],
        "updated_index": row["updated_index"],
    }
    return {name: value for name, value in answer.items() if value is not None}
