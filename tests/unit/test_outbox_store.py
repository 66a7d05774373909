"""The tables of events and deliveries."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cln_paycodes.core.events import Event, EventRow, EventType, event_id
from cln_paycodes.core.records import DeliveryStatus, Endpoint, EndpointStatus
from cln_paycodes.store import endpoints, outbox, retention
from samples import NOW, Explained, memory_sidecar

P, D, X = DeliveryStatus.PENDING, DeliveryStatus.DELIVERED, DeliveryStatus.EXHAUSTED


@pytest.fixture
def sql() -> Iterator[sqlite3.Connection]:
    """A sidecar that knows the node's past."""
    with memory_sidecar() as conn:
        outbox.set_history_known(conn)
        yield conn


def event_of(number: int, **changes: Any) -> Event:
    event_type = changes.pop("type", EventType.INVOICE_PAID)
    fields: dict[str, Any] = {
        "id": event_id("02", event_type, str(number)),
        "type": event_type,
        "subject": str(number),
        "paycode_id": "code",
        "timestamp": NOW + number,
        "data": {"index": number},
    }
    return Event(**{**fields, **changes})


def add_endpoint(sql: Any, endpoint_id: str, **changes: Any) -> Endpoint:
    endpoint = Endpoint(
        endpoint_id=endpoint_id,
        url=f"https://{endpoint_id}.example/",
        events=None,
        paycode_id=None,
        sealed_secrets=("sealed",),
        status=EndpointStatus.ACTIVE,
        since=NOW,
        mirrored=True,
        failing_since=None,
        last_error=None,
        last_success_at=None,
        created_at=NOW,
        updated_at=NOW,
    )
    endpoint = replace(endpoint, **changes)
    endpoints.save(sql, endpoint)
    return endpoint


def outcome_of(sequence: int, status: DeliveryStatus, *, at: int = NOW, **changes: Any) -> outbox.Outcome:
    fields: dict[str, Any] = {"due_at": at + 5, "at": at, "answer": 500, "error": "HTTP 500"}
    return outbox.Outcome(sequence=sequence, status=status, **{**fields, **changes})


def acknowledge(sql: Any, endpoint_id: str, *sequences: int, at: int = NOW) -> None:
    outbox.record_acknowledged(sql, endpoint_id, [outcome_of(n, D, at=at, answer=200) for n in sequences])


def due_now(sql: Any, endpoint_id: str, now: int = NOW) -> list[int]:
    return [delivery.sequence for delivery, _ in outbox.due(sql, endpoint_id, now=now, limit=100)]


def test_event_is_made_once(sql: Any) -> None:
    """The second insert of an id changes nothing and makes no second delivery."""
    add_endpoint(sql, "ep_a")
    made = [outbox.add(sql, event_of(1)), outbox.add(sql, event_of(1, data={"other": True}))]

    assert made == [True, False]
    assert outbox.due(sql, "ep_a", now=NOW, limit=9)[0][1].data == {"index": 1}
    assert outbox.event_count(sql) == 1


def test_many_events_are_made_together(sql: Any) -> None:
    """Those that are new, in their order, each with its deliveries; those that were ever here are left out."""
    add_endpoint(sql, "ep_a")
    add_endpoint(sql, "ep_b", paycode_id="other")
    outbox.add(sql, event_of(2))
    sql.execute("INSERT INTO pruned_events (id) VALUES (?)", (event_of(4).id,))
    events = [event_of(1), event_of(2), event_of(3, paycode_id="other"), event_of(4)]
    made = outbox.add_rows(sql, map(EventRow.of, events))
    again = outbox.add_rows(sql, map(EventRow.of, events))

    assert (made, again, outbox.add_rows(sql, [])) == (2, 0, 0)
    assert [event.subject for _, event in outbox.due(sql, "ep_a", now=NOW, limit=9)] == ["2", "1", "3"]
    assert [event.subject for _, event in outbox.due(sql, "ep_b", now=NOW, limit=9)] == ["3"]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, [1, 2, 3]),
        ({"events": ("invoice.paid",)}, [1, 3]),
        ({"events": ("invoice.expired", "invoice.paid")}, [1, 2, 3]),
        ({"paycode_id": "other"}, [3]),
        ({"paycode_id": "none"}, []),
    ],
)
def test_endpoint_gets_what_it_asked_for(sql: Any, filters: dict[str, Any], wanted: list[int]) -> None:
    """Types and code decide, for new events and for those that are there already."""
    add_endpoint(sql, "ep_before", **filters)
    outbox.add(sql, event_of(1))
    outbox.add(sql, event_of(2, type=EventType.INVOICE_EXPIRED))
    outbox.add(sql, event_of(3, paycode_id="other"))
    add_endpoint(sql, "ep_after", **filters)
    outbox.backfill(sql, "ep_after", from_sequence=0)

    assert due_now(sql, "ep_before") == wanted
    assert due_now(sql, "ep_after") == wanted


