"""The `invoice_payment` hook answers whatever happens, and what it could not write is repaired afterwards."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

from network import Network
from network.daemon import poll_until


def test_payment_goes_on_while_the_sidecar_cannot_be_written(network: Network) -> None:
    """Another process locks the sidecar: the payment settles without waiting for it, and is told once it is free."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee")
    invoice = merchant.call("paycode-invoice", "coffee", 21000)
    intruder = sqlite3.connect(merchant.network_dir / "paycodes.sqlite3", isolation_level=None)
    intruder.execute("BEGIN EXCLUSIVE")
    network.pay(invoice["bolt11"], timeout_s=30)
    (entry,) = merchant.call("listinvoices", label=invoice["label"])["invoices"]
    unaware = merchant.call("listpaycodeinvoices", "coffee")["invoices"][0]["status"]
    intruder.execute("ROLLBACK")
    intruder.close()
    paid = merchant.call("paycode-wait", "coffee", 1, "paid", 60)
    report = merchant.call("reconcile", full=True)

    assert entry["status"] == "paid"
    assert unaware == "issued"
    assert paid["received_msat"] == 21000
    assert report["agree"] is True
    assert len(merchant.call("listoutbox")["events"]) == 1


def test_payment_goes_on_when_the_sidecar_cannot_be_opened(network: Network) -> None:
    """With an unusable database path the plugin says so to every caller, and payments settle as without it."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee")
    first = merchant.call("paycode-invoice", "coffee", 21000)
    merchant.stop()
    (merchant.network_dir / "a-file").write_text("not a directory")
    merchant.start(paycodes_db="a-file/paycodes.sqlite3")
    network.pay(first["bolt11"])
    (entry,) = merchant.call("listinvoices", label=first["label"])["invoices"]
    merchant.stop()
    merchant.start(paycodes_db=None)
    paid = merchant.call("paycode-wait", "coffee", 1, "paid", 30)

    assert entry["status"] == "paid"
    assert paid["received_msat"] == 21000
    assert merchant.call("reconcile", full=True)["agree"] is True


def test_many_payments_at_once_are_each_told_once(network: Network) -> None:
    """24 payments in parallel: 24 paid invoices, 24 events, nothing waits for the plugin."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee")
    invoices = [merchant.call("paycode-invoice", "coffee", 1000 + number) for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda invoice: network.pay(invoice["bolt11"]), invoices))

    def paid() -> int:
        return int(merchant.call("listpaycodes", "coffee")["paycodes"][0]["paid"])

    poll_until(lambda: paid() == 24, 60.0, "not every payment was seen")
    events = merchant.call("listoutbox", type="invoice.paid")["events"]

    assert sorted(event["data"]["received_msat"] for event in events) == [1000 + number for number in range(24)]
    assert merchant.call("reconcile", full=True)["agree"] is True


def test_payments_of_others_are_left_alone(network: Network) -> None:
    """An invoice that is not a paycode's is paid as ever, and is in no list of ours."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee")
    foreign = merchant.call("invoice", amount_msat=5000, label="someone else's", description="not a paycode")
    network.pay(foreign["bolt11"])
    report = merchant.call("reconcile", full=True)

    assert merchant.call("listinvoices", label="someone else's")["invoices"][0]["status"] == "paid"
    assert merchant.call("listoutbox")["events"] == []
    assert (report["agree"], report["adopted"]) == (True, 0)
