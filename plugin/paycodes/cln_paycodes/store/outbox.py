"""Events and their deliveries. Both are inserted with the state change that causes them, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..core.events import Event, EventRow
from ..core.records import Delivery, DeliveryStatus, Endpoint, OutboxEvent
from ..core.retry import SLOW_DOWN
from .store import Sql

#: `due_at` of a delivery that was never tried, and of one that a person wants tried first. Neither depends on a clock,
#: so first attempts keep the order of events whatever the clock does.
FIRST_ATTEMPT = 0
AT_ONCE = -1

_EVENT_COLUMNS = "v.sequence, v.id, v.type, v.subject, v.paycode_id, v.timestamp, v.data"
_DELIVERY_COLUMNS = (
    "d.sequence, d.endpoint_id, d.status, d.attempts, d.due_at, d.last_attempt_at, d.last_status, d.last_error,"
    " d.delivered_at"
)
_EVENTS = f"SELECT {_EVENT_COLUMNS} FROM events v"
_DELIVERIES = f"SELECT {_DELIVERY_COLUMNS} FROM deliveries d"

#: The fact that the node's whole past is in the outbox (`set_history_known`).
_HISTORY = "history"

#: The events that an endpoint row `e` wants of an event row `v`, whenever they became true.
_MATCHES = (
    "(e.events IS NULL OR EXISTS (SELECT 1 FROM json_each(e.events) WHERE value = v.type))"
    " AND (e.paycode_id IS NULL OR e.paycode_id = v.paycode_id)"
)

#: Those that are news to it. Time only tells them apart while a new sidecar reads the node's past; afterwards what is
#: new here is news, whatever the clock says.
_NEWS = f"{_MATCHES} AND (v.timestamp >= e.since OR EXISTS (SELECT 1 FROM facts WHERE name = '{_HISTORY}'))"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one attempt led to."""

    sequence: int
    status: DeliveryStatus
    #: unix seconds of the next attempt
    due_at: int
    #: unix seconds of this one
    at: int
    #: HTTP status
    answer: int | None
    error: str | None


def _event(row: tuple[Any, ...]) -> OutboxEvent:
    sequence, event_id, event_type, subject, paycode_id, timestamp, data = row
    return OutboxEvent(
        sequence=sequence,
        id=event_id,
        type=event_type,
        subject=subject,
        paycode_id=paycode_id,
        timestamp=timestamp,
        data=json.loads(data),
    )


def _delivery(row: tuple[Any, ...]) -> Delivery:
    sequence, endpoint_id, status, attempts, due_at, last_attempt_at, last_status, last_error, delivered_at = row
    return Delivery(
        sequence=sequence,
        endpoint_id=endpoint_id,
        status=DeliveryStatus(status),
        attempts=attempts,
        due_at=due_at,
        last_attempt_at=last_attempt_at,
        last_status=last_status,
        last_error=last_error,
        delivered_at=delivered_at,
    )


# --- making events ---


def add(sql: Sql, event: Event) -> bool:
    """Insert the event and a delivery for every endpoint that wants it; False when its id was ever here."""
    return add_rows(sql, [EventRow.of(event)]) == 1


def add_rows(sql: Sql, events: Iterable[tuple[Any, ...]]) -> int:
    """The same for many, each an `EventRow` or its plain tuple; how many were new."""
    last = sql.execute("SELECT coalesce(max(sequence), 0) FROM events").fetchone()[0]
    added = sql.executemany(
        "INSERT INTO events (id, type, subject, paycode_id, timestamp, data) SELECT ?1, ?, ?, ?, ?, ?"
        " WHERE NOT EXISTS (SELECT 1 FROM pruned_events WHERE id = ?1) ON CONFLICT (id) DO NOTHING",
        events,
    ).rowcount
    if added > 0:
        sql.execute(
            "INSERT INTO deliveries (endpoint_id, sequence, status, due_at)"
            f" SELECT e.endpoint_id, v.sequence, 'pending', {FIRST_ATTEMPT} FROM endpoints e, events v"
            f" WHERE v.sequence > ? AND {_NEWS}",
            (last,),
        )
    return max(0, added)


