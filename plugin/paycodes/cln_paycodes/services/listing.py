"""The node's list of invoices as a run meets it: page by page, or as another process hands it over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import TracebackType

from ..core.found import Columns, Found, by_code, indexes_of, slot_of
from ..core.labels import Slot, parse_label
from ..core.records import NodeInvoice
from ..core.report import Report
from ..core.seen import UnbrokenRange
from ..store import found_invoices, invoices
from .continuity import Anchors
from .findings import Findings, Sources
from .prover import Prover
from .proving import Proven
from .walking import PAGE, pages

#: Entries of the node's list that are still to come when new ones are found, above which a process that proves them
#: pays for its start.
PROVE_BESIDE = 3000


class Listing:
    """What was met of the list, and the process that reads it beside the run: a context that ends that one."""

    def __init__(
        self, sources: Sources, report: Report, findings: Findings, *, after: dict[str, int], fresh: bool
    ) -> None:
        """`after` are the indexes, by name, up to which earlier runs have looked; `fresh`: there was none."""
        self._sources = sources
        self._store = sources.store
        self._node = sources.node
        self._report = report
        self._findings = findings
        self._prover = Prover()
        self._fresh = fresh
        self.created = UnbrokenRange(after["created"])
        self.updated = UnbrokenRange(after["updated"])
        self.anchors = Anchors()

    def __enter__(self) -> Listing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._prover.stop()

    def judge(self, index: str, start: int, last: int) -> Iterator[int]:
        """Judge what the node lists by one of its indexes, some at a time; how far it is."""
        reached = start - 1
        if self._fresh:
            self._start_prover(left=last - reached)
        while reached < last:
            walk = self._proven if self._is_proven_beside(left=last - reached) else self._paged
            for reached in walk(index, reached + 1, last):  # noqa: B020 (it goes on where the one before ended)
                yield reached

    def _start_prover(self, *, left: int) -> None:
        if left > PROVE_BESIDE and not self._prover.is_started:
            self._prover.start()

    def _is_proven_beside(self, *, left: int) -> bool:
        return left > PROVE_BESIDE and self._prover.is_ready()

    def _paged(self, index: str, start: int, last: int) -> Iterator[int]:
        """Each page in turn, until another process can do it."""
        for page, reached in pages(self._node, index=index, start=start, last=last, check=self._sources.check):
            new = self._judge_page(page)
            yield reached
            if new > PAGE // 2:
                self._start_prover(left=last - reached)
            if self._is_proven_beside(left=last - reached):
                return

    def _judge_page(self, page: list[NodeInvoice]) -> int:
        """How many of its invoices were not in the books."""
        facts: dict[Slot, NodeInvoice] = {}
        for entry in page:
            created, updated = entry.created_index, entry.updated_index or 0
            self.created.meet(created)
            self.updated.meet(updated)
            self.anchors.meet(entry.payment_hash, created=created, updated=updated)
            slot = parse_label(entry.label)
            if slot is not None:
                facts[slot] = entry
        self._report.checked += len(facts)
        self._offer_payments(page)
        return self._judge_facts(facts, {})

    def _judge_facts(self, facts: dict[Slot, NodeInvoice], derived: dict[Slot, str]) -> int:
        rows = self._store.read(partial(invoices.by_slots, slots=facts))
        found = (
            self._findings.judge_slot(slot, rows.get(slot), fact, derived=derived.get(slot))
            for slot, fact in facts.items()
        )
        self._findings.record([repair for repair in found if repair is not None])
        return len(facts) - len(rows)

    def _offer_payments(self, page: list[NodeInvoice]) -> None:
        """Payments by offers have no slot: what the node says of them is simply written down."""
        new = self._sources.offers.take(page, dry_run=self._findings.dry_run)
        self._report.counts["adopted"] += new
        self._report.events += new

    # --- beside ---

    def _proven(self, index: str, start: int, last: int) -> Iterator[int]:
        """What another process hands over, until it is through or ends before."""
        registry = self._sources.registry
        roots = [registry.root(paycode) for paycode in registry.every()]
        walk = self._prover.walk(
            self._node.socket_path, self._sources.books.node_id, roots, index=index, start=start, last=last
        )
        for proven in walk:
            self._sources.check()
            self._take(proven)
            yield proven.reached

    def _take(self, proven: Proven) -> None:
        if proven.others:
            self._judge_page(proven.others)
        rows = proven.rows
        if not rows:
            return
        self._meet(proven)
        self._report.checked += len(rows)
        if self._findings.dry_run or self._are_known(rows):
            found = list(map(Found._make, rows))
            self._judge_facts({row.slot: row.fact for row in found}, {row.slot: row.payment_hash for row in found})
        else:
            self._findings.adopt(rows, proven.events)

    def _meet(self, proven: Proven) -> None:
        self.created.meet_all(proven.created)
        self.updated.meet_all([index for index in proven.updated if index])
        for indexes in (proven.created, proven.updated):
            at = indexes.index(max(indexes))
            last = Found._make(proven.rows[at])
            self.anchors.meet(last.payment_hash, created=proven.created[at], updated=proven.updated[at])

    def _are_known(self, rows: list[Columns]) -> bool:
        """Some of them may be in the books already, or on their way there."""
        indexes = {paycode_id: indexes_of(of_code) for paycode_id, of_code in by_code(rows).items()}
        return self._sources.issuing.is_any_under_way(map(slot_of, rows)) or self._store.read(
            partial(found_invoices.among, indexes=indexes)
        )
