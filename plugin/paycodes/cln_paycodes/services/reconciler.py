"""`reconcile`: prove the books against the node, and repair what differs.

One run after another, never two at a time:

1. definitions    take over what only the datastore has, write there what only the sidecar has
2. invoices       walk the node's list: all of it (`full`), or what was created and updated since the cursors
3. open rows      those that the walk cannot show: reserved, paying, past their time, and (full) gone from the node
4. payments       outgoing ones that reached their end since the cursor

The decision on each invoice is `core/reconciliation.py`; a cursor is stored only after everything before it is on
disk, so a run that is cut off anywhere is simply continued by the next one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from ..core.labels import Slot, parse_label
from ..core.reconciliation import Finding, FindingKind, judge
from ..core.records import Invoice, NodeInvoice
from ..core.report import Report
from ..core.states import InvoiceStatus
from ..errors import NodeRefused
from ..node.port import Node
from ..store import cursors, invoices, paycodes
from ..store.store import Sql, Store
from .books import Books
from .endpoints import Endpoints
from .issuing import Issuing
from .payments import Payments
from .registry import Registry, rebuild_fact

_S = InvoiceStatus

#: Invoices in one page of the node's list: long enough to be fast, short enough that the node answers others between.
PAGE = 1000

#: Called with how much is done of how much.
Progress = Callable[[int, int], None]

#: The datastore's record of where this node's outgoing payments stood when the plugin was first started: what was
#: before is nobody's news.
ORIGIN_KEY = ("paycodes", "origin")


class Reconciler:
    def __init__(
        self,
        store: Store,
        node: Node,
        registry: Registry,
        registered: Endpoints,
        books: Books,
        issuing: Issuing,
        payments: Payments,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._node = node
        self._registry = registry
        self._endpoints = registered
        self._books = books
        self._issuing = issuing
        self._payments = payments
        self._clock = clock
        self._running = threading.Lock()
        self.last: Report | None = None
        self.last_at: int | None = None

    def run(self, *, full: bool = False, dry_run: bool = False, progress: Progress | None = None) -> Report:
        """One run; waits for one that is under way. Raises NodeUnknown, NodeRefused or SidecarUnavailable when cut
        off.
        """
        with self._running:
            started = time.monotonic()
            report = _Run(self, full=full, dry_run=dry_run, progress=progress or _silent).carry_out()
            report.duration_ms = int((time.monotonic() - started) * 1000)
            if not dry_run:
                self.last, self.last_at = report, self._clock()
            return report


def _silent(_done: int, _total: int) -> None:
    """No one watches."""


class _Run:
    """The state of one run."""

    def __init__(self, owner: Reconciler, *, full: bool, dry_run: bool, progress: Progress) -> None:
        self._store = owner._store
        self._node = owner._node
        self._registry = owner._registry
        self._endpoints = owner._endpoints
        self._books = owner._books
        self._issuing = owner._issuing
        self._payments = owner._payments
        self._clock = owner._clock
        self._full = full
        self._dry_run = dry_run
        self._progress = progress
        self._report = Report(full=full, dry_run=dry_run)
        #: slots that the node's list showed; only a full run fills it
        self._seen: set[Slot] = set()
        #: slots with a finding already: the created and the updated walk may meet the same invoice
        self._found: set[Slot] = set()
        self._futures: list[Future[bool]] = []

    def carry_out(self) -> Report:
        self._definitions()
        last = {
            name: self._node.last_index(subsystem="invoices", index=name) for name in ("created", "updated", "deleted")
        }
        before = self._store.read(cursors.every)
        known = [before.get(f"invoices.{name}") for name in last]
        if None in known or any(last[name] < before[f"invoices.{name}"] for name in last):
            self._full = self._report.full = True  # a new sidecar, or a node restored from an older backup
        if self._full:
            self._walk("created", 1, last["created"])
        else:
            self._walk("created", before["invoices.created"] + 1, last["created"])
            self._walk("updated", before["invoices.updated"] + 1, last["updated"])
        self._open_rows(deleted=self._full or last["deleted"] > before["invoices.deleted"])
        self._keep_cursors({f"invoices.{name}": value for name, value in last.items()})
        if self._full:
            self._settle_next_indexes(nothing_deleted=last["deleted"] == 0)
        self._outgoing(before.get("sendpays.updated"))
        self._report.cursors = self._store.read(cursors.every)
        return self._report

    # --- 1. definitions ---

    def _definitions(self) -> None:
        if self._dry_run:
            self._report.problems += self._registry.peek()
            return
        self._report.problems += self._registry.adopt()
        self._report.problems += self._endpoints.adopt()
        left = self._registry.mirror_pending() + self._endpoints.mirror_pending()
        if left:
            self._report.problems.append(f"{left} definitions could not be written to the node's datastore")

    # --- 2. invoices ---

    def _walk(self, index: str, start: int, last: int) -> None:
        """Judge the node's invoices by one of its indexes, page by page, keeping the cursor as it goes."""
        while start <= last:
            page = self._node.invoices(index=index, start=start, limit=PAGE)
            self._judge_page(page)
            reached = [entry.created_index if index == "created" else entry.updated_index for entry in page]
            highest = max((value for value in reached if value is not None), default=last)
            if not self._full:
                self._keep_cursors({f"invoices.{index}": min(highest, last)})
            self._progress(min(highest, last), last)
            if len(page) < PAGE:
                return
            start = highest + 1

    def _judge_page(self, page: list[NodeInvoice]) -> None:
        facts = {slot: entry for entry in page if (slot := parse_label(entry.label)) is not None}
        self._report.checked += len(facts)
        if self._full:
            self._seen.update(facts)
        rows = self._store.read(lambda sql: invoices.by_slots(sql, facts))
        for slot, fact in facts.items():
            row = rows.get(slot)
            payment_hash = row.payment_hash if row is not None else self._books.payment_hash(slot)
            self._handle(judge(slot, row, fact, payment_hash=payment_hash, now=self._clock()), fact)
        self._flush()

    def _handle(self, finding: Finding | None, fact: NodeInvoice | None) -> None:
        if finding is None or finding.slot in self._found or self._issuing.is_under_way(finding.slot):
            return
        self._found.add(finding.slot)
        self._report.found(finding)
        if self._dry_run:
            self._report.events += finding.to in (_S.PAID, _S.EXPIRED)
        elif finding.kind in (FindingKind.REISSUED, FindingKind.MISSING):
            self._issue_again(finding)
        elif finding.to is not None:
            self._futures.append(self._books.apply(finding, fact))

    def _issue_again(self, finding: Finding) -> None:
        row = self._books.by_slot(finding.slot)
        assert row is not None
        try:
            if finding.kind is FindingKind.REISSUED:
                self._issuing.drive(row)
            else:
                self._issuing.call_node(row, expiry_s=max(1, row.expires_at - self._clock()))
                self._report.counts["reissued"] += 1
        except NodeRefused as e:
            self._report.problems.append(f"{finding.slot.label} could not be issued again: {e}")

    def _flush(self) -> None:
        """Wait until what was found is on disk."""
        futures, self._futures = self._futures, []
        for future in futures:
            self._report.events += future.result()

    # --- 3. open rows ---

    def _open_rows(self, *, deleted: bool) -> None:
        """Ask the node about each row that the walk cannot have shown; with `deleted`, all that it should have."""
        now = self._clock()
        for status, until in (
            (_S.RESERVED, None),
            (_S.PAYING, None),
            (_S.ISSUED, None if deleted else now),
        ):
            rows = self._store.read(partial(invoices.in_state, status=status, expired_at=until))
            for row in rows:
                if row.slot not in self._seen and not self._issuing.is_under_way(row.slot):
                    self._ask(row)
        self._flush()

    def _ask(self, row: Invoice) -> None:
        fact = self._node.invoice_by_label(row.label)
        self._report.checked += 1
        current = self._books.by_slot(row.slot)
        self._handle(judge(row.slot, current, fact, payment_hash=row.payment_hash, now=self._clock()), fact)

    def _settle_next_indexes(self, *, nothing_deleted: bool) -> None:
        """Codes that were adopted go on right behind their last invoice, if the node has never forgotten one."""
        if self._dry_run:
            return
        for paycode in self._store.read(paycodes.every):
            job = partial(_settle_next_index, paycode_id=paycode.paycode_id, exact=nothing_deleted)
            if self._store.read(partial(cursors.fact, name=rebuild_fact(paycode.paycode_id))) is not None:
                self._store.write(job)

    # --- 4. outgoing payments ---

    def _outgoing(self, cursor: int | None) -> None:
        last = self._node.last_index(subsystem="sendpays", index="updated")
        if cursor is None or cursor > last or self._full:
            cursor = self._origin(last)
        start = cursor + 1
        while start <= last:
            page = self._node.payments(index="updated", start=start, limit=PAGE)
            self._report.checked += len(page)
            for part in page:
                if not self._payment(part.payment_hash):
                    return  # it may still be tried again: the next run begins here
                if part.updated_index is not None:
                    self._keep_cursors({"sendpays.updated": part.updated_index})
            if len(page) < PAGE:
                break
            start = max(part.updated_index or 0 for part in page) + 1
        self._keep_cursors({"sendpays.updated": last})

    def _payment(self, payment_hash: str) -> bool:
        made, quiet = self._payments.look_outgoing(payment_hash, dry_run=self._dry_run)
        self._report.events += made
        return quiet

    def _origin(self, last: int) -> int:
        """Where outgoing payments stood when the plugin was first started on this node."""
        for datum in self._node.read_datastore(*ORIGIN_KEY):
            return int(json.loads(datum.text or "{}").get("sendpays_updated", 0))
        if not self._dry_run:
            self._node.write_datastore(ORIGIN_KEY, json.dumps({"v": 1, "sendpays_updated": last}))
        return last

    # --- cursors ---

    def _keep_cursors(self, values: dict[str, int]) -> None:
        if not self._dry_run:
            self._store.submit(partial(_put_cursors, values=values)).result()


def _put_cursors(tx: Sql, *, values: dict[str, int]) -> None:
    for name, value in values.items():
        cursors.put(tx, name, value)


def _settle_next_index(tx: Sql, *, paycode_id: str, exact: bool) -> None:
    paycode = paycodes.by_id(tx, paycode_id)
    assert paycode is not None
    if exact:
        behind_last = invoices.last_index(tx, paycode_id) + 1
        if behind_last <= paycode.reserved_index:
            paycodes.set_next_index(tx, paycode_id, behind_last)
    cursors.drop_fact(tx, rebuild_fact(paycode_id))