def is_known(sql: Sql, event_id: str) -> bool:
    """The event is here, or was and has been pruned."""
    return bool(
        sql.execute(
            "SELECT EXISTS (SELECT 1 FROM events WHERE id = ?1) OR EXISTS (SELECT 1 FROM pruned_events WHERE id = ?1)",
            (event_id,),
        ).fetchone()[0]
    )


def set_history_known(sql: Sql) -> None:
    """The node's whole past has been read: `since` of an endpoint has done its work."""
    sql.execute("INSERT OR IGNORE INTO facts (name, value) VALUES (?, 'known')", (_HISTORY,))


def backfill(sql: Sql, endpoint_id: str, *, from_sequence: int) -> None:
    """Deliveries to one endpoint of the events it wants from `from_sequence` on, since its `since`."""
    sql.execute(
        "INSERT OR IGNORE INTO deliveries (endpoint_id, sequence, status, due_at)"
        f" SELECT e.endpoint_id, v.sequence, 'pending', {FIRST_ATTEMPT} FROM endpoints e, events v"
        f" WHERE e.endpoint_id = ? AND v.sequence >= ? AND {_MATCHES} AND v.timestamp >= e.since ORDER BY v.sequence",
        (endpoint_id, from_sequence),
    )


def drop_unwanted(sql: Sql, endpoint_id: str) -> None:
    """Forget what one endpoint has not acknowledged and does not want any more."""
    sql.execute(
        "DELETE FROM deliveries WHERE endpoint_id = ?1 AND status <> 'delivered' AND sequence NOT IN"
        f" (SELECT v.sequence FROM endpoints e, events v WHERE e.endpoint_id = ?1 AND {_MATCHES})",
        (endpoint_id,),
    )


# --- delivering them ---


def endpoints_due(sql: Sql) -> list[tuple[str, int]]:
    """Endpoints that may be sent to and have something pending, each with the unix second at which it is due.

    Steps from one endpoint to the next in the index: a backlog, and endpoints without one, cost nothing.
    """
    rows = sql.execute(
        "WITH RECURSIVE waiting (endpoint_id) AS ("
        " SELECT min(endpoint_id) FROM deliveries WHERE status = 'pending'"
        " UNION ALL SELECT (SELECT min(d.endpoint_id) FROM deliveries d"
        "  WHERE d.status = 'pending' AND d.endpoint_id > w.endpoint_id)"
        " FROM waiting w WHERE w.endpoint_id IS NOT NULL)"
        " SELECT e.endpoint_id, max(e.resume_at,"
        "  (SELECT min(due_at) FROM deliveries d WHERE d.endpoint_id = e.endpoint_id AND d.status = 'pending'))"
        " FROM waiting w CROSS JOIN endpoints e USING (endpoint_id) WHERE e.status IN ('active', 'failing')"
    )
    return [(endpoint_id, due_at) for endpoint_id, due_at in rows]


def due(sql: Sql, endpoint_id: str, *, now: int, limit: int) -> list[tuple[Delivery, OutboxEvent]]:
    """The deliveries to one endpoint whose time has come: first attempts in the order of events, then retries."""
    rows = sql.execute(
        f"SELECT {_DELIVERY_COLUMNS}, {_EVENT_COLUMNS} FROM deliveries d CROSS JOIN events v USING (sequence)"
        " WHERE d.endpoint_id = ? AND d.status = 'pending' AND d.due_at <= ?"
        " ORDER BY d.due_at, d.sequence LIMIT ?",
        (endpoint_id, now, limit),
    ).fetchall()
    return [(_delivery(row[:9]), _event(row[9:])) for row in rows]


