"""When `reconcile` runs by itself: at start, on an interval, and when the node's indexes move.

A `wait` call parked at the node returns with each change of an invoice or an outgoing payment, told or not. It is a
reason to look, nothing more: while it cannot be had, the interval still finds everything.
"""

from __future__ import annotations

import logging
import threading

from ..errors import PaycodesError, describe
from ..node.port import Node
from .reconciler import Reconciler

log = logging.getLogger(__name__)

#: Seconds between a change at the node and the run that looks at it: notifications are quicker, and a burst of
#: payments is one run.
SETTLE_S = 0.5

#: Seconds after which a call that failed is tried again.
RETRY_S = 5.0

#: What is watched, by the cursor that says how far it was looked at. New invoices are not: nearly all are our own.
_WATCHED = (("invoices", "updated"), ("invoices", "deleted"), ("sendpays", "updated"))


class Watcher:
    def __init__(self, reconciler: Reconciler, node: Node, *, interval_s: int) -> None:
        self._reconciler = reconciler
        self._node = node
        self._interval_s = interval_s
        self._due = threading.Event()
        self._stopping = threading.Event()
        #: why the last run was cut off; None when it came to its end
        self.last_error: str | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="paycodes-reconcile", daemon=True).start()
        for watched in _WATCHED:
            threading.Thread(target=self._watch, args=watched, name="paycodes-watch", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self._reconciler.stop()
        self._due.set()

    def wake(self) -> None:
        """Something may have changed: run soon."""
        self._due.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._due.clear()
            wait_s: float = self._interval_s
            try:
                report = self._reconciler.run()
                if found := report.summary():
                    log.info("reconcile found %s in %d ms", found, report.duration_ms)
                self.last_error = None
                wait_s = min(self._interval_s, self._reconciler.again_in_s or self._interval_s)
            except PaycodesError as e:
                self.last_error, wait_s = e.message, RETRY_S
                log.info("reconcile was cut off and goes on in %d s: %s", RETRY_S, e)
            except Exception as e:
                self.last_error, wait_s = describe(e), RETRY_S
                log.error("reconcile failed: %s", describe(e))
            if self._due.wait(wait_s):
                self._stopping.wait(SETTLE_S)

    def _watch(self, subsystem: str, index: str) -> None:
        """Wait for the first change behind what was looked at: one between two waits ends the next at once."""
        told = 0
        while not self._stopping.is_set():
            try:
                looked_at = self._reconciler.cursor(f"{subsystem}.{index}")
                self._node.wait_index(subsystem=subsystem, index=index, value=max(told, looked_at) + 1)
                told = self._node.last_index(subsystem=subsystem, index=index)
                self._due.set()
            except PaycodesError:
                self._stopping.wait(RETRY_S)
