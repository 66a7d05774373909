"""Acknowledged events are kept for a while, then forgotten; what is not acknowledged stays."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from ..errors import PaycodesError, describe
from ..store import retention
from ..store.store import Store

log = logging.getLogger(__name__)

#: Seconds from the end of one pass over the outbox to the next.
INTERVAL_S = 3600.0

#: Events looked at, and so forgotten, in one transaction, and the pause in seconds between two.
_PAGE = 200
_PAUSE_S = 0.05


class Pruner:
    def __init__(self, store: Store, *, clock: Callable[[], int], retention_s: int) -> None:
        """`retention_s` 0 keeps everything."""
        self._store = store
        self._clock = clock
        self._retention_s = retention_s
        self._stopping = threading.Event()

    def start(self) -> None:
        if self._retention_s:
            threading.Thread(target=self._run, name="paycodes-prune", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if forgotten := self.prune():
                    log.info("%d events that every endpoint had acknowledged were forgotten", forgotten)
            except PaycodesError as e:
                log.warning("acknowledged events are kept longer: %s", e)
            except Exception as e:
                log.error("acknowledged events are kept longer: %s", describe(e))
            self._stopping.wait(min(INTERVAL_S, self._retention_s))

    def prune(self) -> int:
        """One pass over the outbox; how many events were forgotten."""
        until = self._clock() - self._retention_s
        forgotten, start = 0, 0  # type: int, int | None
        while start is not None and not self._stopping.is_set():
            look = partial(retention.prunable, start=start, acknowledged_until=until, limit=_PAGE)
            sequences, start = self._store.read(look)
            if sequences:
                job = partial(retention.prune, sequences=sequences, acknowledged_until=until)
                forgotten += self._store.write(job)
                self._stopping.wait(_PAUSE_S)
        return forgotten
