"""Events and their deliveries. Both are inserted with the state change that causes them, in one transaction."""

from __future__ import annotations

import json
from typing import Any

from ..core.events import Event
from ..core.records import Delivery, DeliveryStatus, Endpoint, OutboxEvent
from .store import Sql

_EVENT_COLUMNS = "sequence, id, type, subject, paycode_id, timestamp, data"
_DELIVERY_COLUMNS = (
    "sequence, endpoint_id, status, attempts, due_at, last_attempt_at, last_status, last_error, delivered_at"
)
_EVENTS = f"SELECT {_EVENT_COLUMNS} FROM events"
_DELIVERIES = f"SELECT {_DELIVERY_COLUMNS} FROM deliveries"

#: The events that an endpoint row `e` wants of an event row `v`.
_WANTED = (
    "(e.events IS NULL OR EXISTS (SELECT 1 FROM json_each(e.events) WHERE value = v.type))"
    " AND (e.paycode_id IS NULL OR e.paycode_id = v.paycode_id)"
    " AND v.timestamp >= e.since"
)


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
    (
        sequence,
        endpoint_id,
        status,
        attempts,
        due_at,
        last_attempt_at,
        last_status,
        last_error,
        delivered_at,
    ) = row
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


def add(sql: Sql, event: Event, *, now: int) -> bool:
    """Insert the event and a delivery for every endpoint that wants it; False when its id is there already."""
    row = sql.execute(
        "INSERT INTO events (id, type, subject, paycode_id, timestamp, data) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING RETURNING sequence",
        (
            event.id,
            str(event.type),
            event.subject,
            event.paycode_id,
            event.timestamp,
            json.dumps(event.data, separators=(",", ":"), ensure_ascii=False),
        ),
    ).fetchone()
    if row is None:
        return False
    sql.execute(
        "INSERT INTO deliveries (endpoint_id, sequence, status, due_at)"
        " SELECT e.endpoint_id, v.sequence, 'pending', ? FROM endpoints e, events v"
        f" WHERE v.sequence = ? AND {_WANTED}",
        (now, row[0]),
    )
    return True


def backfill(sql: Sql, endpoint_id: str, *, from_sequence: int, now: int) -> int:
    """Deliveries to one endpoint of the events it wants from `from_sequence` on; how many were made."""
    return sql.execute(
        "INSERT OR IGNORE INTO deliveries (endpoint_id, sequence, status, due_at)"
        " SELECT e.endpoint_id, v.sequence, 'pending', ? FROM endpoints e, events v"
        f" WHERE e.endpoint_id = ? AND v.sequence >= ? AND {_WANTED} ORDER BY v.sequence",
        (now, endpoint_id, from_sequence),
    ).rowcount


def due(sql: Sql, endpoint_id: str, *, now: int, limit: int) -> list[tuple[Delivery, OutboxEvent]]:
    """The deliveries to one endpoint whose time has come: first attempts in the order of events."""
    rows = sql.execute(
        f"{_DELIVERIES} WHERE endpoint_id = ? AND status = 'pending' AND due_at <= ? ORDER BY due_at, sequence LIMIT ?",
        (endpoint_id, now, limit),
    ).fetchall()
    deliveries = [_delivery(row) for row in rows]
    return [(delivery, event(sql, delivery.sequence)) for delivery in deliveries]


def next_due_at(sql: Sql, endpoint_id: str) -> int | None:
    """Unix seconds of the earliest pending delivery to one endpoint, or None."""
    row = sql.execute(
        "SELECT min(due_at) FROM deliveries WHERE endpoint_id = ? AND status = 'pending'", (endpoint_id,)
    ).fetchone()
    return None if row[0] is None else int(row[0])


def event(sql: Sql, sequence: int) -> OutboxEvent:
    return _event(sql.execute(f"{_EVENTS} WHERE sequence = ?", (sequence,)).fetchone())


def event_by_id(sql: Sql, event_id: str) -> OutboxEvent | None:
    row = sql.execute(f"{_EVENTS} WHERE id = ?", (event_id,)).fetchone()
    return None if row is None else _event(row)


