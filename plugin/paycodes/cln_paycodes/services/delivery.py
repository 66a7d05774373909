"""Delivery: events leave the outbox, at least once, until acknowledged.

One thread for each endpoint that has something due, so that one which hangs, fails or floods delays no other. What is
due is always read from the sidecar and what came of it written there: a delivery stays `pending` until its
acknowledgement is on disk, so one that was in flight at a crash is simply due again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from .. import crash
from ..core.events import TEST_TYPE, wire_body
from ..core.records import Delivery, DeliveryStatus, Endpoint, EndpointStatus, OutboxEvent
from ..core.retry import Answer, Verdict, judge_attempt
from ..errors import NotAcknowledged, PaycodesError, describe
from ..store import endpoints, outbox
from ..store.store import Store
from ..store.writer import Transaction
from .endpoints import Endpoints
from .webhook import WebhookSender

log = logging.getLogger(__name__)

#: Deliveries that are read at a time.
BATCH = 64

#: Seconds after which a sleeping sender looks again whatever happens: the clock may have been set.
LONGEST_SLEEP_S = 60

_SENDABLE = (EndpointStatus.ACTIVE, EndpointStatus.FAILING)

_OUTCOMES = {
    Verdict.ACKNOWLEDGED: DeliveryStatus.DELIVERED,
    Verdict.RETRY: DeliveryStatus.PENDING,
    Verdict.EXHAUSTED: DeliveryStatus.EXHAUSTED,
    Verdict.GONE: DeliveryStatus.PENDING,
}


class Deliveries:
    """Starts and wakes one sender for each endpoint."""

    def __init__(
        self,
        store: Store,
        registered: Endpoints,
        *,
        clock: Callable[[], int],
        chance: Callable[[], float],
    ) -> None:
        self.store = store
        self.registered = registered
        self.clock = clock
        self.chance = chance
        self._lock = threading.Lock()
        self._senders: dict[str, _Sender] = {}
        self._stopped = False

    def wake(self) -> None:
        """Something may be due: an event was made, a delivery was revived. Reads nothing: the writer's thread calls
        it.
        """
        with self._lock:
            for sender in self._senders.values():
                sender.wake()

    def refresh(self) -> None:
        """Have exactly one sender for each endpoint there is now, and wake them all."""
        known = {endpoint.endpoint_id for endpoint in self.registered.every()}
        with self._lock:
            if self._stopped:
                return
            for gone in self._senders.keys() - known:
                self._senders.pop(gone).stop()
            for endpoint_id in known - self._senders.keys():
                self._senders[endpoint_id] = _Sender(self, endpoint_id)
            for sender in self._senders.values():
                sender.wake()

    def stop(self) -> None:
        """Let every sender finish the attempt it is at; those that take too long are left behind."""
        with self._lock:
            self._stopped = True
            senders, self._senders = self._senders, {}
        for sender in senders.values():
            sender.stop()

    def test(self, endpoint: Endpoint) -> Answer:
        """Send a `webhook.test` message now, outside the outbox; NotAcknowledged when it is not answered with 2xx."""
        now = self.clock()
        message_id = f"evt_test_{endpoint.endpoint_id[3:]}_{now}"
        body = wire_body(
            event_id=message_id,
            event_type=TEST_TYPE,
            timestamp=now,
            sequence=None,
            data={"endpoint": endpoint.endpoint_id},
        )
        sender = WebhookSender()
        try:
            secrets = self.registered.secrets(endpoint)
            answer = sender.send(endpoint.url, message_id=message_id, body=body, secrets=secrets, now=now)
        finally:
            sender.close()
        if not answer.acknowledged:
            raise NotAcknowledged(
                f"{endpoint.endpoint_id} did not acknowledge: {answer.error}; see that the receiver runs and answers"
                " with 2xx"
            )
        return answer


class _Sender:
    def __init__(self, deliveries: Deliveries, endpoint_id: str) -> None:
        self._deliveries = deliveries
        self._endpoint_id = endpoint_id
        self._http = WebhookSender()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name=f"paycodes-{endpoint_id}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def _loop(self) -> None:
        while not self._stopped:
            self._wake.clear()
            try:
                sleep_s = self._round()
            except PaycodesError as e:
                log.warning("deliveries to %s wait: %s", self._endpoint_id, e)
                sleep_s = LONGEST_SLEEP_S
            except Exception as e:
                log.error("deliveries to %s failed: %s", self._endpoint_id, describe(e))
                sleep_s = LONGEST_SLEEP_S
            self._wake.wait(sleep_s)
        self._http.close()

    def _round(self) -> float:
        """Send what is due, then say how long to sleep."""
        store, clock = self._deliveries.store, self._deliveries.clock
        while not self._stopped:
            endpoint = self._deliveries.registered.find(self._endpoint_id)
            if endpoint.status not in _SENDABLE:
                return LONGEST_SLEEP_S
            batch = store.read(partial(outbox.due, endpoint_id=self._endpoint_id, now=clock(), limit=BATCH))
            if not batch:
                break
            self._send_batch(endpoint, batch)
        next_due_at = store.read(lambda sql: outbox.next_due_at(sql, self._endpoint_id))
        if next_due_at is None:
            return LONGEST_SLEEP_S
        return max(0, min(LONGEST_SLEEP_S, next_due_at - clock()))

    def _send_batch(self, endpoint: Endpoint, batch: list[tuple[Delivery, OutboxEvent]]) -> None:
        """Send one after the other; the outcomes share commits while the next one is on its way."""
        secrets = self._deliveries.registered.secrets(endpoint)
        recorded: list[Future[None]] = []
        for delivery, event in batch:
            if self._stopped:
                break
            now = self._deliveries.clock()
            crash.point("send:start")
            answer = self._http.send(
                endpoint.url,
                message_id=event.id,
                body=wire_body(
                    event_id=event.id,
                    event_type=event.type,
                    timestamp=event.timestamp,
                    sequence=event.sequence,
                    data=event.data,
                ),
                secrets=secrets,
                now=now,
            )
            crash.point("send:answered")
            verdict, due_at = judge_attempt(
                attempts=delivery.attempts + 1, answer=answer, now=now, chance=self._deliveries.chance()
            )
            recorded.append(
                self._deliveries.store.submit(
                    partial(_record, delivery=delivery, answer=answer, verdict=verdict, due_at=due_at, now=now)
                )
            )
            if verdict is Verdict.GONE:
                log.warning("endpoint %s answered 410: it is disabled", self._endpoint_id)
                break
        for future in recorded:
            future.result()
        crash.point("send:recorded")


def _record(tx: Transaction, *, delivery: Delivery, answer: Answer, verdict: Verdict, due_at: int, now: int) -> None:
    """What one attempt led to, for the delivery and for its endpoint."""
    outbox.record_attempt(
        tx,
        delivery,
        status=_OUTCOMES[verdict],
        due_at=due_at,
        now=now,
        answer=answer.status,
        error=answer.error,
    )
    if verdict is Verdict.ACKNOWLEDGED:
        endpoints.record_success(tx, delivery.endpoint_id, now=now)
        return
    endpoints.record_failure(tx, delivery.endpoint_id, error=answer.error or "", now=now)
    if verdict is Verdict.GONE:
        endpoints.set_status(tx, delivery.endpoint_id, EndpointStatus.DISABLED, now=now)