def test_news_is_sent_whatever_its_time_says(sql: Any) -> None:
    """An event whose time lies before its endpoint was added, as after the clock was set back, is sent."""
    add_endpoint(sql, "ep_a", since=NOW + 1000)
    outbox.add(sql, event_of(1))

    assert due_now(sql, "ep_a") == [1]


def test_rebuilt_sidecar_does_not_send_what_was_before_the_endpoint() -> None:
    """While the node's past is read, an endpoint gets what became true since it was added."""
    with memory_sidecar() as sql:
        add_endpoint(sql, "ep_a", since=NOW + 2)
        for number in (1, 2, 3):
            outbox.add(sql, event_of(number))
        sent = due_now(sql, "ep_a")

    assert sent == [2, 3]


def test_first_attempts_keep_the_order_of_events(sql: Any) -> None:
    """Retries wait behind them, and a clock that goes back does not put a later event first."""
    add_endpoint(sql, "ep_a")
    for number in (1, 2, 3, 4):
        outbox.add(sql, event_of(number, timestamp=NOW - number * 1000))
    outbox.record_failed(sql, "ep_a", outcome_of(2, P, due_at=NOW))

    assert due_now(sql, "ep_a") == [1, 3, 4, 2]


def test_acknowledged_and_exhausted_are_not_due(sql: Any) -> None:
    """What came of an attempt is stored with its time, answer and error."""
    add_endpoint(sql, "ep_a")
    for number in (1, 2, 3):
        outbox.add(sql, event_of(number))
    acknowledge(sql, "ep_a", 1)
    outbox.record_failed(sql, "ep_a", outcome_of(2, X))
    delivered, given_up = outbox.deliveries_of(sql, 1)[0], outbox.deliveries_of(sql, 2)[0]

    assert due_now(sql, "ep_a") == [3]
    assert (delivered.status, delivered.attempts, delivered.delivered_at) == (D, 1, NOW)
    assert (delivered.last_status, delivered.last_error) == (200, None)
    assert (given_up.status, given_up.attempts, given_up.last_status, given_up.last_error) == (X, 1, 500, "HTTP 500")
    assert given_up.delivered_at is None


def test_retry_revives_the_exhausted_before_all_others(sql: Any) -> None:
    """outbox-retry gives an exhausted delivery its whole schedule again, and puts it first."""
    add_endpoint(sql, "ep_a")
    for number in (1, 2, 3):
        outbox.add(sql, event_of(number))
    outbox.record_failed(sql, "ep_a", outcome_of(3, X))
    acknowledge(sql, "ep_a", 1)
    made = outbox.make_due(sql, event_id=event_of(3).id, endpoint_id=None)

    assert made == 1
    assert due_now(sql, "ep_a") == [3, 2]
    assert outbox.deliveries_of(sql, 3)[0].attempts == 0


def test_retry_of_one_endpoint_leaves_others(sql: Any) -> None:
    """Only what the named endpoint has not acknowledged is made due."""
    for endpoint_id in ("ep_a", "ep_b"):
        add_endpoint(sql, endpoint_id)
    outbox.add(sql, event_of(1))
    for endpoint_id in ("ep_a", "ep_b"):
        outbox.record_failed(sql, endpoint_id, outcome_of(1, P, due_at=NOW + 500))

    assert outbox.make_due(sql, event_id=None, endpoint_id="ep_a") == 1
    assert (due_now(sql, "ep_a"), due_now(sql, "ep_b")) == ([1], [])


def test_endpoint_is_due_when_its_pause_and_its_delivery_are_over(sql: Any) -> None:
    """The later of both counts; who is paused, disabled or has nothing is not in the list."""
    add_endpoint(sql, "ep_now")
    add_endpoint(sql, "ep_pause", resume_at=NOW + 300, status=EndpointStatus.FAILING)
    add_endpoint(sql, "ep_paused", status=EndpointStatus.PAUSED)
    add_endpoint(sql, "ep_off", status=EndpointStatus.DISABLED)
    add_endpoint(sql, "ep_retry")
    outbox.add(sql, event_of(1))
    add_endpoint(sql, "ep_idle")
    outbox.record_failed(sql, "ep_retry", outcome_of(1, P, due_at=NOW + 5))

    assert outbox.endpoints_due(sql) == [("ep_now", 0), ("ep_pause", NOW + 300), ("ep_retry", NOW + 5)]