def first_sequence_timestamp(sql: Sql, from_sequence: int) -> int | None:
    """When the first event at or after a sequence became true."""
    row = sql.execute(
        "SELECT timestamp FROM events WHERE sequence >= ? ORDER BY sequence LIMIT 1", (from_sequence,)
    ).fetchone()
    return None if row is None else int(row[0])


def record_attempt(
    sql: Sql,
    delivery: Delivery,
    *,
    status: DeliveryStatus,
    due_at: int,
    now: int,
    answer: int | None,
    error: str | None,
) -> None:
    """Store what one attempt led to."""
    sql.execute(
        "UPDATE deliveries SET status = ?, attempts = attempts + 1, due_at = ?, last_attempt_at = ?,"
        " last_status = ?, last_error = ?, delivered_at = ? WHERE endpoint_id = ? AND sequence = ?",
        (
            str(status),
            due_at,
            now,
            answer,
            error,
            now if status is DeliveryStatus.DELIVERED else None,
            delivery.endpoint_id,
            delivery.sequence,
        ),
    )


def make_due(sql: Sql, *, event_id: str | None, endpoint_id: str | None, now: int) -> int:
    """Make deliveries that are waiting or exhausted due now; how many."""
    return sql.execute(
        "UPDATE deliveries SET status = 'pending', due_at = ?,"
        " attempts = iif(status = 'exhausted', 0, attempts)"
        " WHERE status <> 'delivered' AND (? IS NULL OR endpoint_id = ?)"
        " AND (? IS NULL OR sequence = (SELECT sequence FROM events WHERE id = ?))",
        (now, endpoint_id, endpoint_id, event_id, event_id),
    ).rowcount


def page(
    sql: Sql, *, status: DeliveryStatus | None, event_type: str | None, start: int, limit: int
) -> list[tuple[OutboxEvent, list[Delivery]]]:
    """Events from sequence `start` on, each with its deliveries; with `status`, those with a delivery in it."""
    where, parameters = ["sequence >= ?"], [start]  # type: list[str], list[Any]
    if event_type is not None:
        where.append("type = ?")
        parameters.append(event_type)
    if status is not None:
        unfinished = "" if status is DeliveryStatus.DELIVERED else " AND status <> 'delivered'"
        where.append(f"sequence IN (SELECT sequence FROM deliveries WHERE status = ?{unfinished})")
        parameters.append(str(status))
    rows = sql.execute(
        f"{_EVENTS} WHERE {' AND '.join(where)} ORDER BY sequence LIMIT ?", (*parameters, limit)
    ).fetchall()
    return [(found, deliveries_of(sql, found.sequence)) for found in map(_event, rows)]


def deliveries_of(sql: Sql, sequence: int) -> list[Delivery]:
    rows = sql.execute(f"{_DELIVERIES} WHERE sequence = ? ORDER BY endpoint_id", (sequence,))
    return [_delivery(row) for row in rows]


def backlog(sql: Sql) -> tuple[int, int | None]:
    """How many deliveries are not acknowledged, and the unix seconds of the oldest one's event."""
    count = sql.execute("SELECT count(*) FROM deliveries WHERE status <> 'delivered'").fetchone()[0]
    oldest = sql.execute(
        "SELECT v.timestamp FROM deliveries d JOIN events v USING (sequence)"
        " WHERE d.status <> 'delivered' ORDER BY d.sequence LIMIT 1"
    ).fetchone()
    return int(count), None if oldest is None else int(oldest[0])


def pending_for(sql: Sql, endpoint: Endpoint) -> int:
    """Deliveries to one endpoint that are not acknowledged yet."""
    row = sql.execute(
        "SELECT count(*) FROM deliveries WHERE endpoint_id = ? AND status = 'pending'",
        (endpoint.endpoint_id,),
    ).fetchone()
    return int(row[0])


def event_count(sql: Sql) -> int:
    return int(sql.execute("SELECT count(*) FROM events").fetchone()[0])
