"""The watcher: a change at the node leads to a run of reconcile, and many changes cost one call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from backend import eventually
from cln_paycodes.errors import NodeUnknown, SidecarUnavailable
from cln_paycodes.services import watching
from cln_paycodes.services.watching import Watcher

PAID = "invoices.updated"
HOUR_S = 3600


class Node:
    """Indexes that move, and calls that are parked until they do."""

    def __init__(self) -> None:
        self.indexes = {"invoices.updated": 0, "invoices.deleted": 0, "sendpays.updated": 0}
        self.waited: list[tuple[str, int]] = []
        self._moved = threading.Condition()
        self._closed = False

    def wait_index(self, *, subsystem: str, index: str, value: int) -> None:
        name = f"{subsystem}.{index}"
        with self._moved:
            self.waited.append((name, value))
            self._moved.wait_for(lambda: self.indexes[name] >= value or self._closed)
        if self._closed:
            raise NodeUnknown("it is gone")

    def move(self, name: str) -> None:
        with self._moved:
            self.indexes[name] += 1
            self._moved.notify_all()

    def close(self) -> None:
        with self._moved:
            self._closed = True
            self._moved.notify_all()


class Reconciler:
    """Runs that see the node's indexes when they begin; `during` is what happens while one is under way."""

    again_in_s = None

    def __init__(self, node: Node) -> None:
        self._node = node
        self.seen: dict[str, int] = {}
        self.runs: list[dict[str, int]] = []
        self.during: Callable[[], None] = lambda: None
        self.stop = lambda: None
        #: what looks for invoices that are over find, one after the other; then nothing
        self.looks: Iterator[Callable[[], bool]] = iter(())

    def is_any_over(self) -> bool:
        return next(self.looks, lambda: False)()

    def run(self) -> Any:
        seen = dict(self._node.indexes)
        self.runs.append(seen)
        self.during()
        self.seen = seen
        return SimpleNamespace(summary=lambda: "", duration_ms=0)

    def has_seen(self, name: str) -> int:
        return self.seen.get(name, -1)


class Watched:
    def __init__(self) -> None:
        self.node = Node()
        self.reconciler = Reconciler(self.node)
        self.watcher = Watcher(self.reconciler, self.node, interval_s=HOUR_S)  # type: ignore[arg-type]  # what it calls

    def waits(self, name: str) -> list[int]:
        return [value for waited, value in self.node.waited if waited == name]

    def is_parked(self) -> bool:
        return {name for name, _ in self.node.waited} == set(self.node.indexes)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(watching, "SETTLE_S", 0.05)
    monkeypatch.setattr(watching, "RETRY_S", 0.05)
    monkeypatch.setattr(watching, "LOOK_S", 0.01)
    watched = Watched()
    yield watched
    watched.watcher.stop()
    watched.node.close()


@pytest.mark.parametrize("name", ["invoices.updated", "invoices.deleted", "sendpays.updated"])
def test_change_that_nobody_told_leads_to_a_run(watched: Watched, name: str) -> None:
    """Each index that is watched, time after time."""
    watched.watcher.start()
    for value in (1, 2, 3):
        eventually(watched.is_parked)
        watched.node.move(name)

        eventually(lambda value=value: watched.reconciler.has_seen(name) == value)


def test_burst_of_changes_costs_one_call_a_run(watched: Watched) -> None:
    """While a run is to come nothing is asked of the node, however many are paid."""
    watched.watcher.start()
    eventually(watched.is_parked)
    for _ in range(500):
        watched.node.move(PAID)
    eventually(lambda: watched.reconciler.has_seen(PAID) == 500)
    eventually(lambda: watched.waits(PAID)[-1] == 501)

    assert len(watched.waits(PAID)) <= len(watched.reconciler.runs)


def test_change_during_a_run_leads_to_another_run(watched: Watched) -> None:
    """One that came too late for the run that is under way is found by the next."""
    late = iter([lambda: watched.node.move(PAID)])
    watched.reconciler.during = lambda: next(late, lambda: None)()
    watched.watcher.start()

    eventually(lambda: watched.reconciler.has_seen(PAID) == 1)
    assert [seen[PAID] for seen in watched.reconciler.runs] == [0, 1]


def test_run_that_failed_is_tried_again_and_watched_from_there(watched: Watched) -> None:
    """What the failed one had not seen is no reason to run again and again: the pause is kept."""

    def fail() -> None:
        watched.reconciler.during = lambda: None
        watched.node.move(PAID)
        raise NodeUnknown("it does not answer")

    watched.reconciler.during = fail
    watched.watcher.start()
    eventually(watched.is_parked)

    assert [seen[PAID] for seen in watched.reconciler.runs] == [0, 1]
    assert watched.waits(PAID) == [2]
    assert watched.watcher.last_error is None


def test_invoice_that_is_over_leads_to_a_run(watched: Watched) -> None:
    """The node does not tell of one that it never knew; a look that fails ends nothing."""

    def fail() -> bool:
        raise SidecarUnavailable("the disk is away")

    watched.reconciler.looks = iter([fail, lambda: False, lambda: True])
    watched.watcher.start()

    eventually(lambda: len(watched.reconciler.runs) == 2)