def test_clock_set_back_does_not_stretch_a_wait(sql: Any) -> None:
    """What was to be waited from the last attempt on is waited from now on, whatever the old clock said."""
    add_endpoint(sql, "ep_a", resume_at=NOW + 60, last_failure_at=NOW, failures=3)
    outbox.add(sql, event_of(1))
    outbox.record_failed(sql, "ep_a", outcome_of(1, P, due_at=NOW + 300))
    earlier = NOW - 10**8
    before = endpoints.ahead_of(sql, earlier)
    for table in (outbox, endpoints):
        table.follow_clock(sql, "ep_a", now=earlier)  # type: ignore[attr-defined]  # both tables have it
    endpoint = endpoints.by_id(sql, "ep_a")

    assert (before, endpoints.ahead_of(sql, earlier)) == (["ep_a"], [])
    assert outbox.deliveries_of(sql, 1)[0].due_at == earlier + 300
    assert endpoint is not None
    assert endpoint.resume_at == earlier + 60


def test_endpoint_that_is_back_gets_what_waited_for_it(sql: Any) -> None:
    """Deliveries that found nobody are brought forward, those that were refused and the last attempts are not."""
    add_endpoint(sql, "ep_a")
    for number, answer in ((1, None), (2, 503), (3, 500), (4, None)):
        outbox.add(sql, event_of(number))
        outbox.record_failed(sql, "ep_a", outcome_of(number, P, due_at=NOW + 5000, answer=answer))
    for _ in range(7):
        outbox.record_failed(sql, "ep_a", outcome_of(4, P, due_at=NOW + 5000, answer=None))
    outbox.bring_forward(sql, "ep_a", now=NOW, most_attempts=7)

    assert due_now(sql, "ep_a") == [1, 2]


def test_narrowed_endpoint_drops_what_it_no_longer_wants(sql: Any) -> None:
    """What it has acknowledged stays in the list, what it has not and does not want is gone."""
    endpoint = add_endpoint(sql, "ep_a")
    for number in (1, 2, 3):
        outbox.add(sql, event_of(number, type=EventType.INVOICE_EXPIRED if number < 3 else EventType.INVOICE_PAID))
    acknowledge(sql, "ep_a", 1)
    endpoints.save(sql, replace(endpoint, events=("invoice.paid",)))
    outbox.drop_unwanted(sql, "ep_a")

    assert [len(outbox.deliveries_of(sql, n)) for n in (1, 2, 3)] == [1, 0, 1]


# --- lists ---


@pytest.fixture
def mixed(sql: Any) -> Any:
    """Five events to two endpoints: delivered, half delivered, pending, exhausted at one, of another type."""
    for endpoint_id in ("ep_a", "ep_b"):
        add_endpoint(sql, endpoint_id)
    for number in (1, 2, 3, 4):
        outbox.add(sql, event_of(number))
    outbox.add(sql, event_of(5, type=EventType.INVOICE_EXPIRED))
    acknowledge(sql, "ep_a", 1, 2, 4)
    acknowledge(sql, "ep_b", 1)
    outbox.record_failed(sql, "ep_b", outcome_of(4, X))
    return sql


@pytest.mark.parametrize(
    ("statuses", "event_type", "start", "limit", "expected"),
    [
        ((), None, 0, 10, [1, 2, 3, 4, 5]),
        ((), None, 2, 2, [2, 3]),
        ((), "invoice.expired", 0, 10, [5]),
        ((P,), None, 0, 10, [2, 3, 5]),
        ((P,), None, 3, 1, [3]),
        ((P,), "invoice.paid", 0, 10, [2, 3]),
        ((X,), None, 0, 10, [4]),
        ((P, X), None, 0, 10, [2, 3, 4, 5]),
        ((P, X), None, 0, 2, [2, 3]),
        ((P, X), None, 4, 10, [4, 5]),
        ((D,), None, 0, 10, [1, 2, 4]),
        ((D,), "invoice.expired", 0, 10, []),
    ],
)
def test_list_shows_the_events_in_a_state(
    mixed: Any,
    statuses: tuple[DeliveryStatus, ...],
    event_type: str | None,
    start: int,
    limit: int,
    expected: list[int],
) -> None:
    """Each event once, in order, with all its deliveries."""
    found = outbox.page(mixed, statuses=statuses, event_type=event_type, start=start, limit=limit)

    assert [event.sequence for event, _ in found] == expected
    assert all(len(deliveries) == 2 for _, deliveries in found)


def test_backlog_counts_what_is_not_acknowledged(mixed: Any) -> None:
    """Pending and exhausted ones of all endpoints, and the time of the oldest one's event."""
    endpoint = endpoints.by_id(mixed, "ep_b")
    assert endpoint is not None

    assert outbox.backlog(mixed) == (6, NOW + 2)
    assert outbox.unacknowledged_by(mixed, endpoint) == (3, 1)


