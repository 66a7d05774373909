"""An outbox with its endpoints and senders on a real sidecar, without a node, under a clock that the test sets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cln_paycodes.core.events import Event, EventType, event_id
from cln_paycodes.core.records import Delivery, Endpoint
from cln_paycodes.core.seal import Seal
from cln_paycodes.node.port import Datum
from cln_paycodes.services.delivery import Deliveries
from cln_paycodes.services.endpoints import Endpoints
from cln_paycodes.services.timer import Timer
from cln_paycodes.store import outbox
from cln_paycodes.store.store import Store
from samples import NOW

DEADLINE_S = 20.0


def eventually(done: Callable[[], Any]) -> Any:
    """What `done` gives once it is true; AssertionError when it never is."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := done()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
    return found


class Datastore:
    """The part of a node that endpoints use."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, ...], str] = {}

    def write_datastore(self, key: tuple[str, ...], text: str) -> None:
        self.texts[key] = text

    def delete_datastore(self, key: tuple[str, ...]) -> None:
        self.texts.pop(key, None)

    def read_datastore(self, *key: str) -> list[Datum]:
        return [Datum(key=known, text=text) for known, text in self.texts.items() if known[: len(key)] == key]


class Backend:
    def __init__(self, directory: Path, node: Datastore | None = None) -> None:
        self.now = NOW
        self.node = node or Datastore()
        self.store = Store(directory / "paycodes.sqlite3")
        self.store.write(outbox.set_history_known)
        self.timer = Timer()
        self.ended: list[None] = []
        self.endpoints = Endpoints(
            self.store,
            self.node,  # type: ignore[arg-type]  # it has what endpoints call
            seal=Seal(bytes(32)),
            clock=lambda: self.now,
            randomness=os.urandom,
            changed=lambda: self.deliveries.refresh(),
        )
        self.deliveries = Deliveries(
            self.store,
            self.endpoints,
            self.timer,
            clock=lambda: self.now,
            chance=lambda: 0.0,
            disabled=lambda: self.ended.append(None),
        )
        self.deliveries.start()

    def close(self) -> None:
        self.deliveries.stop()
        eventually(lambda: not self.deliveries._senders)
        self.timer.stop()
        self.store.close()

    def add(self, url: str, **given: Any) -> Endpoint:
        fields: dict[str, Any] = {"events": None, "paycode_id": None, "secret": None, "from_sequence": None}
        return self.endpoints.add(url, **{**fields, **given})[0]

    def make(self, *numbers: int) -> None:
        """Make events; each carries its number."""
        for number in numbers:
            event = Event(
                id=event_id("02", EventType.INVOICE_PAID, str(number)),
                type=EventType.INVOICE_PAID,
                subject=str(number),
                paycode_id=None,
                timestamp=self.now,
                data={"index": number},
            )
            self.store.write(lambda tx, event=event: outbox.add(tx, event))  # type: ignore[misc]
        self.deliveries.wake()

    def look(self, endpoint: Endpoint) -> Endpoint:
        return self.endpoints.find(endpoint.endpoint_id)

    def deliveries_to(self, endpoint: Endpoint) -> list[Delivery]:
        """In the order of events."""
        page = self.store.read(lambda sql: outbox.page(sql, statuses=(), event_type=None, start=0, limit=10_000))
        return [sent for _, all_sent in page for sent in all_sent if sent.endpoint_id == endpoint.endpoint_id]

    def wait_attempts(self, endpoint: Endpoint, count: int) -> None:
        """Return once that many attempts to the endpoint are on disk."""
        eventually(lambda: sum(sent.attempts for sent in self.deliveries_to(endpoint)) >= count)

    def set_clock(self, now: int) -> None:
        """Let the clock jump, and look what is due."""
        self.now = now
        self.deliveries.wake()

    def retry(self) -> int:
        return self.deliveries.retry(event_id=None, endpoint_id=None)
