"""Runs with so many invoices to take over, or to issue again, that they are worked on side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from cln_paycodes.app import Services
from cln_paycodes.core.keys import InvoiceKeys
from cln_paycodes.core.labels import Slot
from cln_paycodes.node.lightningd import Lightningd
from cln_paycodes.rpc import PaycodesPlugin
from cln_paycodes.rpc import _settings as settings_of
from cln_paycodes.services import listing
from cln_paycodes.services.books import Books
from cln_paycodes.services.deriving import Deriver
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
    foreign = network.merchant.call("invoice", 10_000, label_of(paycode_id, 7), "foreign", preimage="07" * 32)
    network.merchant.start_plugin()
    network.merchant.call("reconcile")
    report = network.merchant.call("reconcile", full=True)

    assert [conflict["index"] for conflict in report["conflicts"]] == [7]
    assert at_node(network) == issued | {label_of(paycode_id, 7): foreign["payment_hash"]}
    assert books(network) == dict.fromkeys(range(1, MANY + 1), "issued")


def test_hashes_are_derived_beside_the_walk(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run over a lost sidecar takes over what the child process derived, and finds the foreign hash by it."""
    paycode_id = create(network)
    issued = issue_many(network)
    network.merchant.call("invoice", 10_000, label_of(paycode_id, 300), "foreign", preimage="07" * 32)
    network.merchant.stop_plugin()
    delete_sidecar(network)
    monkeypatch.setattr(listing, "DERIVE_BESIDE", -1)
    start = Deriver.start

    def start_and_wait(deriver: Deriver) -> None:
        start(deriver)
        deriver.wait()

    def never(_books: Books, slot: Slot) -> InvoiceKeys | None:
        raise AssertionError(f"{slot.label} was derived by the walk itself")

    monkeypatch.setattr(Deriver, "start", start_and_wait)
    monkeypatch.setattr(Books, "keys", never)
    report, rows = reconciled_here(network)

    assert report["adopted"] == MANY
    assert [conflict["index"] for conflict in report["conflicts"]] == [300]
    assert rows == issued


def reconciled_here(network: Network) -> tuple[dict[str, Any], dict[str, str]]:
    """A run in this process, the plugin being away: its report, and label to payment hash of all rows."""
    node = Lightningd(str(network.merchant.rpc_path))
    options = {name: option.default for name, option in PaycodesPlugin().options.items()}
    services = Services(settings_of(options, network.merchant.network_dir), node, lambda *_: None, lambda *_: None)
    try:
        report = services.reconciler.run().answer()
        rows = {row.label: row.payment_hash for row in services.store.read(partial(invoices.page, limit=1000))}
    finally:
        services.stop()
    return report, rows
