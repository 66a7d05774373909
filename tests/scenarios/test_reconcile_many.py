"""Runs with so many invoices to take over, or to issue again, that they are worked on side by side."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from cln_paycodes.app import Services
from cln_paycodes.node.lightningd import Lightningd
from cln_paycodes.rpc import PaycodesPlugin
from cln_paycodes.rpc import _settings as settings_of
from cln_paycodes.services import listing
from cln_paycodes.services.prover import Prover
from cln_paycodes.services.proving import Proven
from cln_paycodes.services.walking import PAGE
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


@pytest.fixture
def proven(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Another process walks the list, however short it is, as soon as that is known to pay; how many rows it handed
    over.
    """
    handed: list[int] = []
    start, walk = Prover.start, Prover.walk

    def start_and_wait(prover: Prover) -> None:
        start(prover)
        prover.is_ready(timeout_s=None)

    def counted(prover: Prover, *given: Any, **named: Any) -> Iterator[Proven]:
        for part in walk(prover, *given, **named):
            handed.append(len(part.rows))
            yield part

    monkeypatch.setattr(listing, "PROVE_BESIDE", -1)
    monkeypatch.setattr(Prover, "start", start_and_wait)
    monkeypatch.setattr(Prover, "walk", counted)
    return handed


def test_lost_rows_are_proven_beside_the_run(network: Network, proven: list[int]) -> None:
    """A run over a lost sidecar takes over what another process read and derived, and finds the foreign hash itself."""
    paycode_id = create(network)
    issued = issue_many(network)
    network.merchant.call("invoice", 10_000, label_of(paycode_id, 300), "foreign", preimage="07" * 32)
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
    assert proven == [MANY, MANY]


def test_rows_that_are_there_are_met_by_those_proven(network: Network, proven: list[int]) -> None:
    """Where only some rows were lost, as with an older backup, the others are left as they are."""
    create(network)
    issued = issue_many(network)
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
    assert proven == [MANY - PAGE]


def test_process_that_dies_while_it_gathers(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on by itself, where it ended."""
    create(network)
    issued = issue_many(network)
    network.merchant.stop_plugin()
    delete_sidecar(network)
    monkeypatch.setattr(listing, "PROVE_BESIDE", -1)
    monkeypatch.setattr(Prover, "start", start_and_kill)
    report, rows = reconciled_here(network)

    assert report["agree"]
    assert report["adopted"] == MANY
    assert rows == issued


def start_and_kill(prover: Prover, start: Callable[[Prover], None] = Prover.start) -> None:
    start(prover)
    prover.is_ready(timeout_s=None)
    process = prover._process
    assert process is not None
    process.kill()
    process.wait()


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