# --- retention ---


def test_only_what_everyone_has_acknowledged_is_forgotten(mixed: Any) -> None:
    """Pending, exhausted and never wanted events stay, whatever their age."""
    prunable, go_on = retention.prunable(mixed, start=0, acknowledged_until=NOW, limit=100)
    forgotten = retention.prune(mixed, [1, 2, 3, 4, 5], acknowledged_until=NOW)

    assert (prunable, go_on) == ([1], None)
    assert forgotten == 1
    assert outbox.event_count(mixed) == 4
    assert outbox.deliveries_of(mixed, 1) == []


def test_event_without_a_receiver_is_kept(sql: Any) -> None:
    """Nobody has acknowledged it, and an endpoint added later may ask for it."""
    outbox.add(sql, event_of(1))

    assert retention.prune(sql, [1], acknowledged_until=NOW * 2) == 0


def test_acknowledged_event_is_kept_for_its_time(mixed: Any) -> None:
    """The last acknowledgement starts it."""
    assert retention.prune(mixed, [1], acknowledged_until=NOW - 1) == 0


def test_forgotten_event_is_never_made_again(mixed: Any) -> None:
    """Its id stays known: the sweep that meets its payment again makes nothing, and no sequence is used twice."""
    retention.prune(mixed, [1], acknowledged_until=NOW)
    again = outbox.add(mixed, event_of(1))
    known = outbox.is_known(mixed, event_of(1).id)
    outbox.add(mixed, event_of(6))

    assert not again
    assert known
    assert not outbox.is_known(mixed, event_of(7).id)
    assert [event.sequence for event, _ in outbox.page(mixed, statuses=(), event_type=None, start=0, limit=9)] == [
        2, 3, 4, 5, 6
    ]  # fmt: skip


def test_pass_over_the_outbox_goes_on_where_a_page_ended(mixed: Any) -> None:
    """A page names the sequence behind it until there are no more."""
    assert retention.prunable(mixed, start=0, acknowledged_until=NOW, limit=2) == ([1], 3)
    assert retention.prunable(mixed, start=6, acknowledged_until=NOW, limit=2) == ([], None)


# --- speed ---


ENDPOINT = Endpoint(**dict.fromkeys(Endpoint.__dataclass_fields__) | {"endpoint_id": "ep_a"})  # type: ignore[arg-type]

HOT = {
    "due": lambda sql: outbox.due(sql, "ep_a", now=NOW, limit=64),
    "endpoints_due": outbox.endpoints_due,
    "record_acknowledged": lambda sql: acknowledge(sql, "ep_a", 2, 3),
    "record_failed": lambda sql: outbox.record_failed(sql, "ep_a", outcome_of(2, P)),
    "after": lambda sql: outbox.after(sql, 2, limit=64),
    "is_known": lambda sql: outbox.is_known(sql, "evt_1"),
    "add": lambda sql: outbox.add(sql, event_of(9)),
    "add many": lambda sql: outbox.add_rows(sql, [EventRow.of(event_of(number)) for number in (9, 10, 1)]),
    "retry one": lambda sql: outbox.make_due(sql, event_id=event_of(4).id, endpoint_id=None),
    "list": lambda sql: outbox.page(sql, statuses=(), event_type=None, start=2, limit=100),
    "list of a type": lambda sql: outbox.page(sql, statuses=(), event_type="invoice.paid", start=2, limit=100),
    "list unacknowledged": lambda sql: outbox.page(sql, statuses=(P, X), event_type=None, start=2, limit=100),
    "list delivered": lambda sql: outbox.page(sql, statuses=(D,), event_type=None, start=2, limit=100),
    "backlog": outbox.backlog,
    "pending of one": lambda sql: outbox.unacknowledged_by(sql, ENDPOINT),
    "prunable": lambda sql: retention.prunable(sql, start=2, acknowledged_until=NOW, limit=100),
}

#: Tables that grow with payments: they are searched by an index, or walked in the order of an index that is as short
#: as what is asked for; never read whole, never sorted.
_WHOLE = re.compile(r"^SCAN (v|d|deliveries|events|pruned_events)\b(?!.*USING (COVERING )?INDEX deliveries_unfinished)")


@pytest.mark.parametrize("name", HOT)
def test_hot_query_uses_an_index(mixed: Any, name: str) -> None:
    """No query of every delivery, event or list reads or sorts a table that grows with payments."""
    explained = Explained(mixed)
    HOT[name](explained)

    assert explained.plans
    assert [plan for plan in explained.plans if _WHOLE.match(plan) or "TEMP B-TREE FOR ORDER" in plan] == []
