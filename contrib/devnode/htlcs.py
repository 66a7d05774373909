"""HTLCs that come in: what a payer offered, on disk until it is settled or failed, as with a real channel."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from .store import Store

#: The far end of the one channel that devnode plays.
CHANNEL = "103x1x0"

UNKNOWN_DETAILS = "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS"
MPP_TIMEOUT = "WIRE_MPP_TIMEOUT"

#: Failure codes of BOLT 4 by name; what a plugin answers with is looked up by its first two bytes.
FAILURE_CODES = {
    0x2002: "WIRE_TEMPORARY_NODE_FAILURE",
    0x400F: UNKNOWN_DETAILS,
    0x4016: "WIRE_INVALID_ONION_PAYLOAD",
    0x0017: MPP_TIMEOUT,
    0x1007: "WIRE_TEMPORARY_CHANNEL_FAILURE",
    0x0012: "WIRE_FINAL_INCORRECT_CLTV_EXPIRY",
    0x0013: "WIRE_FINAL_INCORRECT_HTLC_AMOUNT",
}


@dataclass(frozen=True)
class Htlc:
    id: int
    payment_id: str
    payment_hash: str
    amount_msat: int
    total_msat: int
    payment_secret: str
    cltv_expiry: int
    #: ``offered``, ``settled`` or ``failed``.
    state: str
    preimage: str | None
    failure: str | None


def _htlc(row: sqlite3.Row) -> Htlc:
    return Htlc(
        **{
            name: row[name]
            for name in row.keys()  # noqa: SIM118  a row iterates over its values
        }
    )


class Htlcs:
    def __init__(self, store: Store) -> None:
        self._store = store

    def offer(
        self,
        payment_id: str,
        payment_hash: str,
        amounts: list[int],
        total: int,
        secret: str,
        cltv_expiry: int,
    ) -> list[Htlc]:
        """The parts of one payment, all on disk before any is looked at."""
        with self._store.transaction():
            for amount in amounts:
                number = self._store.var("next_htlc_id", 0)
                self._store.set_var("next_htlc_id", number + 1)
                self._store.execute(
                    "INSERT INTO htlcs (id, payment_id, payment_hash, amount_msat, total_msat,"
                    " payment_secret, cltv_expiry, state) VALUES (?, ?, ?, ?, ?, ?, ?, 'offered')",
                    *(number, payment_id, payment_hash, amount, total, secret, cltv_expiry),
                )
        return self.of_payment(payment_id)

    def of_payment(self, payment_id: str) -> list[Htlc]:
        return [_htlc(row) for row in self._store.rows("SELECT * FROM htlcs WHERE payment_id = ?", payment_id)]

    def offered(self) -> list[Htlc]:
        return [_htlc(row) for row in self._store.rows("SELECT * FROM htlcs WHERE state = 'offered' ORDER BY id")]

    def settled_msat(self) -> int:
        row = self._store.row("SELECT coalesce(sum(amount_msat), 0) AS msat FROM htlcs WHERE state = 'settled'")
        return 0 if row is None else int(row["msat"])

    def is_offered(self, number: int) -> bool:
        return self._store.row("SELECT 1 FROM htlcs WHERE id = ? AND state = 'offered'", number) is not None

    def settle(self, number: int, preimage: str) -> None:
        self._store.execute("UPDATE htlcs SET state = 'settled', preimage = ? WHERE id = ?", preimage, number)

    def fail(self, number: int, failure: str) -> None:
        self._store.execute("UPDATE htlcs SET state = 'failed', failure = ? WHERE id = ?", failure, number)
