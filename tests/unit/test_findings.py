"""Findings on their way to the books: what a run has written is told, however the run ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cln_paycodes.core.found import columns_of
from cln_paycodes.core.keys import RootKey
from cln_paycodes.core.labels import Slot, parse_label
from cln_paycodes.core.records import NodeInvoice
from cln_paycodes.core.report import Report
from cln_paycodes.services import findings
from cln_paycodes.services.findings import Findings
from cln_paycodes.store import invoices, outbox
from cln_paycodes.store.store import Store
from cln_paycodes.store.writer import Transaction
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

    def adopt(self, *indexes: int, status: str = "expired") -> None:
        facts = {Slot(ROOT.paycode_id, index): listed(index, status) for index in indexes}
        self.findings.adopt([columns_of(slot, fact, now=NOW) for slot, fact in facts.items()])


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


def test_events_are_told_when_all_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with each batch: a long walk is not slowed down by those who are told."""
    monkeypatch.setattr(findings, "BATCH", 2)
    with bench.findings:
        bench.adopt(1, 2)
        bench.adopt(3, 4)
        told_before = bench.told.is_set()
        bench.findings.flush()
        told_after = bench.told.is_set()

    assert (told_before, told_after) == (False, True)
    assert bench.report.events == bench.report.counts["adopted"] == 4


@pytest.mark.parametrize("written", [1, 2])
def test_events_of_a_run_that_was_cut_off_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """Those of every batch that was written."""
    monkeypatch.setattr(findings, "BATCH", 2)

    def run() -> None:
        with bench.findings:
            for number in range(written):
                bench.adopt(2 * number + 1, 2 * number + 2)
            raise CutOff

    with pytest.raises(CutOff):
        run()

    assert bench.told.wait(DEADLINE_S)
    assert bench.store.read(outbox.event_count) == 2 * written


def test_row_that_has_got_in_between_is_judged_as_it_is(bench: Bench) -> None:
    """The node is asked for it again; all others are taken over one by one, each with its event."""
    known = Slot(ROOT.paycode_id, 2)
    bench.store.write(lambda tx: add_invoice(tx, known, payment_hash=ROOT.payment_hash(2), amount_msat=1000))
    before = bench.books.by_slot(known)
    assert before is not None
    with bench.findings:
        bench.adopt(1, 2, 3)
        bench.findings.flush()
    rows = bench.store.read(lambda sql: invoices.page(sql, limit=9))

    assert [(row.index, row.status) for row in rows] == [(2, "expired"), (1, "expired"), (3, "expired")]
    assert rows[0].sequence == before.sequence
    assert bench.asked == [known.label]
    assert (bench.report.counts["adopted"], bench.report.counts["confirmed"]) == (2, 1)
    assert bench.report.events == 3


def test_others_who_want_to_write_are_let_in(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between some rows, and between findings, however many there are; all are written in the end."""
    monkeypatch.setattr(findings, "TOGETHER", 2)
    for index in (7, 8, 9):
        row = partial(
            add_invoice, slot=Slot(ROOT.paycode_id, index), payment_hash=ROOT.payment_hash(index), amount_msat=1000
        )
        bench.store.write(row)
    seen: list[tuple[int, int]] = []

    def count(tx: Transaction) -> None:
        seen.append(tx.execute("SELECT count(*), sum(status = 'expired') FROM invoices").fetchone())

    def while_others_come(work: Callable[..., Any]) -> Callable[..., Any]:
        def works(*given: Any) -> Any:
            bench.store.submit(count)
            return work(*given)

        return works

    monkeypatch.setattr(bench.books, "adopt", while_others_come(bench.books.adopt))
    monkeypatch.setattr(bench.books, "carry_out", while_others_come(bench.books.carry_out))
    with bench.findings:
        bench.adopt(1, 2, 3)
        for index in (7, 8, 9):
            bench.findings.look(Slot(ROOT.paycode_id, index))
        bench.findings.flush()
    bench.store.write(lambda _: None)

    assert seen == [(5, 2), (6, 3), (6, 4), (6, 5), (6, 6)]


def test_row_that_cannot_be_is_a_conflict(bench: Bench) -> None:
    """Its hash is another row's: told to a person, and the others are taken over."""
    other = Slot(ROOT.paycode_id, 9)
    bench.store.write(lambda tx: add_invoice(tx, other, payment_hash=ROOT.payment_hash(2)))
    with bench.findings:
        bench.adopt(1, 2, 3)
        bench.findings.flush()
    rows = bench.store.read(lambda sql: invoices.page(sql, limit=9))

    assert sorted(row.index for row in rows) == [1, 3, 9]
    assert list(bench.report.conflicts) == [Slot(ROOT.paycode_id, 2)]
    assert bench.report.counts["adopted"] == 2
    assert bench.asked == []


@pytest.mark.parametrize("way", ["page", "look"])
def test_reserved_row_gives_way_to_an_earlier_life_of_its_code(bench: Bench, way: str) -> None:
    """The node has its index with another amount, and nobody ever had the string of ours."""
    slot = Slot(ROOT.paycode_id, 2)
    bench.store.write(lambda tx: add_invoice(tx, slot, payment_hash=ROOT.payment_hash(2), amount_msat=7000))
    with bench.findings:
        bench.adopt(1, 3)
        if way == "page":
            bench.adopt(2)
        else:
            bench.findings.look(slot)
        bench.findings.flush()
    rows = bench.store.read(lambda sql: invoices.page(sql, limit=9))

    assert sorted((row.index, row.status, row.amount_msat) for row in rows) == [
        (index, "expired", 1000) for index in (1, 2, 3)
    ]
    assert bench.report.counts["adopted"] == bench.report.events == 3


@pytest.mark.parametrize(("status", "synchronous"), [("expired", 2), ("unpaid", 1)])
def test_event_is_on_disk_before_it_can_be_sent(bench: Bench, status: str, synchronous: int) -> None:
    """Whoever sends may see it as soon as it is written; rows alone can wait for the cursors."""
    levels = commit_levels(bench.store)
    with bench.findings:
        bench.adopt(1, 2, status=status)
        bench.findings.flush()

    assert levels == [synchronous]


@pytest.mark.parametrize(("status", "conflicts"), [("paid", 0), ("unpaid", 1)])
def test_page_that_is_older_than_the_row(bench: Bench, status: str, conflicts: int) -> None:
    """Paid since the node wrote the page: only what it says now can be a conflict."""
    slot = Slot(ROOT.paycode_id, 2)
    bench.adopt(2, status="paid")
    bench.findings.flush()
    bench.status = status
    repair = bench.findings.judge_slot(slot, bench.books.by_slot(slot), listed(2, "unpaid"), paged=True)
    bench.findings.flush()

    assert repair is None
    assert bench.asked == [slot.label]
    assert len(bench.report.conflicts) == conflicts
