"""The node's list of invoices as a run meets it, page by page."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial

from ..core.found import prove
from ..core.labels import Slot, parse_label
from ..core.records import NodeInvoice
from ..core.report import Report
from ..core.seen import UnbrokenRange
from ..store import found_invoices, invoices
from ..yielding import yielding
from .continuity import Anchors
from .findings import Findings, Sources

#: Invoices in one page. The node answers nobody else while it writes one: this many take it half a millisecond. Larger
#: ones make no run quicker, as the next one is on its way while this one is worked on.
PAGE = 25

#: Each takes 20 us, most of it on the curve.
_PROVED_AT_A_TIME = 8


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
        #: payments by offers: a dry run, which writes none of them down, meets those behind both indexes twice
        self._by_offer: set[str] = set()

    def judge(self, index: str, start: int, last: int) -> Iterator[int]:
        """Judge what the node lists by one of its indexes, some at a time; how far it is."""
        for page, reached in self._sources.node.invoice_pages(index=index, start=start, last=last, limit=PAGE):
            self._sources.check()
            self._judge_page(page)
            yield reached

    def _judge_page(self, page: list[NodeInvoice]) -> None:
        self._meet(page)
        self._offer_payments(page)
        facts = {slot: entry for entry in page if (slot := parse_label(entry.label)) is not None}
        self._report.checked += len(facts)
        if not self._findings.dry_run and not self._are_known(facts):
            facts = self._adopt(facts)
        if facts:
            self._judge_facts(facts)

    def _meet(self, page: list[NodeInvoice]) -> None:
        for entry in page:
            created, updated = entry.created_index, entry.updated_index or 0
            self.created.meet(created)
            self.updated.meet(updated)
            self.anchors.meet(entry.payment_hash, created=created, updated=updated)

    def _offer_payments(self, page: list[NodeInvoice]) -> None:
        """Payments by offers have no slot: what the node says of them is simply written down."""
        if self._findings.dry_run:
            page = [entry for entry in page if entry.offer_id is not None and entry.payment_hash not in self._by_offer]
            self._by_offer.update(entry.payment_hash for entry in page if entry.status == "paid")
        new = self._sources.offers.take(page, dry_run=self._findings.dry_run)
        self._report.counts["adopted"] += new
        self._report.events += new

    def _are_known(self, slots: Collection[Slot]) -> bool:
        """Some of them may be in the books already, or on their way there."""
        return self._sources.issuing.is_any_under_way(slots) or self._store.read(
            partial(found_invoices.among, slots=slots)
        )

    def _adopt(self, facts: dict[Slot, NodeInvoice]) -> dict[Slot, NodeInvoice]:
        """Take over those that the books lack and whose hash is the one that their code derives; the others."""
        root_of, now = self._sources.registry.root_by_id, self._sources.clock()
        rows, others = [], {}
        for slot, fact in yielding(facts.items(), every=_PROVED_AT_A_TIME):
            row = prove(slot, fact, root_of(slot.paycode_id), now=now)
            if row is None:
                others[slot] = fact
            else:
                rows.append(row)
        self._findings.adopt(rows)
        return others

    def _judge_facts(self, facts: dict[Slot, NodeInvoice]) -> None:
        rows = self._store.read(partial(invoices.by_slots, slots=facts))
        found = (self._findings.judge_slot(slot, rows.get(slot), fact, paged=True) for slot, fact in facts.items())
        self._findings.record([repair for repair in found if repair is not None])
