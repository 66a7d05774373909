"""The table of endpoints: receivers of events."""

from __future__ import annotations

import json
from typing import Any

from ..core.records import Endpoint, EndpointStatus
from .store import Sql

_COLUMNS = (
    "endpoint_id, url, events, paycode_id, sealed_secrets, status, since, mirrored, failing_since, last_error,"
    " last_success_at, created_at, updated_at, sealed_credentials, old_secrets_until, failures, last_failure_at,"
    " resume_at"
)
_SELECT = f"SELECT {_COLUMNS} FROM endpoints"


def _record(row: tuple[Any, ...]) -> Endpoint:
    (endpoint_id, url, events, paycode_id, sealed_secrets, status, since, mirrored, failing_since, last_error,
     last_success_at, created_at, updated_at, sealed_credentials, old_secrets_until, failures, last_failure_at,
     resume_at) = row  # fmt: skip
    return Endpoint(
        endpoint_id=endpoint_id,
        url=url,
        events=None if events is None else tuple(json.loads(events)),
        paycode_id=paycode_id,
        sealed_secrets=tuple(json.loads(sealed_secrets)),
        status=EndpointStatus(status),
        since=since,
        mirrored=bool(mirrored),
        failing_since=failing_since,
        last_error=last_error,
        last_success_at=last_success_at,
        created_at=created_at,
        updated_at=updated_at,
        sealed_credentials=sealed_credentials,
        old_secrets_until=old_secrets_until,
        failures=failures,
        last_failure_at=last_failure_at,
        resume_at=resume_at,
    )


def by_id(sql: Sql, endpoint_id: str) -> Endpoint | None:
    row = sql.execute(f"{_SELECT} WHERE endpoint_id = ?", (endpoint_id,)).fetchone()
    return None if row is None else _record(row)


def every(sql: Sql) -> list[Endpoint]:
    return [_record(row) for row in sql.execute(f"{_SELECT} ORDER BY created_at, rowid")]


def are_there(sql: Sql) -> bool:
    """There is an endpoint, in whatever state."""
    return bool(sql.execute("SELECT EXISTS (SELECT 1 FROM endpoints)").fetchone()[0])


def unmirrored(sql: Sql) -> list[Endpoint]:
    """Endpoints whose definition in the node's datastore is not the one here."""
    return [_record(row) for row in sql.execute(f"{_SELECT} WHERE NOT mirrored")]


def save(sql: Sql, endpoint: Endpoint) -> None:
    """Insert the endpoint, or replace what it was."""
    columns = {
        "endpoint_id": endpoint.endpoint_id,
        "url": endpoint.url,
        "events": None if endpoint.events is None else json.dumps(endpoint.events),
        "paycode_id": endpoint.paycode_id,
        "sealed_secrets": json.dumps(endpoint.sealed_secrets),
        "status": str(endpoint.status),
        "since": endpoint.since,
        "mirrored": endpoint.mirrored,
        "failing_since": endpoint.failing_since,
        "last_error": endpoint.last_error,
        "last_success_at": endpoint.last_success_at,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
        "sealed_credentials": endpoint.sealed_credentials,
        "old_secrets_until": endpoint.old_secrets_until,
        "failures": endpoint.failures,
        "last_failure_at": endpoint.last_failure_at,
        "resume_at": endpoint.resume_at,
    }
    assignments = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "endpoint_id")
    sql.execute(
        f"INSERT INTO endpoints ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        f" ON CONFLICT (endpoint_id) DO UPDATE SET {assignments}",
        tuple(columns.values()),
    )


def mark_mirrored(sql: Sql, endpoint: Endpoint) -> None:
    """The node's datastore has this definition; nothing happens if it has changed meanwhile."""
    sql.execute(
        "UPDATE endpoints SET mirrored = 1 WHERE endpoint_id = ? AND updated_at = ? AND (status = 'disabled') = ?",
        (endpoint.endpoint_id, endpoint.updated_at, endpoint.status is EndpointStatus.DISABLED),
    )


def record_success(sql: Sql, endpoint_id: str, *, now: int) -> None:
    """It acknowledged: whatever it failed with before is over."""
    sql.execute(
        "UPDATE endpoints SET failing_since = NULL, last_error = NULL, last_success_at = ?, failures = 0,"
        " resume_at = 0, status = iif(status = 'failing', 'active', status) WHERE endpoint_id = ?",
        (now, endpoint_id),
    )


def record_failure(sql: Sql, endpoint_id: str, *, failing_since: int, error: str, now: int, resume_at: int) -> None:
    """It failed once more."""
    sql.execute(
        "UPDATE endpoints SET failing_since = ?, last_error = ?, last_failure_at = ?,"
        " failures = failures + 1, resume_at = ?, status = iif(status = 'active', 'failing', status)"
        " WHERE endpoint_id = ?",
        (failing_since, error, now, resume_at, endpoint_id),
    )


def lift_pause(sql: Sql, endpoint_id: str | None) -> None:
    """Let what is due go out at once, as if it had not failed; None: for every endpoint."""
    sql.execute("UPDATE endpoints SET failures = 0, resume_at = 0 WHERE ?1 IS NULL OR endpoint_id = ?1", (endpoint_id,))


def ahead_of(sql: Sql, now: int) -> list[str]:
    """Endpoints that last failed at a moment that is still to come: the clock was set back since."""
    return [row[0] for row in sql.execute("SELECT endpoint_id FROM endpoints WHERE last_failure_at > ?", (now,))]


def follow_clock(sql: Sql, endpoint_id: str, *, now: int) -> None:
    """After the clock was set back: wait what was still to be waited, not until the old clock's time."""
    sql.execute(
        "UPDATE endpoints SET resume_at = ? + max(0, resume_at - last_failure_at), last_failure_at = ?"
        " WHERE endpoint_id = ? AND last_failure_at > ?",
        (now, now, endpoint_id, now),
    )


def disable(sql: Sql, endpoint_id: str, *, now: int) -> None:
    """Nothing more is sent to it; `untold_ends` lists it until `mark_told`."""
    sql.execute(
        "UPDATE endpoints SET status = 'disabled', end_untold = 1, mirrored = 0, updated_at = ? WHERE endpoint_id = ?",
        (now, endpoint_id),
    )


def untold_ends(sql: Sql) -> list[Endpoint]:
    """Disabled endpoints of which nobody has been told yet."""
    return [_record(row) for row in sql.execute(f"{_SELECT} WHERE end_untold")]


def mark_told(sql: Sql, endpoint_id: str) -> None:
    sql.execute("UPDATE endpoints SET end_untold = 0 WHERE endpoint_id = ?", (endpoint_id,))


def remove(sql: Sql, endpoint_id: str) -> None:
    """Forget the endpoint and its deliveries."""
    sql.execute("DELETE FROM endpoints WHERE endpoint_id = ?", (endpoint_id,))
