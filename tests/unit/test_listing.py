"""The node's list on its way into the books: page by page, each invoice once, whoever else writes meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cln_paycodes.core.keys import RootKey
from cln_paycodes.core.labels import Slot, parse_label
from cln_paycodes.core.records import Invoice, NodeInvoice
from cln_paycodes.core.report import Report
from cln_paycodes.core.states import InvoiceStatus as S
from cln_paycodes.services import listing
from cln_paycodes.services.findings import Findings
from cln_paycodes.services.listing import Listing
from cln_paycodes.store import found_invoices, invoices, outbox
from cln_paycodes.store.store import Store
from samples import NOW, add_invoice, add_paycode, commit_levels
from wiring import books_on

ROOT, OTHER = RootKey.derive(bytes(32), 0), RootKey.derive(bytes(32), 1)
ROOTS = {root.paycode_id: root for root in (ROOT, OTHER)}
DEADLINE_S = 30.0

Pages = list[list[NodeInvoice]]


class CutOff(Exception):
    """The run ends here."""


class Walk:
    """Pages as a test has them; `near` says of each look whether the next one is there."""

    def __init__(self, pages: Iterator[list[NodeInvoice]], near: Callable[[], bool]) -> None:
        self._pages = pages
        self._near = near
        self.reached = 0

    def __iter__(self) -> Walk:
        return self

    def __next__(self) -> list[NodeInvoice]:
        page = next(self._pages)
        self.reached = page[-1].created_index
        return page

    def is_near(self, _within_s: float) -> bool:
        return self._near()


class Bench:
    """Books on a real sidecar, a node with pages, and a note of what was asked and told."""

    def __init__(self, path: Path) -> None:
        self.told = threading.Event()
        self.store = Store(path)
        for root in ROOTS.values():
            self.store.write(partial(add_paycode, label=root.paycode_id[:8], paycode_id=root.paycode_id))
        self.opened: list[str] = []
        self.books = books_on(
            self.store,
            None,
            SimpleNamespace(root_by_id=ROOTS.get),
            told=self.told.set,
            opened=self.opened.extend,
        )
        #: labels that the node was asked for, and payments by offers that were handed on
        self.asked: list[str] = []
        self.offered: list[NodeInvoice] = []
        self.under_way: set[Slot] = set()
        self.near: Callable[[], bool] = lambda: True
        self.pages: Iterator[list[NodeInvoice]] = iter(())
        sources: Any = SimpleNamespace(
            store=self.store,
            books=self.books,
            registry=SimpleNamespace(root_by_id=ROOTS.get),
            clock=lambda: NOW,
            check=lambda: None,
            node=SimpleNamespace(invoice_by_label=self._invoice_by_label, invoice_walk=self._walk),
            issuing=SimpleNamespace(
                is_under_way=self.under_way.__contains__,
                is_any_under_way=lambda slots: any(slot in self.under_way for slot in slots),
            ),
            offers=SimpleNamespace(take=self._take_offered),
        )
        self.report = Report(full=True, dry_run=False)
        self.findings = Findings(sources, self.report, dry_run=False)
        self.listing = Listing(sources, self.report, self.findings, after={"created": 0, "updated": 0})

    @contextmanager
    def _walk(self, **_: Any) -> Iterator[Walk]:
        yield Walk(self.pages, lambda: self.near())

    def _invoice_by_label(self, label: str) -> NodeInvoice:
        self.asked.append(label)
        slot = parse_label(label)
        assert slot is not None
        return listed(slot.index)

    def _take_offered(self, facts: list[NodeInvoice], **_: bool) -> int:
        self.offered += facts
        return 0

    def walk(self, pages: Pages | Iterator[list[NodeInvoice]]) -> list[int]:
        """How far each step of the walk came."""
        self.pages = iter(pages)
        with self.findings:
            reached = list(self.listing.judge("created", 1, 10_000))
            self.findings.flush()
        return reached

    def add(self, index: int, **fields: Any) -> Invoice:
        fields = {"payment_hash": ROOT.payment_hash(index), "amount_msat": 1000, **fields}
        return self.store.write(partial(add_invoice, slot=Slot(ROOT.paycode_id, index), **fields))

    def rows(self) -> list[Invoice]:
        """In the order in which they were stored."""
        return self.store.read(lambda sql: invoices.page(sql, limit=10_000))


def listed(index: int, status: str = "expired", root: RootKey = ROOT, **fields: Any) -> NodeInvoice:
    given: dict[str, Any] = {
        "label": Slot(root.paycode_id, index).label,
        "payment_hash": root.payment_hash(index),
        "status": status,
        "amount_msat": 1000,
        "received_msat": None,
        "bolt11": None,
        "expires_at": NOW - 1,
        "paid_at": None,
        "created_index": index,
        "updated_index": index,
        "description": None,
        **fields,
    }
    return NodeInvoice(**given)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "paycodes.sqlite3")
    yield bench
    bench.store.close()


@pytest.mark.parametrize("together", [1, 2, 3, 100])
@pytest.mark.parametrize("count", [1, 2, 6, 7])
def test_every_page_is_taken_over_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, together: int, count: int
) -> None:
    """However many share a commit: in the order of the list, each with its event, and counted."""
    monkeypatch.setattr(listing, "PAGES_AT_A_TIME", together)
    codes = [ROOT, OTHER, ROOT]
    reached = bench.walk(
        [[listed(3 * page + n, root=root) for n, root in enumerate(codes, 1)] for page in range(count)]
    )
    rows = bench.rows()

    assert [(row.paycode_id, row.index, row.payment_hash) for row in rows] == [
        (root.paycode_id, 3 * page + n, root.payment_hash(3 * page + n))
        for page in range(count)
        for n, root in enumerate(codes, 1)
    ]
    assert reached == [3 * min(done + together, count) for done in range(0, count, together)]
    assert bench.report.checked == bench.report.counts["adopted"] == bench.report.events == 3 * count
    assert bench.store.read(outbox.event_count) == 3 * count
    assert bench.findings.tally(ROOT.paycode_id).sums.issued == 2 * count
    assert bench.listing.created.is_complete(3 * count)


def test_what_can_still_be_paid_is_watched(bench: Bench) -> None:
    """The hook learns the hashes of invoices that are open."""
    bench.walk([[listed(1, "unpaid"), listed(2)], [listed(3, "unpaid")]])

    assert bench.opened == [ROOT.payment_hash(1), ROOT.payment_hash(3)]


def test_invoices_of_others_do_not_end_a_commit(bench: Bench) -> None:
    """Their labels are none of ours."""
    levels = commit_levels(bench.store)
    reached = bench.walk([[listed(1)], [listed(2, label="tea")], [listed(3, label="tea"), listed(4)]])

    assert [row.index for row in bench.rows()] == [1, 4]
    assert (reached, levels) == ([4], [2])


def test_payments_by_offers_are_handed_on(bench: Bench) -> None:
    """From every page, and after the commit: to write them down takes one of its own."""
    paid = [listed(n, "paid", label=f"offer {n}", offer_id="aa" * 32, received_msat=1000) for n in (1, 2)]
    bench.walk([[paid[0], listed(3)], [paid[1]]])

    assert bench.offered == paid
    assert [row.index for row in bench.rows()] == [3]


def test_foreign_hash_is_a_conflict_and_all_around_it_is_taken_over(bench: Bench) -> None:
    """On whichever page it is."""
    bench.walk([[listed(1)], [listed(2, payment_hash="07" * 32), listed(3)], [listed(4)]])

    assert [row.index for row in bench.rows()] == [1, 3, 4]
    assert list(bench.report.conflicts) == [Slot(ROOT.paycode_id, 2)]


def test_what_is_being_issued_is_left_to_its_call(bench: Bench) -> None:
    """The page has others that nobody is at."""
    bench.under_way.add(Slot(ROOT.paycode_id, 2))
    bench.walk([[listed(1)], [listed(2), listed(3)], [listed(4)]])

    assert sorted(row.index for row in bench.rows()) == [1, 3, 4]


def test_row_that_has_got_in_between_is_judged_as_it_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """All others are taken over, each with its event."""
    look = found_invoices.among

    def add_behind_the_look(*given: Any, **named: Any) -> bool:
        known = look(*given, **named)
        if not bench.rows():
            bench.add(2)
        return known

    monkeypatch.setattr(found_invoices, "among", add_behind_the_look)
    bench.walk([[listed(1)], [listed(2)], [listed(3)]])

    assert sorted((row.index, row.status) for row in bench.rows()) == [(n, S.EXPIRED) for n in (1, 2, 3)]
    assert (bench.report.counts["adopted"], bench.report.counts["confirmed"]) == (2, 1)
    assert bench.report.events == 3


def test_reserved_row_gives_way_to_an_earlier_life_of_its_code(bench: Bench) -> None:
    """The node has its index with another amount, and nobody ever had the string of ours."""
    bench.add(2, amount_msat=7000)
    bench.walk([[listed(1)], [listed(2), listed(3)]])

    assert sorted((row.index, row.status, row.amount_msat) for row in bench.rows()) == [
        (index, "expired", 1000) for index in (1, 2, 3)
    ]
    assert bench.report.counts["adopted"] == bench.report.events == 3


def test_row_that_cannot_be_is_a_conflict(bench: Bench) -> None:
    """Its hash is another row's: told to a person, and the others are taken over."""
    bench.add(9, payment_hash=ROOT.payment_hash(2))
    bench.walk([[listed(1)], [listed(2)], [listed(3)]])

    assert sorted(row.index for row in bench.rows()) == [1, 3, 9]
    assert list(bench.report.conflicts) == [Slot(ROOT.paycode_id, 2)]
    assert bench.report.counts["adopted"] == 2
    assert bench.asked == []


