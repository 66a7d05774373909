"""`reconcile`: prove the books against the node, and repair what differs.

One run after another, never two at a time:

1. definitions    take over what only the datastore has, write there what only the sidecar has
2. invoices       walk the node's list: all of it (`full`), or what was created and updated since the cursors
3. open rows      those that the walk cannot show: reserved, paying, past their time, gone from the node
4. payments       outgoing ones that reached their end since the cursor
5. audit          (full) the sums of each code, books beside node

The decision on each invoice is `core/reconciliation.py`. The cursors are stored together, once all that they led to is
on disk, so a run that is cut off anywhere is simply done again by the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from ..core.reconciliation import EXPIRY_GRACE_S
from ..core.report import Report
from ..errors import PaycodesError
from ..node.port import Node
from ..store import invoices
from ..store.store import Store
from .books import Books
from .endpoints import Endpoints
from .findings import Sources
from .issuing import Issuing
from .offers import Offers
from .payments import Payments
from .registry import Registry
from .run import Progress, Run

#: Seconds between two looks of a run that waits for another one.
_TURN_S = 0.5


class Stopping(PaycodesError):
    """The plugin is being stopped: what is done is on disk, the next run goes on there."""


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
        offers: Offers,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._clock = clock
        self._running = threading.Lock()
        self._stopping = threading.Event()
        self._sources = Sources(
            store=store,
            node=node,
            registry=registry,
            endpoints=registered,
            books=books,
            issuing=issuing,
            payments=payments,
            offers=offers,
            clock=clock,
            check=self._check,
        )
        #: what the last reading of the node's datastore could not make sense of; None before the first
        self._definition_problems: list[str] | None = None
        #: the node's indexes, by subsystem and name, up to which the last run has looked
        self.seen: dict[str, int] = {}
        self.last: Report | None = None
        self.last_at: int | None = None
        #: unix seconds when the last run began
        self._began_at = 0
        #: a payment that looks failed may still be tried again: seconds after which to look once more
        self.again_in_s: float | None = None

    def run(self, *, full: bool = False, dry_run: bool = False, progress: Progress | None = None) -> Report:
        """One run; waits for one that is under way.

        Raises NodeUnknown, NodeRefused, SidecarUnavailable or Stopping when cut off, which is never any harm.
        """
        self._take_turn()
        try:
            started, began_at = time.monotonic(), self._clock()
            run = Run(
                self._sources,
                full=full,
                dry_run=dry_run,
                progress=progress or _silent,
                definition_problems=self._definition_problems,
            )
            report = run.carry_out()
            report.duration_ms = int((time.monotonic() - started) * 1000)
            if not dry_run:
                self._definition_problems = run.definition_problems
                self.again_in_s = run.again_in_s
                self.seen = run.seen
                self._began_at = began_at
                self.last, self.last_at = report, self._clock()
            return report
        finally:
            self._running.release()

    def is_any_over(self) -> bool:
        """An invoice that the node was never told of has expired since the last run: the node will not say so.

        Raises SidecarUnavailable.
        """
        first, last = self._began_at - EXPIRY_GRACE_S, self._clock() - EXPIRY_GRACE_S - 1
        return self._store.read(partial(invoices.is_any_over, first=first, last=last))

    def stop(self) -> None:
        """Have a run that is under way end at its next step."""
        self._stopping.set()

    def _take_turn(self) -> None:
        while not self._running.acquire(timeout=_TURN_S):
            self._check()

    def _check(self) -> None:
        if self._stopping.is_set():
            raise Stopping("the plugin is stopping: what was found so far is kept, run reconcile again")


def _silent(_done: int, _total: int) -> None:
    """No one watches."""
