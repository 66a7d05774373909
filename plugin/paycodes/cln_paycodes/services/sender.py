"""The way of events to one endpoint: one at a time, in the order of events, and what came of it to the disk.

A sender runs while its endpoint has something due. What is due is always read from the sidecar and what came of it
written there: a delivery stays `pending` until its acknowledgement is on disk, so one that was in flight at a crash is
simply due again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from .. import crash
from ..core.events import wire_body
from ..core.records import Delivery, DeliveryStatus, Endpoint, EndpointStatus, OutboxEvent
from ..core.retry import MOST_ATTEMPTS, TRIP, Answer, Verdict, failing_since, is_given_up, judge_attempt, resume_at
from ..errors import PaycodesError, UnknownEndpoint, describe
from ..store import endpoints, outbox
from ..store.store import Store
from ..store.writer import Transaction
from .endpoints import Endpoints
from .publisher import Message, Publisher

log = logging.getLogger(__name__)

#: Deliveries that are read at a time: an event is 20 KB at most.
BATCH = 256

#: Outcomes that share one transaction at most, and the seconds that the first of them waits for others: what a crash
#: makes go out again.
_GROUP = 32
_GROUP_S = 0.02

#: Seconds that a sender without work keeps its connection.
LINGER_S = 5.0

#: Seconds that deliveries wait after an error of our own.
TROUBLE_S = 15.0

#: Attempts after which a delivery is not brought forward when its endpoint is back: the last ones stay spread out.
_BRING_FORWARD_ATTEMPTS = MOST_ATTEMPTS - 3

_SENDABLE = (EndpointStatus.ACTIVE, EndpointStatus.FAILING)

_STATUS = {
    Verdict.ACKNOWLEDGED: DeliveryStatus.DELIVERED,
    Verdict.RETRY: DeliveryStatus.PENDING,
    Verdict.EXHAUSTED: DeliveryStatus.EXHAUSTED,
    Verdict.GONE: DeliveryStatus.PENDING,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What every sender works with."""

    store: Store
    registered: Endpoints
    publisher: Callable[[Endpoint], Publisher]
    clock: Callable[[], int]
    chance: Callable[[], float]
    #: called after an endpoint was disabled
    disabled: Callable[[], None]
    #: called when a sender has nothing to do until a later time
    idle: Callable[[], None]


class Sender:
    """A thread that ends by itself; `ended` is asked, once it has nothing to do, whether it may go."""

    def __init__(self, around: Surroundings, endpoint_id: str, ended: Callable[[Sender], bool]) -> None:
        self.endpoint_id = endpoint_id
        self._around = around
        self._ended = ended
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._changed = False
        self._publisher: Publisher | None = None
        self._sent_to: Endpoint | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"paycodes-{self.endpoint_id}", daemon=True).start()

    @property
    def is_woken(self) -> bool:
        return self._wake.is_set()

    def wake(self) -> None:
        """Something is due."""
        self._wake.set()

    def interrupt(self) -> None:
        """The endpoint may have changed: look at it again before the next attempt."""
        self._changed = True
        self._wake.set()

    def stop(self) -> None:
        """Finish the attempt under way, if any, and end."""
        self._stopping.set()
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                self._send_due()
            except UnknownEndpoint:
                self._stopping.set()
            except PaycodesError as e:
                self._wait_after(e.message)
            except Exception as e:
                self._wait_after(describe(e))
            if not self._stopping.is_set():
                self._around.idle()
                self._wake.wait(LINGER_S)
            if (self._stopping.is_set() or not self.is_woken) and self._ended(self):
                break
        if self._publisher is not None:
            self._publisher.close()

    def _wait_after(self, error: str) -> None:
        """Leave a trouble of ours, such as a full disk, some time to pass, however often we are woken."""
        if not self._stopping.is_set():
            log.warning("deliveries to %s wait: %s", self.endpoint_id, error)
            self._stopping.wait(TROUBLE_S)

    def _send_due(self) -> None:
        store, clock = self._around.store, self._around.clock
        while not self._stopping.is_set():
            self._changed = False
            endpoint = self._around.registered.find(self.endpoint_id)
            if endpoint.status not in _SENDABLE or endpoint.resume_at > clock():
                return
            limit = 1 if endpoint.failures >= TRIP else BATCH
            batch = store.read(partial(outbox.due, endpoint_id=self.endpoint_id, now=clock(), limit=limit))
            if not batch:
                return
            _Batch(self._around, endpoint, self._publisher_of(endpoint)).send(batch, until=self._is_interrupted)

    def _is_interrupted(self) -> bool:
        return self._stopping.is_set() or self._changed

    def _publisher_of(self, endpoint: Endpoint) -> Publisher:
        """The open connection, or a new one when the endpoint is at another place now."""
        place = (endpoint.url, endpoint.sealed_credentials)
        if self._publisher is None or self._sent_to is None or place != _place(self._sent_to):
            if self._publisher is not None:
                self._publisher.close()
            self._publisher = self._around.publisher(endpoint)
        self._sent_to = endpoint
        return self._publisher


def _place(endpoint: Endpoint) -> tuple[str, str | None]:
    return endpoint.url, endpoint.sealed_credentials


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failure:
    """What an attempt that was not acknowledged says of its endpoint."""

    error: str
    #: unix seconds before which it gets nothing
    resume_at: int
    disable: bool


