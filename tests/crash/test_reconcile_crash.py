"""The plugin dies at every named point of `reconcile`; the next run ends where one that was not cut off would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from network import Network
from network.daemon import poll_until
from pyln.client import RpcError

POINTS = (
    "reconcile:definitions",
    "reconcile:written",
    "reconcile:walked",
    "reconcile:reissued",
    "reconcile:cursors",
    "reconcile:payments",
)


def wounded(network: Network) -> tuple[str, str]:
    """Paid, deleted and adopted behind the plugin's back, and an outgoing payment; code and payment hash."""
    merchant = network.merchant
    paycode_id: str = merchant.call("paycode-create", "coffee", "One coffee")["paycode_id"]
    invoices = [merchant.call("paycode-invoice", "coffee", 10_000) for _ in range(3)]
    merchant.call("reconcile")
    merchant.stop_plugin()
    merchant.call("delinvoice", f"paycode/{paycode_id}/2", "unpaid")
    network.pay(invoices[0]["bolt11"])
    return paycode_id, network.pay_out(5000)


def start_until_it_lives(network: Network, died: Path) -> None:
    """As an operator would: again, once the first one has died at its point."""

    def started() -> bool:
        try:
            network.merchant.start_plugin()
        except RpcError:
            return False
        return True

    def lives() -> bool:
        """It died so early that the first poll has started it again already."""
        try:
            network.merchant.call("getpaycodesinfo")
        except RpcError:
            return False
        return True

    poll_until(started, 30.0, "the plugin does not start")
    poll_until(died.exists, 30.0, "the plugin did not reach its crash point")
    poll_until(lambda: lives() or started(), 30.0, "the plugin does not start again")


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "lost"])
@pytest.mark.parametrize("point", POINTS)
def test_run_that_was_cut_off_is_made_good(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, lost: bool
) -> None:
    """Whatever step the death lies behind, and with the sidecar lost as well: nothing missing, nothing twice."""
    merchant = network.merchant
    died = tmp_path / "died"
    if point == "reconcile:reissued" and lost:
        pytest.skip("a lost sidecar has no open rows to issue again")
    monkeypatch.setenv("PAYCODES_CRASH_AT", point)
    monkeypatch.setenv("PAYCODES_CRASH_ONCE", str(died))
    died.touch()  # not armed yet
    merchant.restart()
    _, sent = wounded(network)
    if lost:
        for path in merchant.network_dir.glob("paycodes.sqlite3*"):
            path.unlink()
    died.unlink()
    start_until_it_lives(network, died)
    poll_until(lambda: reported(network)["agree"], 30.0, "books and node do not agree")
    second = merchant.call("reconcile", full=True)
    rows = merchant.call("listpaycodeinvoices")["invoices"]
    told = merchant.call("listoutbox")["events"]

    assert second["agree"]
    assert second["events"] == second["reissued"] == second["adopted"] == second["confirmed"] == 0
    wanted = {1: "paid", 3: "issued"} if lost else {1: "paid", 2: "issued", 3: "issued"}
    assert {row["index"]: row["status"] for row in rows} == wanted
    assert sorted(event["type"] for event in told) == ["invoice.paid", "payment.sent"]
    assert {event["data"]["payment_hash"] for event in told} >= {sent}
    assert merchant.call("paycode-invoice", "coffee", 1000)["index"] > 3


def reported(network: Network) -> dict[str, Any]:
    report: dict[str, Any] = network.merchant.call("reconcile")
    return report