def test_others_who_want_to_write_are_let_in(bench: Bench) -> None:
    """Behind the page that is being written."""
    seen: list[int] = []

    def pages() -> Iterator[list[NodeInvoice]]:
        yield [listed(1)]
        for index in (2, 3):
            bench.store.submit(lambda tx: seen.append(tx.execute("SELECT count(*) FROM invoices").fetchone()[0]))
            yield [listed(index)]

    bench.walk(pages())
    bench.store.write(lambda _: None)

    assert seen == [2, 2]
    assert len(bench.rows()) == 3


def test_nobody_waits_for_a_page_that_the_node_is_at(bench: Bench) -> None:
    """What was written so far is committed as soon as another wants the writer."""
    others: list[Any] = []
    looks = 0

    def near() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            others.append(bench.store.submit(lambda tx: tx.execute("SELECT count(*) FROM invoices").fetchone()[0]))
        return False

    def pages() -> Iterator[list[NodeInvoice]]:
        yield [listed(1)]
        assert others[0].result(DEADLINE_S) == 1
        bench.near = lambda: True
        yield [listed(2)]

    bench.near = near
    bench.walk(pages())

    assert [row.index for row in bench.rows()] == [1, 2]


def test_what_is_written_does_not_wait_for_a_node_that_is_slow(bench: Bench) -> None:
    """Nor for one that never answers, which whoever asks it without the writer gives up."""
    bench.near = lambda: False
    seen: list[int] = []

    def pages() -> Iterator[list[NodeInvoice]]:
        for index in (1, 2, 3):
            seen.append(len(bench.rows()))
            yield [listed(index)]

    bench.walk(pages())

    assert seen == [0, 1, 2]
    assert len(bench.rows()) == 3


