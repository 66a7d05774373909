"""What is forgotten after a while: events that were acknowledged, lazy and held invoices that nobody paid in time.

What is not acknowledged stays, and so does every invoice that the node was told of.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from ..errors import PaycodesError, describe
from ..store import invoices, retention
from ..store.store import Store

log = logging.getLogger(__name__)

#: Seconds from the end of one pass over the outbox to the next.
INTERVAL_S = 3600.0

#: Seconds past its time for which an expired invoice is kept that the node never had.
UNPAID_KEPT_S = 24 * 3600

#: Rows looked at, and so forgotten, in one transaction, and the pause in seconds between two.
_PAGE = 200
_PAUSE_S = 0.05


class Pruner:
    def __init__(self, store: Store, *, clock: Callable[[], int], retention_s: int) -> None:
        """`retention_s` is that of acknowledged events; 0 keeps all of them."""
        self._store = store
        self._clock = clock
        self._retention_s = retention_s
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="paycodes-prune", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._retention_s and (forgotten := self.prune()):
                    log.info("%d events that every endpoint had acknowledged were forgotten", forgotten)
                if forgotten := self.prune_unpaid():
                    log.info("%d invoices that expired unpaid and that the node never had were forgotten", forgotten)
            except PaycodesError as e:
                log.warning("what may be forgotten is kept longer: %s", e)
            except Exception as e:
                log.error("what may be forgotten is kept longer: %s", describe(e))
            self._stopping.wait(min(INTERVAL_S, self._retention_s or INTERVAL_S))

    def prune_unpaid(self) -> int:
        """Forget invoices that expired unpaid and that the node was never told of; how many."""
        forgotten, page = 0, _PAGE
        while page == _PAGE and not self._stopping.is_set():
            until = self._clock() - UNPAID_KEPT_S
            page = self._store.write(partial(invoices.prune_unregistered, expired_at=until, limit=_PAGE))
            forgotten += page
            self._stopping.wait(_PAUSE_S)
        return forgotten

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
