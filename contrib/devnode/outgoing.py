"""Outgoing payments: the rows of their parts, and the notification when one ends (``lightningd/pay.c``)."""

from __future__ import annotations

import secrets
import sqlite3
import time
from typing import TYPE_CHECKING

from . import invoice_string
from .command import Result
from .errors import Code, InvalidParams
from .invoice_string import InvalidInvoice
from .store import INTEGER_MAX

if TYPE_CHECKING:
    from .node import Node

Row = sqlite3.Row

STATUSES = ("pending", "complete", "failed")

#: Stands for the error onion of a failed part, which only its sender can read.
_ERROR_ONION = bytes(292).hex()


class Outgoing:
    """The table of parts sent, and the notifications that lightningd sends when one ends."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def start(
        self,
        *,
        payment_hash: str,
        groupid: int,
        partid: int,
        amount_msat: int,
        label: str | None,
        invstring: str | None,
    ) -> int:
        """A part on its way to the far node, without a fee, which one hop does not take."""
        details = {"status": "pending", "partid": partid, "groupid": groupid, "payment_hash": payment_hash}
        number = self._node.indexes.bump("sendpays", "created", details)
        self._node.store.execute(
            "INSERT INTO payments (id, status, payment_hash, groupid, partid, destination, amount_msat,"
            " amount_sent_msat, created_at, label, invstring)"
            " VALUES (?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(number, payment_hash, groupid, partid, self._node.payer_id, amount_msat, amount_msat),
            *(int(time.time()), label, invstring),
        )
        return number

    def end(self, row: Row, preimage: str | None) -> None:
        """Complete with a preimage, failed without."""
        status = "failed" if preimage is None else "complete"
        details = {
            "status": status,
            "partid": row["partid"],
            "groupid": row["groupid"],
            "payment_hash": row["payment_hash"],
        }
        updated = self._node.indexes.bump("sendpays", "updated", details)
        completed_at = int(time.time())
        self._node.store.execute(
            "UPDATE payments SET status = ?, updated_index = ?, completed_at = ?, preimage = ? WHERE id = ?",
            *(status, updated, completed_at, preimage, row["id"]),
        )
        before, after = to_json(row), to_json(self.by_id(row["id"]))
        if preimage is None:
            topic, told = "sendpay_failure", self._failure(before)
        else:
            topic, told = "sendpay_success", after
        self._node.store.after_commit(lambda: self._node.plugins.notify(topic, {topic: told}))

    @staticmethod
    def _failure(before: Result) -> Result:
        # lightningd says "pending" in the data of every failure, as it was a moment before (its issue 7561); and
        # only xpay, which made the onion, could read what came back.
        return {
            "code": int(Code.PAY_UNPARSEABLE_ONION),
            "message": "Malformed error reply",
            "data": before | {"onionreply": _ERROR_ONION},
        }

    def by_id(self, number: int) -> Row:
        row = self._node.store.row("SELECT * FROM payments WHERE id = ?", number)
        if row is None:
            raise KeyError(number)
        return row

    def select(self, params: Result) -> list[Row]:
        """The rows of ``listsendpays``."""
        payment_hash = params["payment_hash"]
        if payment_hash is not None and params["bolt11"] is not None:
            raise InvalidParams("Can only specify one of {bolt11} or {payment_hash}")
        if params["start"] != 0 and params["index"] is None:
            raise InvalidParams("Can only specify {start} with {index}")
        if params["limit"] is not None and params["index"] is None:
            raise InvalidParams("Can only specify {limit} with {index}")
        if params["bolt11"] is not None:
            try:
                payment_hash = invoice_string.decode(params["bolt11"], self._node.currency).payment_hash
            except InvalidInvoice as error:
                raise InvalidParams(f"Invalid invstring: {error}") from error
        store = self._node.store
        if payment_hash is not None:
            return store.rows("SELECT * FROM payments WHERE payment_hash = ? ORDER BY id", payment_hash)
        column = "coalesce(updated_index, 0)" if params["index"] == "updated" else "id"
        return store.rows(
            f"SELECT * FROM payments WHERE {column} >= ? AND status IN (?, ?, ?) ORDER BY {column}, id LIMIT ?",
            min(params["start"], INTEGER_MAX),
            *((params["status"],) * 3 if params["status"] else STATUSES),
            -1 if params["limit"] is None else params["limit"],
        )


def new_group() -> int:
    """A random group id, as xpay makes them."""
    return secrets.randbits(63)


def to_json(row: Row) -> Result:
    """``json_add_payment_fields``: what does not apply is absent."""
    answer = {
        "created_index": row["id"],
        "id": row["id"],
        "payment_hash": row["payment_hash"],
        "groupid": row["groupid"],
        "updated_index": row["updated_index"],
        "partid": row["partid"] or None,
        "destination": row["destination"],
        "amount_msat": row["amount_msat"] or None,
        "amount_sent_msat": row["amount_sent_msat"],
        "created_at": row["created_at"],
        "completed_at": row["completed_at"],
        "status": row["status"],
        "payment_preimage": row["preimage"],
        "label": row["label"],
        "bolt11": row["invstring"],
        "description": row["description"],
        "erroronion": _ERROR_ONION if row["status"] == "failed" else None,
    }
    return {name: value for name, value in answer.items() if value is not None}