def test_events_are_told_when_all_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with each commit, and on disk with the rows: a long walk is not slowed down by those who are told."""
    monkeypatch.setattr(listing, "PAGES_AT_A_TIME", 1)
    levels = commit_levels(bench.store)
    told: list[bool] = []

    def pages() -> Iterator[list[NodeInvoice]]:
        for index in (1, 2, 3):
            yield [listed(index)]
            told.append(bench.told.is_set())

    bench.walk(pages())

    assert (told, bench.told.is_set()) == ([False] * 3, True)
    assert levels == [2, 2, 2]


def test_events_are_written_with_their_page(bench: Bench) -> None:
    """Not those of a whole commit at its end, which everyone who waits for the writer would wait for."""
    written: list[int] = []

    def pages() -> Iterator[list[NodeInvoice]]:
        for index in (1, 2, 3):
            written.append(bench.store._sidecar.writer.execute("SELECT count(*) FROM events").fetchone()[0])
            yield [listed(index)]

    bench.walk(pages())

    assert written == [0, 1, 2]


@pytest.mark.parametrize(("together", "written"), [(1, 3), (2, 2), (9, 0)])
def test_events_of_a_walk_that_was_cut_off_are_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, together: int, written: int
) -> None:
    """Those of every commit; what was not committed is there for the next run."""
    monkeypatch.setattr(listing, "PAGES_AT_A_TIME", together)

    def pages() -> Iterator[list[NodeInvoice]]:
        for index in (1, 2, 3):
            yield [listed(index)]
        raise CutOff

    with pytest.raises(CutOff):
        bench.walk(pages())

    assert bench.told.is_set() is (written > 0)
    assert len(bench.rows()) == bench.store.read(outbox.event_count) == written


def test_walk_that_begins_behind_its_end_asks_nothing(bench: Bench) -> None:
    """The node has nothing new: it is not even called."""
    bench.listing._sources.node.invoice_walk = None  # type: ignore[method-assign]

    assert list(bench.listing.judge("created", 5, 4)) == []
