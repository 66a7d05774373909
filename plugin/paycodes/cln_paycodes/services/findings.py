"""The findings of one run: each slot judged, counted, and carried out, each finding with its event for itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from .. import crash
from ..core.audit import NodeTally
from ..core.found import Columns, by_code, indexes_of, paid_of
from ..core.labels import Slot
from ..core.reconciliation import NO_EVIDENCE, Evidence, Finding, FindingKind, judge
from ..core.records import Invoice, NodeInvoice
from ..core.report import Report
from ..core.states import IllegalMove
from ..errors import NodeRefused
from ..node.port import Node
from ..store import cursors
from ..store.store import Store
from ..store.writer import Rejected, Transaction
from .books import Books, Repair
from .endpoints import Endpoints
from .issuing import IndexTaken, Issuing
from .offers import Offers
from .payments import Payments
from .registry import Registry

#: Findings that are written at a time, unless others wait for the writer.
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
        #: events were made that nobody was told of yet
        self._untold = False
        #: rows that the node is to list (again), and why
        self._unissued: list[tuple[Invoice, FindingKind]] = []

    def judge_slot(
        self,
        slot: Slot,
        row: Invoice | None,
        fact: NodeInvoice | None,
        evidence: Evidence = NO_EVIDENCE,
        *,
        paged: bool = False,
    ) -> Repair | None:
        """Count what is found out about one slot; what is to be written because of it, if anything.

        `paged`: the fact is from a page of the list, and may be older than the row. If they contradict each other, the
        node is asked again.
        """
        payment_hash = row.payment_hash if row is not None else self._books.payment_hash(slot)
        if fact is not None and fact.payment_hash == payment_hash:
            self.tally(slot.paycode_id).meet(slot.index, fact.status, fact.received_msat)
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
        if paged and row is not None and finding.kind is FindingKind.CONFLICT:
            self.look(slot)
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

    def look(self, slot: Slot) -> bool:
        """Ask the node for one slot, and judge what it says; False when it does not have that one."""
        fact = self._sources.node.invoice_by_label(slot.label)
        if fact is None:
            return False
        repair = self.judge_slot(slot, self._books.by_slot(slot), fact)
        if repair is not None:
            # For itself, also one to take over: a reserved row may have to give way to it.
            self._unwritten.append(repair)
            self._write_enough()
        return True

    def tally(self, paycode_id: str) -> NodeTally:
        """What the node's list showed of one code."""
        tally = self.tallies.get(paycode_id)
        if tally is None:
            tally = self.tallies[paycode_id] = NodeTally()
        return tally

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
        """Have findings written, each on its own; many pages share a commit."""
        self._unwritten += repairs
        self._write_enough()

    def adopted(self, rows: list[Columns], *, events: int) -> None:
        """Count rows that were taken over, and the events that came with them."""
        for paycode_id, of_code in by_code(rows).items():
            self.tally(paycode_id).meet_all(indexes_of(of_code), paid_of(of_code))
        self.report.adopted(len(rows))
        self.report.events += events
        self._untold |= events > 0

    def _write_enough(self) -> None:
        if len(self._unwritten) >= BATCH:
            self._write_all()

    def _write_all(self) -> None:
        """Returns when it is written."""
        left, self._unwritten = self._unwritten, []
        while left:
            events, left = self._store.write(partial(self._write, repairs=left))
            self.report.events += events
            crash.point("reconcile:written")

    def _write(self, tx: Transaction, repairs: list[Repair]) -> tuple[int, list[Repair]]:
        """As many as others who wait for the writer let through; how many events that made, and what is left."""
        events = 0
        for done, repair in enumerate(repairs, 1):
            events += self._carry_out(tx, repair)
            if tx.is_awaited():
                return events, repairs[done:]
        return events, []

    def _carry_out(self, tx: Transaction, repair: Repair) -> int:
        """How many events that made."""
        finding = repair.finding
        if finding.kind is FindingKind.CONFLICT:
            cursors.put_fact(tx, CONFLICT + finding.slot.label, finding.detail)
            return 0
        try:
            with tx.part():
                return int(self._books.carry_out(tx, repair))
        except (IllegalMove, Rejected, LookupError) as e:
            self.report.not_recorded(finding, str(e))
            cursors.put_fact(tx, CONFLICT + finding.slot.label, self.report.conflicts[finding.slot])
            return 0

    def flush(self) -> None:
        """Write what was found, and have it told: only now, so that this does not slow down a walk."""
        self._write_all()
        if self._untold:
            self._untold = False
            self._books.tell()

    def __enter__(self) -> Findings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """What a run has made is told though it was cut off."""
        if self._untold:
            self._books.tell()
