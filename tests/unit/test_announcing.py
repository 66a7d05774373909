"""Events told inside the node, and acknowledged ones forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backend import Backend, eventually
from cln_paycodes.core.events import TOPICS, EventType
from cln_paycodes.core.records import DeliveryStatus
from cln_paycodes.services.announcing import Announcer
from cln_paycodes.services.pruning import Pruner
from cln_paycodes.store import cursors, endpoints, outbox
from samples import NOW


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    opened = Backend(tmp_path)
    yield opened
    opened.close()


def tell(backend: Backend, *, until: int, fails: int = 0) -> list[tuple[str, Any]]:
    """What an announcer tells until it has told that many, the first `fails` of which do not get through."""
    told: list[tuple[str, Any]] = []

    def emit(topic: str, content: dict[str, Any]) -> None:
        told.append((topic, content))
        if len(told) <= fails:
            raise BrokenPipeError

    announcer = Announcer(backend.store, emit)
    announcer.start()
    eventually(lambda: len(told) >= until)
    announcer.stop()
    return told


def test_every_type_has_a_topic_that_the_node_takes() -> None:
    """One each, in the plugin's name space, without hyphens."""
    assert set(TOPICS) == set(EventType)
    assert len(set(TOPICS.values())) == len(TOPICS)
    assert all(topic.startswith("paycode_") and topic.isidentifier() for topic in TOPICS.values())


def test_events_are_told_in_order_and_once(backend: Backend) -> None:
    """An announcer that starts later tells what is new, and nothing again."""
    backend.make(*range(100))
    first = tell(backend, until=100)
    eventually(lambda: backend.store.read(lambda sql: cursors.fact(sql, "announced")) == "100")
    backend.make(100)
    second = tell(backend, until=1)

    assert [content["sequence"] for _, content in first] == list(range(1, 101))
    assert {topic for topic, _ in first} == {"paycode_paid"}
    assert [content["data"] for _, content in second] == [{"index": 100}]


def test_event_whose_telling_was_cut_off_is_told_again(backend: Backend) -> None:
    """Told and written down are two steps: what is not written down is told by the next life."""
    backend.make(1, 2)
    tell(backend, until=1, fails=1)
    again = tell(backend, until=2)

    assert [content["sequence"] for _, content in again] == [1, 2]


def test_end_of_an_endpoint_is_told_once(backend: Backend) -> None:
    """`paycode_endpoint_disabled` says which one and why."""
    endpoint = backend.add("http://127.0.0.1:1/")
    backend.store.write(lambda tx: endpoints.disable(tx, endpoint.endpoint_id, now=NOW))
    told = tell(backend, until=1)
    eventually(lambda: backend.store.read(endpoints.untold_ends) == [])

    assert [(topic, content["endpoint"]) for topic, content in told] == [
        ("paycode_endpoint_disabled", endpoint.endpoint_id)
    ]


def test_pass_over_the_outbox_forgets_only_what_is_acknowledged_and_old(backend: Backend) -> None:
    """Over more than one page; a second pass has nothing to do."""
    endpoint = backend.add("http://127.0.0.1:1/")
    backend.make(*range(500))
    done = [
        outbox.Outcome(sequence=n, status=DeliveryStatus.DELIVERED, due_at=NOW, at=NOW, answer=200, error=None)
        for n in range(1, 451)
    ]
    backend.store.write(lambda tx: outbox.record_acknowledged(tx, endpoint.endpoint_id, done))
    pruner = Pruner(backend.store, clock=lambda: backend.now, retention_s=60)
    too_early = pruner.prune()
    backend.now += 60
    forgotten = [pruner.prune() for _ in range(2)]

    assert too_early == 0
    assert forgotten == [450, 0]
    assert backend.store.read(outbox.event_count) == 50
