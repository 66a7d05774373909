"""The findings of one run: each slot judged, counted, and carried out, each finding with its event for itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from .. import crash
from ..core.audit import NodeTally
from ..core.labels import Slot
from ..core.reconciliation import NO_EVIDENCE, Evidence, Finding, FindingKind, judge
from ..core.records import Invoice, NodeInvoice
from ..core.report import Report
from ..core.states import IllegalMove
from ..errors import NodeRefused
from ..node.port import Node
from ..store import cursors
from ..store.found_invoices import Found
from ..store.store import Store
from ..store.writer import Rejected, Transaction
from .books import Books, Repair
from .endpoints import Endpoints
from .issuing import IndexTaken, Issuing
from .offers import Offers
from .payments import Payments
from .registry import Registry

#: Findings that are written at a time. Each batch of new rows touches nearly every page of the index of hashes, so few
#: large ones are quicker; this many hold up other writers for 50 ms.
BATCH = 4000

#: Calls under way at the same time when the node is asked to list rows again.
ISSUED_TOGETHER = 16

#: Rows that are gathered before it is asked.
ISSUED_BATCH = 256

#: Facts of this name and a label: what contradicted, to be looked at again by the next run.
CONFLICT = "conflict/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What every run works with."""

    store: Store
    node: Node
    registry: Registry
    endpoints: Endpoints
    books: Books
    issuing: Issuing
    payments: Payments
    offers: Offers
    clock: Callable[[], int]
    #: raises when the plugin is stopping
    check: Callable[[], None]


class Findings:
    def __init__(self, sources: Sources, report: Report, *, dry_run: bool) -> None:
        self._sources = sources
        self._store = sources.store
        self._books = sources.books
        self.dry_run = dry_run
        self.report = report
        #: what the node's list showed, by paycode_id
        self.tallies: dict[str, NodeTally] = {}
        #: slots with a finding already: in a dry run the created and the updated walk find the same one twice
        self._found: set[Slot] = set()
        self._unwritten: list[Repair] = []
        #: those of them that have no row, as rows
        self._new: list[Found] = []
        self._writing: Future[int] | None = None
        #: rows that the node is to list (again), and why
        self._unissued: list[tuple[Invoice, FindingKind]] = []

    def judge_slot(
        self,
        slot: Slot,
        row: Invoice | None,
        fact: NodeInvoice | None,
        evidence: Evidence = NO_EVIDENCE,
        *,
        derived: str | None = None,
    ) -> Repair | None:
        """Count what is found out about one slot; what is to be written because of it, if anything.

        `derived` is the slot's hash, where it is known already.
        """
        payment_hash = row.payment_hash if row is not None else derived or self._books.payment_hash(slot)
        if fact is not None and fact.payment_hash == payment_hash:
            tally = self.tallies.get(slot.paycode_id)
            if tally is None:
                tally = self.tallies[slot.paycode_id] = NodeTally()
            tally.meet(slot.index, fact)
        finding = judge(
            slot,
            row,
            fact,
            payment_hash=payment_hash,
            now=self._sources.clock(),
            intent_fresh=self._books.intent_fresh(slot),
            evidence=evidence,
        )
        if finding is None or self._sources.issuing.is_under_way(slot):
            return None
        if self.dry_run:
            self._note_dry(finding, row, fact)
            return None
        self.report.found(finding)
        if finding.kind is FindingKind.CONFLICT:
            return Repair(finding=finding, fact=fact, payment_hash=payment_hash)
        if finding.kind in (FindingKind.REISSUED, FindingKind.MISSING):
            assert row is not None
            self._unissued.append((row, finding.kind))
            if len(self._unissued) >= ISSUED_BATCH:
                self.issue_again()
            return None
        return Repair(finding=finding, fact=fact, payment_hash=payment_hash, evidence=evidence)

    def _note_dry(self, finding: Finding, row: Invoice | None, fact: NodeInvoice | None) -> None:
        if finding.slot in self._found:
            return
        self._found.add(finding.slot)
        self.report.found(finding)
        if finding.kind is FindingKind.MISSING:
            self.report.counts["reissued"] += 1
        payment_hash = row.payment_hash if row is not None else fact.payment_hash if fact is not None else ""
        self.report.events += self._books.would_tell(finding.to, payment_hash)

    def issue_again(self) -> None:
        """Have the node list the rows that it is found to lack, many at a time: it stores them together."""
        unissued, self._unissued = self._unissued, []
        if not unissued:
            return
        with ThreadPoolExecutor(ISSUED_TOGETHER, thread_name_prefix="paycodes-reissue") as pool:
            outcomes = pool.map(self._issue_again, *zip(*unissued, strict=True))
            for (row, kind), outcome in zip(unissued, outcomes, strict=True):
                if isinstance(outcome, IndexTaken):
                    self.report.counts["voided"] += 1  # its preimage is under another label: it is void, or as found
                elif isinstance(outcome, NodeRefused):
                    self.report.problems.append(f"{row.label} could not be issued again: {outcome}")
                elif kind is FindingKind.MISSING:
                    self.report.counts["reissued"] += 1

    def _issue_again(self, row: Invoice, kind: FindingKind) -> IndexTaken | NodeRefused | None:
        """One row; identical calls are harmless: what is cut off is repeated."""
        self._sources.check()
        issuing = self._sources.issuing
        try:
            if kind is FindingKind.REISSUED:
                issuing.drive(row)
            else:
                issuing.list_again(row)
                crash.point("reconcile:reissued")
                self._books.settle_with_node(row.slot)
        except (IndexTaken, NodeRefused) as e:
            return e
        return None

    def record(self, repairs: list[Repair]) -> None:
        """Have findings written, each on its own, while the next page is judged; many pages share a commit."""
        self._unwritten += repairs
        self._new += [
            self._books.found(repair.finding.slot, repair.fact)
            for repair in repairs
            if repair.finding.kind is FindingKind.ADOPTED and repair.fact is not None
        ]
        if len(self._unwritten) >= BATCH:
            self._submit()

    def _submit(self) -> None:
        self._await_written()
        repairs, self._unwritten = self._unwritten, []
        new, self._new = self._new, []
        if repairs:
            self._writing = self._store.submit(partial(self._write, repairs=repairs, new=new))

    def _write(self, tx: Transaction, repairs: list[Repair], new: list[Found]) -> int:
        made, left = self._adopt_together(tx, repairs, new)
        for repair in left:
            if repair.finding.kind is FindingKind.CONFLICT:
                cursors.put_fact(tx, CONFLICT + repair.finding.slot.label, repair.finding.detail)
                continue
            try:
                with tx.part():
                    made += self._books.carry_out(tx, repair)
            except (IllegalMove, Rejected, LookupError) as e:
                slot, detail = repair.finding.slot, f"{repair.finding.kind} could not be recorded: {e}"
                self.report.conflicts[slot] = detail
                cursors.put_fact(tx, CONFLICT + slot.label, detail)
        return made

    def _adopt_together(self, tx: Transaction, repairs: list[Repair], new: list[Found]) -> tuple[int, list[Repair]]:
        """Take over at once all that has no row, the most there is to do when a sidecar was lost; how many events that
        made, and what is left to be done one by one: everything, when a row has got in between.
        """
        try:
            with tx.part():
                made = self._books.adopt(tx, new)
        except Rejected:
            return 0, repairs
        return made, [repair for repair in repairs if repair.finding.kind is not FindingKind.ADOPTED]

    def flush(self) -> None:
        """Wait until what was found is on disk."""
        self._submit()
        self._await_written()

    def _await_written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            self.report.events += writing.result()
            crash.point("reconcile:written")
