"""When `reconcile` runs by itself: at start, on an interval, when the node's indexes move, and when an invoice is over
that the node never knew.

A `wait` call parked at the node returns with each change of an invoice or an outgoing payment, told or not. It is a
reason to look, nothing more: while it cannot be had, the interval still finds everything.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from ..errors import PaycodesError, describe
from ..node.port import Node
from .reconciler import Reconciler

log = logging.getLogger(__name__)

#: Seconds between a change at the node and the run that looks at it: notifications are quicker, and a burst of
#: payments is one run.
SETTLE_S = 0.5

#: Seconds after which a call that failed is tried again.
RETRY_S = 5.0

#: Seconds between two looks for invoices that are over and that the node does not tell of.
LOOK_S = 2.0

#: What is watched: subsystem and index. New invoices are not: nearly all are our own.
_WATCHED = (("invoices", "updated"), ("invoices", "deleted"), ("sendpays", "updated"))


class Watcher:
    def __init__(self, reconciler: Reconciler, node: Node, *, interval_s: int) -> None:
        self._reconciler = reconciler
        self._node = node
        self._interval_s = interval_s
        self._due = threading.Event()
        self._stopping = threading.Event()
        #: how many runs have come to an end, good or bad
        self._runs = 0
        self._ran = threading.Condition()
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
        with self._ran:
            self._ran.notify_all()

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
            with self._ran:
                self._runs += 1
                self._ran.notify_all()
            if self._pause(wait_s):
                self._stopping.wait(SETTLE_S)

    def _pause(self, wait_s: float) -> bool:
        """Until the next run: True if it is because of a change, which may not be the only one."""
        until = time.monotonic() + wait_s
        while (left_s := until - time.monotonic()) > 0:
            if self._due.wait(min(left_s, LOOK_S)):
                return True
            with suppress(PaycodesError):
                if self._reconciler.is_any_over():
                    return False
        return False

    def _watch(self, subsystem: str, index: str) -> None:
        """Wait for the first change behind what the last run saw, and then for the next run: however many changes come
        meanwhile, they cost one call. One that came too late for that run ends the next wait at once.
        """
        runs = 0
        while not self._stopping.is_set():
            runs = self._run_after(runs)
            seen = self._reconciler.seen.get(f"{subsystem}.{index}")
            try:
                if seen is not None and self.last_error is None:
                    self._node.wait_index(subsystem=subsystem, index=index, value=seen + 1)
                    runs = self._runs
                    self._due.set()
            except PaycodesError:
                runs = 0
                self._stopping.wait(RETRY_S)

    def _run_after(self, runs: int) -> int:
        """Wait until more runs than that have ended; how many have."""
        with self._ran:
            self._ran.wait_for(lambda: self._runs > runs or self._stopping.is_set())
            return self._runs