def record_acknowledged(sql: Sql, endpoint_id: str, outcomes: list[Outcome]) -> None:
    """Store that attempts were acknowledged; one statement for all of the same second and answer."""
    alike: dict[tuple[int, int | None], list[int]] = {}
    for outcome in outcomes:
        alike.setdefault((outcome.at, outcome.answer), []).append(outcome.sequence)
    for (at, answer), sequences in alike.items():
        sql.execute(
            "UPDATE deliveries SET status = 'delivered', attempts = attempts + 1, last_attempt_at = ?1,"
            " delivered_at = ?1, last_status = ?2, last_error = NULL"
            " WHERE endpoint_id = ?3 AND sequence IN (SELECT value FROM json_each(?4))",
            (at, answer, endpoint_id, json.dumps(sequences)),
        )


def record_failed(sql: Sql, endpoint_id: str, outcome: Outcome) -> None:
    """Store an attempt that was not acknowledged, and when the next one is due."""
    sql.execute(
        "UPDATE deliveries SET status = ?, attempts = attempts + 1, due_at = ?, last_attempt_at = ?, last_status = ?,"
        " last_error = ? WHERE endpoint_id = ? AND sequence = ?",
        (
            str(outcome.status),
            outcome.due_at,
            outcome.at,
            outcome.answer,
            outcome.error,
            endpoint_id,
            outcome.sequence,
        ),
    )


def follow_clock(sql: Sql, endpoint_id: str, *, now: int) -> None:
    """After the clock was set back: wait what was still to be waited, not until the old clock's time."""
    sql.execute(
        "UPDATE deliveries SET due_at = ? + max(0, due_at - last_attempt_at), last_attempt_at = ?"
        " WHERE endpoint_id = ? AND status = 'pending' AND due_at > ? AND last_attempt_at > ?",
        (now, now, endpoint_id, now, now),
    )


def bring_forward(sql: Sql, endpoint_id: str, *, now: int, most_attempts: int) -> None:
    """The endpoint is back: what waits because no one was there to take it goes out now.

    Deliveries that had more than `most_attempts` attempts keep the rest of their schedule.
    """
    sql.execute(
        "UPDATE deliveries SET due_at = ? WHERE endpoint_id = ? AND status = 'pending' AND due_at > ?"
        f" AND attempts <= ? AND (last_status IS NULL OR last_status IN {SLOW_DOWN})",
        (now, endpoint_id, now, most_attempts),
    )


def make_due(sql: Sql, *, event_id: str | None, endpoint_id: str | None) -> int:
    """Make deliveries that are waiting or exhausted due now, before all others; how many."""
    scope, parameters = ["status <> 'delivered'"], []  # type: list[str], list[str]
    if endpoint_id is not None:
        scope.append("endpoint_id = ?")
        parameters.append(endpoint_id)
    if event_id is not None:
        scope.append("sequence = (SELECT sequence FROM events WHERE id = ?)")
        parameters.append(event_id)
    return sql.execute(
        "UPDATE deliveries SET status = 'pending',"
        f" due_at = iif(status = 'pending' AND attempts = 0, {FIRST_ATTEMPT}, {AT_ONCE}),"
        f" attempts = iif(status = 'exhausted', 0, attempts) WHERE {' AND '.join(scope)}",
        parameters,
    ).rowcount


# --- telling them inside the node ---


def after(sql: Sql, sequence: int, *, limit: int) -> list[OutboxEvent]:
    """The events behind a sequence number."""
    return [_event(row) for row in sql.execute(f"{_EVENTS} WHERE v.sequence > ? LIMIT ?", (sequence, limit))]


# --- listing them ---


def event_by_id(sql: Sql, event_id: str) -> OutboxEvent | None:
    row = sql.execute(f"{_EVENTS} WHERE v.id = ?", (event_id,)).fetchone()
    return None if row is None else _event(row)


def first_sequence_timestamp(sql: Sql, from_sequence: int) -> int | None:
    """When the earliest of the events at or after a sequence became true."""
    row = sql.execute("SELECT min(timestamp) FROM events WHERE sequence >= ?", (from_sequence,)).fetchone()
    return None if row[0] is None else int(row[0])


