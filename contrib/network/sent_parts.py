"""A payment of exactly these parts over the one channel: what a wallet would not do by itself."""

from __future__ import annotations

import time
from typing import Any

from pyln.client import RpcError

from .daemon_node import DaemonNode
from .interface import Answer

#: Blocks beyond what the invoice asks for, so that a block mined meanwhile does not spoil the payment.
_SPARE_BLOCKS = 2


class SentParts:
    def __init__(self, payer: DaemonNode, merchant_id: str, bolt11: str) -> None:
        self._payer = payer
        self._merchant_id = merchant_id
        self._bolt11 = bolt11

    def pay(self, amount_msat: int | None, parts: int, timeout_s: float) -> Answer:
        """Raises RpcError with the failure of a part, once all parts have ended."""
        invoice = self._payer.call("decode", self._bolt11)
        total: int = invoice["amount_msat"] if amount_msat is None else amount_msat
        # A group of its own, so that paying the same hash again is a new payment.
        group = time.time_ns() // 1_000_000
        numbers = range(1, parts + 1)
        for number in numbers:
            amount = total // parts + (1 if number <= total % parts else 0)
            self._payer.call("sendpay", **self._part(invoice, amount, total, number, group))
        answers: list[Answer] = []
        failures: list[RpcError] = []
        for number in numbers:
            waiting = {"payment_hash": invoice["payment_hash"], "partid": number, "groupid": group}
            try:
                answers.append(self._payer.call("waitsendpay", timeout=int(timeout_s), **waiting))
            except RpcError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return answers[0] | {"amount_msat": total}

    def _part(self, invoice: Answer, amount: int, total: int, number: int, group: int) -> dict[str, Any]:
        hop = {
            "id": self._merchant_id,
            "channel": self._channel(),
            "amount_msat": amount,
            "delay": invoice["min_final_cltv_expiry"] + _SPARE_BLOCKS,
        }
        return {
            "route": [hop],
            "payment_hash": invoice["payment_hash"],
            "payment_secret": invoice["payment_secret"],
            "amount_msat": total,
            "bolt11": self._bolt11,
            "partid": number,
            "groupid": group,
        }

    def _channel(self) -> str:
        channel = self._payer.call("listpeerchannels", self._merchant_id)["channels"][0]
        scid: str = channel["short_channel_id"]
        return scid
