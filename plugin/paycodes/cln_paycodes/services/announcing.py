"""Every event, told inside the node too: custom notifications for other plugins, at least once, after the commit.

How far the telling has come is written after it was told, and gets to the disk with what is written next: a crash
before that makes it be told again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import crash
from ..core.events import DISABLED_TOPIC, TOPICS, EventType
from ..core.records import Endpoint, OutboxEvent
from ..errors import PaycodesError, describe
from ..store import cursors, endpoints, outbox
from ..store.store import Store
from ..store.writer import Transaction

log = logging.getLogger(__name__)

#: Tells one topic with its content to the node.
Emit = Callable[[str, dict[str, Any]], None]

#: Events told at a time, and the pause in seconds after some were: those of a burst are told and written down together,
#: and a rebuilt outbox does not crowd out hooks' answers.
BATCH = 64
_PAUSE_S = 0.05

#: Seconds after which a look at the sidecar that failed is repeated.
_RETRY_S = 15.0

_TOLD = "announced"


class Announcer:
    def __init__(self, store: Store, emit: Emit) -> None:
        self._store = store
        self._emit = emit
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def start(self) -> None:
        self.wake()
        threading.Thread(target=self._run, name="paycodes-announce", daemon=True).start()

    def wake(self) -> None:
        """There may be something to tell."""
        self._wake.set()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                self._tell_ends()
                while self._tell_events() and not self._stopping.wait(_PAUSE_S):
                    pass
            except PaycodesError as e:
                self._wait_after(e.message)
            except Exception as e:
                self._wait_after(describe(e))

    def _wait_after(self, error: str) -> None:
        if not self._stopping.wait(_RETRY_S):
            log.warning("notifications inside the node waited: %s", error)
            self._wake.set()

    def _tell_events(self) -> bool:
        """Tell the next events; False when there are none."""
        told = int(self._store.read(partial(cursors.fact, name=_TOLD)) or 0)
        batch = self._store.read(partial(outbox.after, sequence=told, limit=BATCH))
        if not batch:
            return False
        for event in batch:
            crash.point("announce:start")
            self._emit(TOPICS[EventType(event.type)], _content(event))
        crash.point("announce:emitted")
        mark = partial(cursors.put_fact, name=_TOLD, value=str(batch[-1].sequence))
        self._store.submit(mark, durable=False).result()
        crash.point("announce:recorded")
        return True

    def _tell_ends(self) -> None:
        for endpoint in self._store.read(endpoints.untold_ends):
            self._emit(DISABLED_TOPIC, _end(endpoint))
            self._store.write(partial(_mark_told, endpoint_id=endpoint.endpoint_id))


def _mark_told(tx: Transaction, *, endpoint_id: str) -> None:
    endpoints.mark_told(tx, endpoint_id)


def _content(event: OutboxEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "timestamp": event.timestamp,
        "sequence": event.sequence,
        "data": event.data,
    }


def _end(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "endpoint": endpoint.endpoint_id,
        "url": endpoint.url,
        "last_error": endpoint.last_error,
        "failing_since": endpoint.failing_since,
        "disabled_at": endpoint.updated_at,
    }
