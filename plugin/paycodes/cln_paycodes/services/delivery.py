"""Delivery: events leave the outbox, at least once, until acknowledged.

Each endpoint that has something due gets a sender of its own, so that one which hangs, fails or floods delays no
other. When something is due, and to whom, is read from the sidecar: nothing is scheduled in memory alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from ..core.events import TEST_TYPE, wire_body
from ..core.records import Endpoint
from ..core.retry import Answer
from ..core.urls import EndpointKind, kind_of
from ..errors import NotAcknowledged, PaycodesError, describe
from ..store import endpoints, outbox
from ..store.store import Store
from ..store.writer import Transaction
from .endpoints import Endpoints
from .jetstream import StreamPublisher
from .publisher import Message, Publisher
from .sender import Sender, Surroundings
from .timer import Timer
from .webhook import WebhookPublisher

log = logging.getLogger(__name__)

#: Seconds after which it is looked again whatever happens: the clock may have been set.
LONGEST_SLEEP_S = 60

#: Seconds after which a failed look at the sidecar is repeated.
_RETRY_S = 5

#: Seconds that senders have to end when the plugin stops.
_STOP_S = 0.5


class Deliveries:
    """Starts a sender for each endpoint that has something due, and wakes those that run."""

    def __init__(
        self,
        store: Store,
        registered: Endpoints,
        timer: Timer,
        *,
        clock: Callable[[], int],
        chance: Callable[[], float],
        disabled: Callable[[], None],
    ) -> None:
        """`disabled` is called after an endpoint was disabled."""
        self._store = store
        self._registered = registered
        self._timer = timer
        self._clock = clock
        self._around = Surroundings(
            store=store,
            registered=registered,
            publisher=self._publisher,
            clock=clock,
            chance=chance,
            disabled=disabled,
            idle=self.wake,
        )
        self._wake = threading.Event()
        #: an event is nobody's to be sent to, until an endpoint is added
        self._has_no_endpoints = False
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._senders: dict[str, Sender] = {}
        self._stopped = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="paycodes-outbox", daemon=True).start()

    def wake(self) -> None:
        """Something may be due. Reads nothing: the writer's thread calls it."""
        if not self._has_no_endpoints:
            self._wake.set()

    def refresh(self) -> None:
        """An endpoint was added, changed or removed."""
        with self._lock:
            for sender in self._senders.values():
                sender.interrupt()
        self._has_no_endpoints = False
        self.wake()

    def stop(self) -> None:
        """Let every sender finish the attempt it is at; those that take too long are left behind."""
        with self._lock:
            self._stopped = True
            for sender in self._senders.values():
                sender.stop()
            self._wake.set()
            self._ended.wait_for(lambda: not self._senders, _STOP_S)

    def _run(self) -> None:
        while not self._stopped:
            self._wake.clear()
            try:
                sleep_s: float = self._start_due()
            except PaycodesError as e:
                log.warning("deliveries wait: %s", e)
                sleep_s = _RETRY_S
            except Exception as e:
                log.error("deliveries wait: %s", describe(e))
                sleep_s = _RETRY_S
            self._wake.wait(sleep_s)

    def _start_due(self) -> float:
        """Have a sender at work for each endpoint with something due; the seconds until the next one has."""
        now, sleep_s = self._clock(), LONGEST_SLEEP_S
        self._has_no_endpoints = not self._store.read(endpoints.are_there)
        if self._has_no_endpoints:
            return sleep_s
        for endpoint_id in self._store.read(partial(endpoints.ahead_of, now=now)):
            self._store.write(partial(_follow_clock, endpoint_id=endpoint_id, now=now))
        for endpoint_id, due_at in self._store.read(outbox.endpoints_due):
            if due_at <= now:
                self._have_sender(endpoint_id)
            else:
                sleep_s = min(sleep_s, due_at - now)
        return sleep_s

    def _have_sender(self, endpoint_id: str) -> None:
        with self._lock:
            if self._stopped:
                return
            sender = self._senders.get(endpoint_id)
            if sender is None:
                sender = self._senders[endpoint_id] = Sender(self._around, endpoint_id, self._may_end)
                sender.start()
            else:
                sender.wake()

    def _may_end(self, sender: Sender) -> bool:
        """Forget a sender that has nothing to do, unless it was woken at this moment."""
        with self._lock:
            if sender.is_woken and not self._stopped:
                return False
            self._senders.pop(sender.endpoint_id, None)
            self._ended.notify_all()
            return True

    def _publisher(self, endpoint: Endpoint) -> Publisher:
        if kind_of(endpoint.url) is EndpointKind.NATS:
            return StreamPublisher(endpoint.url, self._registered.credentials(endpoint))
        return WebhookPublisher(endpoint.url, self._timer)

    def retry(self, *, event_id: str | None, endpoint_id: str | None) -> int:
        """Make waiting and exhausted deliveries due now, and lift the pauses of their endpoints; how many."""
        made = self._store.write(partial(_retry, event_id=event_id, endpoint_id=endpoint_id))
        self.refresh()
        return made

    def test(self, endpoint: Endpoint) -> Answer:
        """Send a `webhook.test` message now, outside the outbox; NotAcknowledged when it is not acknowledged."""
        now = self._clock()
        message_id = f"evt_test_{endpoint.endpoint_id[3:]}_{now}"
        body = wire_body(
            event_id=message_id,
            event_type=TEST_TYPE,
            timestamp=now,
            sequence=None,
            data={"endpoint": endpoint.endpoint_id},
        )
        message = Message(id=message_id, type=TEST_TYPE, body=body)
        publisher = self._publisher(endpoint)
        try:
            answer = publisher.publish(message, secrets=self._registered.secrets(endpoint), now=now)
        finally:
            publisher.close()
        if not answer.acknowledged:
            raise NotAcknowledged(
                f"{endpoint.endpoint_id} did not acknowledge: {answer.error}; see that the receiver runs and answers"
                " with 2xx"
            )
        return answer


def _retry(tx: Transaction, *, event_id: str | None, endpoint_id: str | None) -> int:
    endpoints.lift_pause(tx, endpoint_id)
    return outbox.make_due(tx, event_id=event_id, endpoint_id=endpoint_id)


def _follow_clock(tx: Transaction, *, endpoint_id: str, now: int) -> None:
    outbox.follow_clock(tx, endpoint_id, now=now)
    endpoints.follow_clock(tx, endpoint_id, now=now)