def page(
    sql: Sql, *, statuses: tuple[DeliveryStatus, ...], event_type: str | None, start: int, limit: int
) -> list[tuple[OutboxEvent, list[Delivery]]]:
    """Events from sequence `start` on, each with its deliveries; with `statuses`, those with a delivery in one."""
    type_is = "" if event_type is None else "v.type = ? AND "
    parameters: list[Any] = [] if event_type is None else [event_type]
    if not statuses:
        query = f"{_EVENTS} WHERE {type_is}v.sequence >= ? ORDER BY v.sequence LIMIT ?"
        rows = sql.execute(query, (*parameters, start, limit)).fetchall()
    elif DeliveryStatus.DELIVERED in statuses:
        query = (
            f"{_EVENTS} WHERE {type_is}v.sequence >= ? AND EXISTS (SELECT 1 FROM deliveries d"
            " WHERE d.sequence = v.sequence AND d.status = 'delivered') ORDER BY v.sequence LIMIT ?"
        )
        rows = sql.execute(query, (*parameters, start, limit)).fetchall()
    else:
        rows = _unacknowledged(sql, statuses, type_is, parameters, start=start, limit=limit)
    return [(found, deliveries_of(sql, found.sequence)) for found in map(_event, rows)]


def _unacknowledged(
    sql: Sql, statuses: tuple[DeliveryStatus, ...], type_is: str, parameters: list[Any], *, start: int, limit: int
) -> list[tuple[Any, ...]]:
    """Rows of events that have a delivery in one of the states that `deliveries_unfinished` indexes."""
    found: dict[int, tuple[Any, ...]] = {}
    for status in statuses:
        query = (
            f"SELECT DISTINCT {_EVENT_COLUMNS} FROM deliveries d CROSS JOIN events v USING (sequence)"
            f" WHERE d.status = ? AND d.status <> 'delivered' AND {type_is}d.sequence >= ?"
            " ORDER BY d.sequence LIMIT ?"
        )
        found.update((row[0], row) for row in sql.execute(query, (str(status), *parameters, start, limit)))
    return [found[sequence] for sequence in sorted(found)[:limit]]


def deliveries_of(sql: Sql, sequence: int) -> list[Delivery]:
    rows = sql.execute(f"{_DELIVERIES} WHERE d.sequence = ? ORDER BY d.endpoint_id", (sequence,))
    return [_delivery(row) for row in rows]


def backlog(sql: Sql) -> tuple[int, int | None]:
    """How many deliveries are not acknowledged, and the unix seconds of the oldest one's event."""
    count = sql.execute("SELECT count(*) FROM deliveries WHERE status <> 'delivered'").fetchone()[0]
    oldest = sql.execute(
        "SELECT timestamp FROM events WHERE sequence = (SELECT min(first) FROM ("
        "SELECT min(sequence) AS first FROM deliveries WHERE status = 'pending' AND status <> 'delivered' UNION ALL"
        " SELECT min(sequence) FROM deliveries WHERE status = 'exhausted' AND status <> 'delivered'))"
    ).fetchone()
    return int(count), None if oldest is None else int(oldest[0])


def unacknowledged_by(sql: Sql, endpoint: Endpoint) -> tuple[int, int]:
    """How many deliveries to one endpoint are pending, and how many exhausted."""
    pending = sql.execute(
        "SELECT count(*) FROM deliveries WHERE endpoint_id = ? AND status = 'pending'", (endpoint.endpoint_id,)
    ).fetchone()[0]
    exhausted = sql.execute(
        "SELECT count(*) FROM deliveries WHERE endpoint_id = ? AND status = 'exhausted'", (endpoint.endpoint_id,)
    ).fetchone()[0]
    return int(pending), int(exhausted)


def event_count(sql: Sql) -> int:
    return int(sql.execute("SELECT count(*) FROM events").fetchone()[0])
