"""Findings on their way to the books, each for itself: what a run has written is told, however the run ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cln_paycodes.core.keys import RootKey
from cln_paycodes.core.labels import Slot, parse_label
from cln_paycodes.core.records import NodeInvoice
from cln_paycodes.core.report import Report
from cln_paycodes.core.states import InvoiceStatus
from cln_paycodes.services import findings
from cln_paycodes.services.findings import Findings
from cln_paycodes.store import invoices, outbox
from cln_paycodes.store.store import Store
from samples import NOW, add_invoice, add_paycode, commit_levels
from wiring import books_on

ROOT = RootKey.derive(bytes(32), 0)
DEADLINE_S = 30.0


class CutOff(Exception):
    """The run ends here."""


class Bench:
    """Books on a real sidecar, and a note of when events are told."""

    def __init__(self, path: Path) -> None:
        self.told = threading.Event()
        self.store = Store(path)
        self.store.write(lambda tx: add_paycode(tx, "coffee", paycode_id=ROOT.paycode_id))
        self.books = books_on(self.store, None, None, told=self.told.set)
        #: labels that the node was asked for
        self.asked: list[str] = []
        #: what it answers
        self.status = "expired"
        sources: Any = SimpleNamespace(
            store=self.store,
            books=self.books,
            clock=lambda: NOW,
            node=SimpleNamespace(invoice_by_label=self._invoice_by_label),
            issuing=SimpleNamespace(is_under_way=lambda _: False),
        )
        self.report = Report(full=True, dry_run=False)
        self.findings = Findings(sources, self.report, dry_run=False)

    def _invoice_by_label(self, label: str) -> NodeInvoice:
        self.asked.append(label)
        slot = parse_label(label)
        assert slot is not None
        return listed(slot.index, self.status)

    def reserve(self, *indexes: int, **fields: Any) -> None:
        for index in indexes:
            given = {"payment_hash": ROOT.payment_hash(index), "amount_msat": 1000, **fields}
            self.store.write(partial(add_invoice, slot=Slot(ROOT.paycode_id, index), **given))

    def look(self, *indexes: int) -> None:
        for index in indexes:
            self.findings.look(Slot(ROOT.paycode_id, index))


def listed(index: int, status: str = "expired") -> NodeInvoice:
    return NodeInvoice(
        label=Slot(ROOT.paycode_id, index).label,
        payment_hash=ROOT.payment_hash(index),
        status=status,
        amount_msat=1000,
        received_msat=None,
        bolt11=None,
        expires_at=NOW - 1,
        paid_at=None,
        created_index=index,
        updated_index=index,
        description=None,
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "paycodes.sqlite3")
    yield bench
    bench.store.close()


@pytest.mark.parametrize("written", [1, 2])
def test_events_of_a_run_that_was_cut_off_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """Those of every batch that was written, and on disk with it."""
    monkeypatch.setattr(findings, "BATCH", 2)
    bench.reserve(1, 2, 3, 4, 5)
    levels = commit_levels(bench.store)

    def run() -> None:
        with bench.findings:
            bench.look(*range(1, 2 * written + 2))
            raise CutOff

    with pytest.raises(CutOff):
        run()

    assert bench.told.wait(DEADLINE_S)
    assert bench.store.read(outbox.event_count) == 2 * written
    assert levels == [2] * written


def test_others_who_want_to_write_are_let_in(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between findings, however many there are; all are written in the end."""
    bench.reserve(7, 8, 9)
    seen: list[int] = []
    carry_out = bench.books.carry_out

    def while_others_come(*given: Any) -> bool:
        bench.store.submit(
            lambda tx: seen.append(tx.execute("SELECT sum(status = 'expired') FROM invoices").fetchone()[0])
        )
        return carry_out(*given)

    monkeypatch.setattr(bench.books, "carry_out", while_others_come)
    with bench.findings:
        bench.look(7, 8, 9)
        bench.findings.flush()
    bench.store.write(lambda _: None)

    assert seen == [1, 2, 3]


def test_reserved_row_gives_way_to_an_earlier_life_of_its_code(bench: Bench) -> None:
    """The node has its index with another amount, and nobody ever had the string of ours."""
    bench.reserve(2, amount_msat=7000)
    with bench.findings:
        bench.look(2)
        bench.findings.flush()
    rows = bench.store.read(lambda sql: invoices.page(sql, limit=9))

    assert [(row.index, row.status, row.amount_msat) for row in rows] == [(2, "expired", 1000)]
    assert bench.report.counts["adopted"] == bench.report.events == 1


@pytest.mark.parametrize(("status", "conflicts"), [("paid", 0), ("unpaid", 1)])
def test_page_that_is_older_than_the_row(bench: Bench, status: str, conflicts: int) -> None:
    """Paid since the node wrote the page: only what it says now can be a conflict."""
    slot = Slot(ROOT.paycode_id, 2)
    bench.reserve(2, status=InvoiceStatus.PAID)
    bench.status = status
    repair = bench.findings.judge_slot(slot, bench.books.by_slot(slot), listed(2, "unpaid"), paged=True)
    bench.findings.flush()

    assert repair is None
    assert bench.asked == [slot.label]
    assert len(bench.report.conflicts) == conflicts