class _Batch:
    """Attempts one after the other; the outcomes of those that are done go to the disk while the next is under way."""

    def __init__(self, around: Surroundings, endpoint: Endpoint, publisher: Publisher) -> None:
        self._around = around
        self._endpoint = endpoint
        self._publisher = publisher
        self._failures = endpoint.failures
        self._failing_since = endpoint.failing_since
        self._last_failure_at = endpoint.last_failure_at
        self._done: list[outbox.Outcome] = []
        self._done_since = 0.0
        self._recording: Future[bool] | None = None

    def send(self, batch: list[tuple[Delivery, OutboxEvent]], *, until: Callable[[], bool]) -> None:
        secrets = self._around.registered.secrets(self._endpoint)
        try:
            for delivery, event in batch:
                if until() or not self._attempt(delivery, event, secrets):
                    return
        finally:
            self._record(wait=True)
            crash.point("send:recorded")

    def _attempt(self, delivery: Delivery, event: OutboxEvent, secrets: list[str]) -> bool:
        """One attempt; False when the endpoint is to be left alone after it."""
        now = self._around.clock()
        crash.point("send:start")
        answer = self._publisher.publish(_message(event), secrets=secrets, now=now)
        crash.point("send:answered")
        verdict, due_at = judge_attempt(
            attempts=delivery.attempts + 1, answer=answer, now=now, chance=self._around.chance()
        )
        if not self._done:
            self._done_since = time.monotonic()
        self._done.append(
            outbox.Outcome(
                sequence=delivery.sequence,
                status=_STATUS[verdict],
                due_at=due_at,
                at=now,
                answer=answer.status,
                error=answer.error,
            )
        )
        if verdict is Verdict.ACKNOWLEDGED:
            self._record(wait=self._failures > 0)
            self._failures, self._failing_since = 0, None
            return True
        return self._failed(verdict, answer, now)

    def _record(self, *, wait: bool) -> None:
        """Hand over what is done, in groups that share a transaction; `wait`: all of it, and until it is on disk."""
        if not wait and len(self._done) < _GROUP and time.monotonic() - self._done_since < _GROUP_S:
            return
        self._await_recorded()
        if self._done:
            self._recording = self._submit(None)
        if wait:
            self._await_recorded()

    def _await_recorded(self) -> None:
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.result()

    def _submit(self, failure: _Failure | None) -> Future[bool]:
        """What is done; with `failure`, what the last of it says of the endpoint."""
        outcomes, self._done = self._done, []
        back = self._failures >= TRIP
        return self._around.store.submit(
            partial(_record, endpoint=self._endpoint, outcomes=outcomes, back=back, failure=failure)
        )

    def _failed(self, verdict: Verdict, answer: Answer, now: int) -> bool:
        failures = self._failures + 1
        since = failing_since(self._failing_since, last_failure_at=self._last_failure_at, now=now)
        until = resume_at(failures=failures, answer=answer, now=now, chance=self._around.chance())
        why = None
        if verdict is Verdict.GONE:
            why = "it answered 410: the receiver is gone for good"
        elif is_given_up(failures=failures, failing_since=since, now=now):
            why = "it has only failed for 5 days"
        self._await_recorded()
        recorded = self._submit(_Failure(error=answer.error or "", resume_at=until, disable=why is not None)).result()
        self._failures, self._failing_since, self._last_failure_at = failures, since, now
        if recorded and why is not None:
            endpoint_id = self._endpoint.endpoint_id
            log.warning(
                "endpoint %s is disabled, %s (%s): webhook-update %s pause=false sends what it has not had",
                endpoint_id,
                why,
                answer.error,
                endpoint_id,
            )
            self._around.disabled()
        return why is None and until <= now and self._failures < TRIP


def _message(event: OutboxEvent) -> Message:
    body = wire_body(
        event_id=event.id,
        event_type=event.type,
        timestamp=event.timestamp,
        sequence=event.sequence,
        data=event.data,
    )
    return Message(id=event.id, type=event.type, body=body)


def _record(
    tx: Transaction, *, endpoint: Endpoint, outcomes: list[outbox.Outcome], back: bool, failure: _Failure | None
) -> bool:
    """What attempts led to, the last of them to a `failure`, if there is one; False when that is not recorded.

    `back`: an acknowledgement among them ends a time in which the endpoint only failed. An endpoint that was given
    another place during the attempt has not failed there, and its deliveries are due as that change made them.
    """
    endpoint_id = endpoint.endpoint_id
    acknowledged = outcomes if failure is None else outcomes[:-1]
    if acknowledged:
        at = acknowledged[-1].at
        outbox.record_acknowledged(tx, endpoint_id, acknowledged)
        endpoints.record_success(tx, endpoint_id, now=at)
        if back:
            outbox.bring_forward(tx, endpoint_id, now=at, most_attempts=_BRING_FORWARD_ATTEMPTS)
    if failure is None:
        return True
    now_there = endpoints.by_id(tx, endpoint_id)
    if now_there is None or _place(now_there) != _place(endpoint):
        return False
    last = outcomes[-1]
    outbox.record_failed(tx, endpoint_id, last)
    endpoints.record_failure(
        tx,
        endpoint_id,
        failing_since=failing_since(now_there.failing_since, last_failure_at=now_there.last_failure_at, now=last.at),
        error=failure.error,
        now=last.at,
        resume_at=failure.resume_at,
    )
    if failure.disable:
        endpoints.disable(tx, endpoint_id, now=last.at)
    return True
