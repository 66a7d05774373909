"""What the operator sees of actions: one that cannot be read is told, and the plugin goes on without it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from network import Network

UNREADABLE = "ab" * 32


def test_action_that_cannot_be_read_is_told_and_stops_nothing(network: Network) -> None:
    """It is in the warnings and the report with its reason, codes work on."""

    def told(answer: dict[str, Any], where: str) -> list[str]:
        return [text for text in answer[where] if UNREADABLE in text]

    network.merchant.stop_plugin()
    with closing(sqlite3.connect(network.merchant.network_dir / "paycodes.sqlite3", isolation_level=None)) as sidecar:
        sidecar.execute(
            "INSERT INTO actions (action_id, kind, state, payload, attempts, due_at, created_at, updated_at)"
            " VALUES (?, 'refund', 'asked', '{}', 0, 0, 0, 0)",
            (UNREADABLE,),
        )
    network.merchant.start_plugin()
    network.merchant.wait_for_log(f"{UNREADABLE} was set aside")
    network.merchant.call("paycode-create", "coffee", "One coffee")
    bolt11 = network.merchant.call("paycode-invoice", "coffee", 21_000)["bolt11"]
    network.pay(bolt11)
    paid = network.merchant.call("paycode-wait", "coffee", 1, "paid", 30)
    info = network.merchant.call("getpaycodesinfo")
    report = network.merchant.call("reconcile")

    assert paid["status"] == "paid"
    (warning,) = told(info, "warnings")
    assert "unknown kind 'refund'" in warning
    assert told(report, "problems") == [warning]
    assert told(network.merchant.call("getpaycodesinfo"), "warnings") == [warning]
    assert not report["agree"]
