"""Runs with so many invoices to take over, or to issue again, that they are worked on side by side."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from cln_paycodes.app import Services
from cln_paycodes.node.lightningd import Lightningd
from cln_paycodes.rpc import PaycodesPlugin
from cln_paycodes.rpc import _settings as settings_of
from cln_paycodes.services import run
from cln_paycodes.store import invoices
from network import Network
from test_reconcile import books, create, delete_sidecar, label_of, network_options

__all__ = ["network_options"]

MANY = 60


def issue_many(network: Network) -> dict[str, str]:
    """Label to payment hash."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: network.merchant.call("paycode-invoice", "coffee", 10_000), range(MANY)))
    return {invoice["label"]: invoice["payment_hash"] for invoice in made}


def at_node(network: Network) -> dict[str, str]:
    return {entry["label"]: entry["payment_hash"] for entry in network.merchant.call("listinvoices")["invoices"]}


def test_many_deleted_invoices_are_issued_again(network: Network) -> None:
    """All of them, each under its own label and hash, and one that the node refuses stops none of the others."""
    paycode_id = create(network)
    issued = issue_many(network)
    network.merchant.stop_plugin()
    for label in issued:
        network.merchant.call("delinvoice", label, "unpaid")
    foreign = network.merchant.call(
        "invoice", amount_msat=10_000, label=label_of(paycode_id, 7), description="foreign", preimage="07" * 32
    )
    network.merchant.start_plugin()
    network.merchant.call("reconcile")
    report = network.merchant.call("reconcile", full=True)

    assert [conflict["index"] for conflict in report["conflicts"]] == [7]
    assert at_node(network) == issued | {label_of(paycode_id, 7): foreign["payment_hash"]}
    assert books(network) == dict.fromkeys(range(1, MANY + 1), "issued")


@pytest.mark.parametrize("gone", [0, 3, 20])
def test_look_for_deleted_invoices_begins_at_the_oldest_open_one(
    network: Network, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    """What the node listed before it is not read again, unless so many are gone that this is cheaper."""
    before = 30
    for number in range(before):
        network.merchant.call("invoice", 10_000, f"another's {number}", "foreign")
    create(network)
    issued = issue_many(network)
    network.merchant.call("reconcile")
    network.merchant.stop_plugin()
    listed = list(at_node(network))[before:]
    for label in [*listed[:gone], listed[40]]:
        network.merchant.call("delinvoice", label, "unpaid")
    begun: list[int] = []
    walk = Lightningd.invoice_walk
    monkeypatch.setattr(
        Lightningd, "invoice_walk", lambda node, **asked: begun.append(asked["start"]) or walk(node, **asked)
    )
    monkeypatch.setattr(run, "ASK_MOST", 10)
    report, rows = reconciled_here(network)

    assert report["missing"] == report["reissued"] == gone + 1
    assert rows == issued == {label: at_node(network)[label] for label in listed}
    assert min(begun) == (before + gone + 1 if gone < 10 else 1)


def test_lost_rows_are_taken_over_together(network: Network) -> None:
    """A run over a lost sidecar takes over what is proved, and finds the foreign hash among it."""
    paycode_id = create(network)
    issued = issue_many(network)
    network.merchant.call(
        "invoice", amount_msat=10_000, label=label_of(paycode_id, 300), description="foreign", preimage="07" * 32
    )
    network.merchant.call("invoice", 10_000, "another's", "foreign")
    network.merchant.stop_plugin()
    delete_sidecar(network)
    dry, _ = reconciled_here(network, dry_run=True)
    report, rows = reconciled_here(network)

    assert dry["adopted"] == report["adopted"] == MANY
    assert dry["conflicts"] == report["conflicts"]
    assert [conflict["index"] for conflict in report["conflicts"]] == [300]
    assert [line["agree"] for line in report["paycodes"]] == [True]
    assert rows == issued


def test_rows_that_are_there_are_left_as_they_are(network: Network) -> None:
    """Where only some rows were lost, as with an older backup."""
    create(network)
    issued = issue_many(network)
    network.merchant.call("reconcile")
    network.merchant.stop_plugin()
    with closing(sqlite3.connect(network.merchant.network_dir / "paycodes.sqlite3")) as sidecar, sidecar:
        lost = sidecar.execute("DELETE FROM invoices WHERE idx % 5 <> 0").rowcount
        sidecar.execute("UPDATE paycodes SET issued = issued - ?1, pending = pending - ?1", (lost,))
        kept = sidecar.execute("SELECT sequence, payment_hash FROM invoices").fetchall()
    report, rows = reconciled_here(network, full=True)
    with closing(sqlite3.connect(network.merchant.network_dir / "paycodes.sqlite3")) as sidecar:
        after = sidecar.execute("SELECT sequence, payment_hash FROM invoices").fetchall()

    assert report["agree"]
    assert report["adopted"] == lost
    assert rows == issued
    assert set(kept) <= set(after)


def reconciled_here(network: Network, **given: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """A run in this process, the plugin being away: its report, and label to payment hash of all rows."""
    node = Lightningd(str(network.merchant.rpc_path))
    options = {name: option.default for name, option in PaycodesPlugin().options.items()}
    services = Services(settings_of(options, network.merchant.network_dir), node, lambda *_: None, lambda *_: None)
    try:
        report = services.reconciler.run(**given).answer()
        rows = {row.label: row.payment_hash for row in services.store.read(partial(invoices.page, limit=1000))}
    finally:
        services.stop()
    return report, rows
