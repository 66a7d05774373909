"""One run of `reconcile`: gathers what `core/reconciliation.py` decides by, and carries out what it decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from .. import crash
from ..core.labels import Slot, parse_label
from ..core.outgoing import QUIET_S
from ..core.reconciliation import HIGHEST_INDEX, INTENT_STALE_S, NO_EVIDENCE
from ..core.report import MOST_LISTED, Report
from ..core.states import FINAL, InvoiceStatus
from ..store import cursors, invoices, outbox, paycodes
from ..store.store import Sql
from .actions import problems
from .adoption import rebuild_fact, settle_rebuilt
from .audit import audit
from .continuity import Anchors, Continuity
from .findings import CONFLICT, Findings, Sources
from .listing import PAGE, Listing
from .outgoing import Outgoing
from .witness import Witness

_S = InvoiceStatus

#: Open invoices up to which each is asked for by its label when something was deleted at the node; above, walking the
#: list from the oldest of them on is cheaper.
ASK_MOST = 200

#: Open rows that are read at a time.
SLICE = 1000

#: Rounds in which books and node, both in use, get to show the same sums.
AUDIT_ROUNDS = 5

#: Called with how much is done of how much.
Progress = Callable[[int, int], None]


class Run:
    """Its state, from the first call to the report."""

    def __init__(
        self,
        sources: Sources,
        *,
        full: bool,
        dry_run: bool,
        progress: Progress,
        definition_problems: list[str] | None,
    ) -> None:
        """`definition_problems` is None for the first run since the plugin was started."""
        self._sources = sources
        self._store = sources.store
        self._node = sources.node
        self._books = sources.books
        self._full = full
        self._dry_run = dry_run
        self._progress = progress
        self._first = definition_problems is None
        self.definition_problems = definition_problems or []
        self.again_in_s: float | None = None
        #: the node's indexes up to which this run has looked
        self.seen: dict[str, int] = {}
        self._report = Report(full=full, dry_run=dry_run)
        self._findings = Findings(sources, self._report, dry_run=dry_run)

    def carry_out(self) -> Report:
        self._before = self._store.read(cursors.every)
        self._kept_conflicts = self._store.read(partial(cursors.facts_below, prefix=CONFLICT))
        self._definitions()
        self._last = self._node_indexes()
        self._continuity = Continuity(self._store, self._node, first=self._first)
        state = self._continuity.state(self._before, self._last)
        self._rewound = state.rewound
        self._reached = {name: self._before.get(f"invoices.{name}", 0) for name in ("created", "updated")}
        self._everything = self._full or not state.certain
        self._report.full = self._everything
        self._listing = Listing(self._sources, self._report, self._findings, after=self._reached)
        with self._findings:
            self._invoices(fresh=state.fresh)
            self._open_rows()
            self._old_conflicts()
            self._keep_all_cursors()
            self._outgoing()
            if self._everything:
                self._finish_everything()
        self._report.problems += self.definition_problems + problems(self._store)
        self._report.cursors = self._store.read(cursors.every)
        return self._report

    def _node_indexes(self) -> dict[str, int]:
        return {
            name: self._node.last_index(subsystem="invoices", index=name) for name in ("created", "updated", "deleted")
        }

    # --- 1. definitions ---

    def _definitions(self) -> None:
        """Others cannot change the datastore unseen while the plugin runs: the first run reads it, and full ones."""
        registry, registered = self._sources.registry, self._sources.endpoints
        if self._dry_run:
            self.definition_problems = registry.peek()
            return
        if self._first or self._full:
            self.definition_problems = registry.adopt() + registered.adopt()
        self._report.problems += self._sources.offers.settle(learn=self._first or self._full)
        left = registry.mirror_pending() + registered.mirror_pending()
        if left:
            self._report.problems.append(f"{left} definitions could not be written to the node's datastore")
        crash.point("reconcile:definitions")

    # --- 2. invoices ---

    def _invoices(self, *, fresh: bool) -> None:
        if fresh:
            # Adopted codes go on behind all that may have been handed out: nobody needs to wait for the walk.
            self._settle_indexes(all_seen=True)
        if self._everything:
            self._walk("created", 1, self._last["created"])
        else:
            self._walk("created", self._reached["created"] + 1, self._last["created"])
        none_deleted = self._last["deleted"] == self._before.get("invoices.deleted")
        all_seen = none_deleted or self._listing.created.is_complete(self._last["created"])
        self._settle_indexes(all_seen=all_seen and not self._rewound)
        if self._everything:
            self._reached["updated"] = self._last["updated"]
        else:
            self._walk("updated", self._reached["updated"] + 1, self._last["updated"])

    def _settle_indexes(self, *, all_seen: bool) -> None:
        if not self._dry_run:
            self._sources.registry.settle_indexes(all_seen=all_seen)

    def _walk(self, index: str, start: int, last: int) -> None:
        """Judge the node's invoices by one of its indexes."""
        begun = start - 1
        for reached in self._listing.judge(index, start, last):
            if last - begun > PAGE:
                self._progress(reached - begun, last - begun)
        self._reached[index] = last  # behind the cursor, where the node is an older backup of itself
        self._findings.flush()
        crash.point("reconcile:walked")

    # --- 3. open rows ---

    def _open_rows(self) -> None:
        """Ask the node about each row that the walk cannot have shown."""
        deleted = self._last["deleted"] != self._before.get("invoices.deleted")
        look_at_all = self._everything or deleted
        looks_for_deleted = deleted and not self._everything
        if looks_for_deleted and self._store.read(partial(invoices.count_open, status=_S.ISSUED)) > ASK_MOST:
            self._list_again()
        gone = dict.fromkeys(self._gone(_S.RESERVED), _S.RESERVED) | dict.fromkeys(self._gone(_S.PAYING), _S.PAYING)
        gone |= dict.fromkeys(self._gone(_S.ISSUED, past_time=not look_at_all), _S.ISSUED)
        self._settle_gone(gone)
        if self._store.read(partial(invoices.count_open, status=_S.PAYING)):
            self.again_in_s = INTENT_STALE_S + 1

    def _list_again(self) -> None:
        """Walk the list, from the oldest open invoice that is on it, for those that are not."""
        for _ in self._listing.judge("created", self._oldest_listed(), self._last["created"]):
            pass
        self._findings.flush()

    def _oldest_listed(self) -> int:
        """The created index of the oldest open invoice that the node has: older ones are gone, and are asked for one by
        one. The first where that would be too many, one behind the last where the node was told of none.
        """
        oldest = self._store.read(partial(invoices.oldest_issued, limit=ASK_MOST))
        for row in oldest:
            fact = self._node.invoice_by_label(row.label)
            if fact is not None:
                return fact.created_index
        return 1 if oldest else self._last["created"] + 1

    def _gone(self, status: InvoiceStatus, *, past_time: bool = False) -> list[Slot]:
        """The slots in one state that the node does not have; those that it has are judged by what it says."""
        gone: list[Slot] = []
        after, now = (-1, -1), self._sources.clock()
        if self._everything:
            return [slot for slot in self._unlisted(status, now) if not self._is_settled(slot)]
        while True:
            rows = self._store.read(
                partial(invoices.open_slots, status=status, now=now, past_time=past_time, after=after, limit=SLICE)
            )
            for _, slot in rows:
                tally = self._findings.tallies.get(slot.paycode_id)
                if tally is not None and slot.index in tally.listed:
                    continue
                if not self._is_settled(slot):
                    gone.append(slot)
            if len(rows) < SLICE:
                return gone
            after = rows[-1][0]

    def _unlisted(self, status: InvoiceStatus, now: int) -> list[Slot]:
        """Likewise all that the walk has not shown, the earliest to expire first: what it has shown is passed over by
        ranges.
        """
        found: list[tuple[tuple[int, int], Slot]] = []
        for paycode in self._store.read(paycodes.every):
            for first, last in self._findings.tally(paycode.paycode_id).listed.gaps(0, HIGHEST_INDEX):
                found += self._store.read(
                    partial(
                        invoices.open_between, status=status, now=now, first=Slot(paycode.paycode_id, first), last=last
                    )
                )
        return [slot for _, slot in sorted(found)]

    def _is_settled(self, slot: Slot) -> bool:
        """Someone is at it right now, or the node has it."""
        return self._sources.issuing.is_under_way(slot) or self._is_there(slot)

    def _is_there(self, slot: Slot) -> bool:
        """Ask the node for one slot, and judge what it says."""
        self._sources.check()
        self._report.checked += 1
        return self._findings.look(slot)

    def _settle_gone(self, gone: Mapping[Slot, InvoiceStatus]) -> None:
        """Decide on open rows that the node does not have, each with the state in which it was asked for.

        First the walk catches up with what happened until they were asked for: only then do the node's indexes prove
        that none of them was paid.
        """
        self._findings.flush()
        if any(asked is not _S.RESERVED for asked in gone.values()):
            self._catch_up()
        unbroken = self._listing.updated.is_complete(self._reached["updated"])
        witness = Witness(self._node, unbroken=unbroken, rewound=self._rewound)
        for slot, asked in gone.items():
            self._sources.check()
            if self._sources.issuing.is_under_way(slot):
                continue
            row = self._books.by_slot(slot)
            if row is None or row.status is not asked:
                continue  # someone has moved it: what the node said before proves nothing of it now
            evidence = NO_EVIDENCE
            if row.status is not _S.RESERVED:
                evidence = witness.evidence(row.payment_hash, in_doubt=row.label in self._kept_conflicts)
            repair = self._findings.judge_slot(row.slot, row, None, evidence)
            if repair is not None:
                self._findings.record([repair])
        self._findings.issue_again()
        self._findings.flush()

    def _catch_up(self) -> None:
        """Walk what the node created and updated since the last look."""
        now = self._node_indexes()
        for index in ("created", "updated"):
            self._walk(index, self._reached[index] + 1, now[index])

    def _old_conflicts(self) -> None:
        """Look again at what contradicted in earlier runs, and forget what no longer does."""
        gone, resolved = {}, []
        for number, (label, detail) in enumerate(self._kept_conflicts.items()):
            slot = parse_label(label)
            assert slot is not None
            if slot in self._report.conflicts:
                continue
            if number >= MOST_LISTED:
                self._report.conflicts[slot] = detail
                continue
            row = self._books.by_slot(slot)
            if not self._is_there(slot) and row is not None and row.status not in FINAL:
                gone[slot] = row.status
            resolved.append(slot)
        self._settle_gone(gone)
        for slot in resolved:
            if slot not in self._report.conflicts and not self._dry_run:
                self._store.write(partial(cursors.drop_fact, name=CONFLICT + slot.label))

    # --- cursors ---

    def _keep_all_cursors(self) -> None:
        """All that these indexes led to is on disk, and the next run begins here.

        They move together: what is gone from the list is judged by the holes that it left behind all of them.
        """
        self._findings.flush()
        values = {f"invoices.{name}": value for name, value in self._reached.items()}
        values["invoices.deleted"] = self._last["deleted"]
        self.seen |= values
        if self._dry_run:
            return
        if any(self._before.get(name) != value for name, value in values.items()):
            self._store.write(
                partial(_put_cursors, values=values, anchors=self._listing.anchors, everything=self._everything)
            )
            crash.point("reconcile:cursors")

    # --- 4. outgoing payments ---

    def _outgoing(self) -> None:
        last = self.seen["sendpays.updated"] = self._node.last_index(subsystem="sendpays", index="updated")
        before = self._before.get("sendpays.updated")
        outgoing = Outgoing(self._node, self._sources.payments, dry_run=self._dry_run, check=self._sources.check)
        if before is None or before > last or self._everything or not self._continuity.knows_payments():
            cursor = outgoing.origin(last)
        else:
            cursor = before
        sweep = outgoing.sweep(cursor=cursor, last=last)
        self._report.checked += sweep.checked
        self._report.events += sweep.events
        if sweep.unquiet:
            self.again_in_s = QUIET_S + 1
        if sweep.last_part is not None:
            self._listing.anchors.meet_part(sweep.last_part)
        if not self._dry_run and sweep.reached != before:
            values = {"sendpays.updated": sweep.reached}
            self._store.write(partial(_put_cursors, values=values, anchors=self._listing.anchors, everything=False))
        crash.point("reconcile:payments")

    # --- 5. the end of a run over everything ---

    def _finish_everything(self) -> None:
        self._audit()
        if self._dry_run:
            return
        exact = self._node.last_index(subsystem="invoices", index="deleted") == 0
        for paycode in self._store.read(paycodes.every):
            if self._store.read(partial(cursors.fact, name=rebuild_fact(paycode.paycode_id))) is not None:
                self._store.write(partial(settle_rebuilt, paycode=paycode, exact=exact))
        self._store.write(outbox.set_history_known)

    def _audit(self) -> None:
        """Books and node are both in use: their sums are compared until they are the same, a few times at most."""
        for _ in range(AUDIT_ROUNDS):
            self._catch_up()
            self._report.audit = self._store.snapshot(partial(audit, tallies=self._findings.tallies))
            if self._dry_run or all(line.agree for line in self._report.audit):
                return


def _put_cursors(tx: Sql, *, values: dict[str, int], anchors: Anchors, everything: bool) -> None:
    for name, value in values.items():
        cursors.put(tx, name, value)
    anchors.keep(tx, everything=everything)
