"""The node's list of invoices as a run meets it: page by page, each judged while the node writes the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple

from ..core.labels import Slot, parse_label
from ..core.records import Invoice, NodeInvoice
from ..core.report import Report
from ..core.seen import UnbrokenRange
from ..store import invoices
from .books import Repair
from .continuity import Anchors
from .deriving import Deriver
from .findings import Findings, Sources
from .walking import PAGE, pages

#: Entries of the node's list that are still to come when new ones are found, above which a process that derives their
#: hashes pays for its start.
DERIVE_BESIDE = 3000


class _Looked(NamedTuple):
    """A page of the node's list, to be judged."""

    facts: dict[Slot, NodeInvoice]
    rows: dict[Slot, Invoice]
    #: gives the hashes of slots without a row, as far as they were derived beside the walk
    derived: Callable[[], dict[Slot, str]]


class Listing:
    """What was met of the list, and the process that derives hashes for it: a context that ends that one."""

    def __init__(self, sources: Sources, report: Report, findings: Findings, *, after: dict[str, int]) -> None:
        """`after` are the indexes, by name, up to which earlier runs have looked."""
        self._sources = sources
        self._store = sources.store
        self._node = sources.node
        self._report = report
        self._findings = findings
        self._deriver = Deriver()
        self.created = UnbrokenRange(after["created"])
        self.updated = UnbrokenRange(after["updated"])
        self.anchors = Anchors()

    def __enter__(self) -> Listing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._deriver.stop()

    def judge(self, index: str, start: int, last: int) -> Iterator[int]:
        """Judge each page when the one behind it was looked at: what it needs is derived meanwhile; how far it is."""
        before: _Looked | None = None
        for page, reached in pages(self._node, index=index, start=start, last=last, check=self._sources.check):
            looked = self._look(page, left=last - reached)
            if before is not None:
                self._findings.record(self._judge(before))
            before = looked
            yield reached
        if before is not None:
            self._findings.record(self._judge(before))

    def _look(self, page: list[NodeInvoice], *, left: int) -> _Looked:
        """`left`: how many entries of the list may still come."""
        facts: dict[Slot, NodeInvoice] = {}
        for entry in page:
            self.created.meet(entry.created_index)
            self.updated.meet(entry.updated_index)
            self.anchors.meet(entry)
            slot = parse_label(entry.label)
            if slot is not None:
                facts[slot] = entry
        self._report.checked += len(facts)
        self._offer_payments(page)
        rows = self._store.read(lambda sql: invoices.by_slots(sql, facts))
        roots = [(slot, self._sources.registry.root_by_id(slot.paycode_id)) for slot in facts if slot not in rows]
        if left > DERIVE_BESIDE and len(roots) > PAGE // 2 and not self._deriver.is_started:
            self._deriver.start()
        derived = self._deriver.begin((slot, root) for slot, root in roots if root is not None)
        return _Looked(facts, rows, derived)

    def _judge(self, looked: _Looked) -> list[Repair]:
        derived = looked.derived()
        found = (
            self._findings.judge_slot(slot, looked.rows.get(slot), fact, derived=derived.get(slot))
            for slot, fact in looked.facts.items()
        )
        return [repair for repair in found if repair is not None]

    def _offer_payments(self, page: list[NodeInvoice]) -> None:
        """Payments by offers have no slot: what the node says of them is simply written down."""
        new = self._sources.offers.take(page, dry_run=self._findings.dry_run)
        self._report.counts["adopted"] += new
        self._report.events += new
