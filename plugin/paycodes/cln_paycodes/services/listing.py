"""The node's list of invoices as a run meets it, page by page."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from functools import partial

from .. import crash
from ..core.found import Columns, derived, prove
from ..core.labels import Slot, parse_label
from ..core.records import NodeInvoice
from ..core.report import Report
from ..core.seen import UnbrokenRange
from ..node.port import InvoicePages
from ..store import found_invoices, invoices
from ..store.writer import Rejected, Transaction
from ..yielding import yielding
from .continuity import Anchors
from .findings import Findings, Sources

#: Invoices in one page. The node answers nobody else while it writes one: this many take it a third of a millisecond.
#: Larger ones make a run hardly quicker, as the next one is on its way while this one is worked on.
PAGE = 16

#: Of a page, those that have a slot.
Facts = dict[Slot, NodeInvoice]

#: Each takes 15 us, most of it on the curve.
_PROVED_AT_A_TIME = 8

#: Pages that share a commit: each one touches nearly every page of the index of hashes, so few large ones are quicker.
PAGES_AT_A_TIME = 250

#: Seconds between two looks whether others wait for the writer, while the node makes a page.
_LOOK_S = 0.005

#: Looks after which what is written so far is committed: a node that is slow keeps nobody from the rows, and one that
#: never answers is given up by who waits for it elsewhere.
_LOOKS = 200


class Listing:
    """What was met of the list."""

    def __init__(self, sources: Sources, report: Report, findings: Findings, *, after: dict[str, int]) -> None:
        """`after` are the indexes, by name, up to which earlier runs have looked."""
        self._sources = sources
        self._store = sources.store
        self._report = report
        self._findings = findings
        self.created = UnbrokenRange(after["created"])
        self.updated = UnbrokenRange(after["updated"])
        self.anchors = Anchors()
        #: with an offer, met and not looked at
        self._offered: list[NodeInvoice] = []
        #: payments by offers: a dry run, which writes none of them down, meets those behind both indexes twice
        self._by_offer: set[str] = set()

    def judge(self, index: str, start: int, last: int) -> Iterator[int]:
        """Judge what the node lists by one of its indexes, some at a time; how far it is."""
        if start > last:
            return
        with self._sources.node.invoice_walk(index=index, start=start, last=last, limit=PAGE) as walk:
            for page in walk:
                facts = self._meet(page)
                if facts and not self._findings.dry_run and not self._are_known(facts):
                    facts = self._take_over(facts, walk)
                self._write_offer_payments()
                if facts:
                    self._judge_facts(facts)
                yield walk.reached

    def _meet(self, page: list[NodeInvoice]) -> Facts:
        """Note what a page shows; those of its invoices that have a slot."""
        self._sources.check()
        for entry in page:
            created, updated = entry.created_index, entry.updated_index or 0
            self.created.meet(created)
            self.updated.meet(updated)
            self.anchors.meet(entry.payment_hash, created=created, updated=updated)
        self._offered += [entry for entry in page if entry.offer_id is not None]
        facts = {slot: entry for entry in page if (slot := parse_label(entry.label)) is not None}
        self._report.checked += len(facts)
        return facts

    def _write_offer_payments(self) -> None:
        """Payments by offers have no slot: what the node says of them is simply written down."""
        offered, self._offered = self._offered, []
        if self._findings.dry_run:
            offered = [entry for entry in offered if entry.payment_hash not in self._by_offer]
            self._by_offer.update(entry.payment_hash for entry in offered if entry.status == "paid")
        new = self._sources.offers.take(offered, dry_run=self._findings.dry_run)
        self._report.counts["adopted"] += new
        self._report.events += new

    def _are_known(self, slots: Collection[Slot]) -> bool:
        """Some of them may be in the books already."""
        return self._store.read(partial(found_invoices.among, slots=slots))

    def _take_over(self, facts: Facts, walk: InvoicePages) -> Facts:
        """Take over, from a page and those that follow it, what the books lack and whose hash is the one that its code
        derives; what is still to be judged.
        """
        met: Facts = {}
        try:
            left = self._store.write(partial(self._write_pages, facts=facts, walk=walk, met=met))
        except Rejected:
            return met  # one of them has got a row meanwhile, or cannot have one
        crash.point("reconcile:written")
        return left

    def _write_pages(self, tx: Transaction, *, facts: Facts, walk: InvoicePages, met: Facts) -> Facts:
        """Each is written while the node makes the next one, and many share a commit, unless others wait for it."""
        left: Facts = {}
        new: list[Columns] = []
        events = 0
        for pages in itertools.count(1):
            met |= facts
            rows, others = self._proved(facts)
            if rows:
                events += self._sources.books.adopt(tx, rows)
            new += rows
            left |= others
            page = None if pages == PAGES_AT_A_TIME else _page_unless_awaited(walk, tx)
            if page is None:
                break
            facts = self._meet(page)
        found_invoices.count(tx, new)
        self._findings.adopted(new, events=events)
        return left

    def _proved(self, facts: Facts) -> tuple[list[Columns], Facts]:
        """The rows of those whose hash is the one that their code derives; the others."""
        if self._sources.issuing.is_any_under_way(facts):
            return [], facts
        now, hashes = self._sources.clock(), derived(facts, self._sources.registry.root_by_id)
        rows, others = [], {}
        for (slot, fact), payment_hash in yielding(zip(facts.items(), hashes, strict=True), every=_PROVED_AT_A_TIME):
            row = prove(slot, fact, payment_hash, now=now)
            if row is None:
                others[slot] = fact
            else:
                rows.append(row)
        return rows, others

    def _judge_facts(self, facts: Facts) -> None:
        rows = self._store.read(partial(invoices.by_slots, slots=facts))
        found = (self._findings.judge_slot(slot, rows.get(slot), fact, paged=True) for slot, fact in facts.items())
        self._findings.record([repair for repair in found if repair is not None])


def _page_unless_awaited(walk: InvoicePages, tx: Transaction) -> list[NodeInvoice] | None:
    """The next page, if it is there soon; None when others wait for the writer, or at the end."""
    for _ in range(_LOOKS):
        is_near = walk.is_near(_LOOK_S)
        if tx.is_awaited():
            return None
        if is_near:
            return next(walk, None)
    return None
