"""Things to do later, on one thread: hints held in memory only, whatever must happen is also found by `reconcile`."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

from ..errors import describe

log = logging.getLogger(__name__)


class Timer:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name="paycodes-timer", daemon=True)
        self._thread.start()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Run `action` in the timer's thread in `delay_s` seconds; it must be short."""
        entry = (time.monotonic() + delay_s, next(self._order), action)
        with self._changed:
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:  # else the thread is up before it is due
                self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                if self._stopped:
                    return
                action = heapq.heappop(self._heap)[2]
            try:
                action()
            except Exception as e:
                log.error("a timed action failed: %s", describe(e))
