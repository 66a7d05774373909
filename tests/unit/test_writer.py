"""The one writer: many jobs share a commit, none shares another's failure, and done means on disk."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cln_paycodes.errors import SidecarUnavailable
from cln_paycodes.store.store import Sql, Store
from cln_paycodes.store.writer import MOST_JOBS, Rejected, Transaction
from samples import commit_levels

DEADLINE_S = 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "paycodes.sqlite3")
    yield store
    store.close()


@contextmanager
def _held(store: Store) -> Iterator[None]:
    """The writer is busy with a commit of its own: what is submitted meanwhile waits together."""
    started, release = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        started.set()
        release.wait(DEADLINE_S)

    held = store.submit(hold)
    assert started.wait(DEADLINE_S)
    try:
        yield
    finally:
        release.set()
    held.result(DEADLINE_S)


def _put(name: str, value: str = "value") -> Callable[[Transaction], str]:
    def job(tx: Transaction) -> str:
        tx.execute("INSERT INTO facts VALUES (?, ?)", (name, value))
        return name

    return job


def _names(store: Store) -> set[str]:
    """As another connection sees them."""
    with sqlite3.connect(store.path) as conn:
        found = {name for (name,) in conn.execute("SELECT name FROM facts")}
    conn.close()
    return found


def _commits(store: Store) -> list[str]:
    """Every COMMIT that the writing connection makes from now on."""
    seen: list[str] = []
    store._sidecar.writer.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    return seen


@pytest.mark.parametrize(("jobs", "commits"), [(1, 1), (100, 1), (MOST_JOBS, 1), (MOST_JOBS + 1, 2)])
def test_jobs_that_wait_together_share_commits(store: Store, jobs: int, commits: int) -> None:
    """A burst costs one fsync for up to 256 jobs, and every job has its own answer."""
    with _held(store):
        futures = [store.submit(_put(f"{number}")) for number in range(jobs)]
        seen = _commits(store)

    assert [future.result(DEADLINE_S) for future in futures] == [f"{number}" for number in range(jobs)]
    # One more is that of the job which held the writer.
    assert len(seen) == commits + 1
    assert len(_names(store)) == jobs


def test_job_that_raises_undoes_only_itself(store: Store) -> None:
    """Its neighbours in the same commit are on disk, and its caller gets what it raised."""

    def fails(tx: Transaction) -> None:
        _put("half")(tx)
        raise LookupError("no such invoice")

    with _held(store):
        before, failed, after = store.submit(_put("before")), store.submit(fails), store.submit(_put("after"))
        seen = _commits(store)

    assert (before.result(DEADLINE_S), after.result(DEADLINE_S)) == ("before", "after")
    with pytest.raises(LookupError, match="no such invoice"):
        failed.result(DEADLINE_S)
    assert _names(store) == {"before", "after"}
    assert len(seen) == 2


def test_job_that_breaks_a_constraint_undoes_only_itself(store: Store) -> None:
    """The second of two that want the same name loses, alone."""
    with _held(store):
        first, second, third = store.submit(_put("a")), store.submit(_put("a")), store.submit(_put("b"))

    assert (first.result(DEADLINE_S), third.result(DEADLINE_S)) == ("a", "b")
    with pytest.raises(Rejected, match="UNIQUE"):
        second.result(DEADLINE_S)
    assert _names(store) == {"a", "b"}


def test_job_sees_those_before_it(store: Store) -> None:
    """Jobs run in the order of submission, each on the outcome of the last."""

    def add(tx: Transaction) -> int:
        count = tx.execute("SELECT count(*) FROM facts").fetchone()[0]
        tx.execute("INSERT INTO facts VALUES (?, '')", (f"{count}",))
        return int(count)

    with _held(store):
        futures = [store.submit(add) for _ in range(20)]

    assert [future.result(DEADLINE_S) for future in futures] == list(range(20))


def test_future_is_done_only_after_the_commit(store: Store) -> None:
    """When a caller goes on, another connection sees its row; before the commit nobody was told."""
    told: list[bool] = []
    seen: list[tuple[bool, set[str]]] = []
    with _held(store):
        future = store.submit(_put("row"))
        store._sidecar.writer.set_trace_callback(
            lambda sql: told.append(future.done()) if sql == "COMMIT" else None  # before it runs
        )
        future.add_done_callback(lambda done: seen.append((done.done(), _names(store))))
    future.result(DEADLINE_S)
    store.write(_put("later"))

    assert told[1] is False
    assert seen == [(True, {"row"})]


def test_after_commit_runs_on_disk_and_before_the_caller(store: Store) -> None:
    """Who waits for a change is woken after the commit, and not at all by a job that failed."""
    seen: list[tuple[str, set[str], bool]] = []
    futures: list[Future[None]] = []

    def job(name: str, error: Exception | None) -> Callable[[Transaction], None]:
        def run(tx: Transaction) -> None:
            _put(name)(tx)
            tx.after_commit(lambda: seen.append((name, _names(store), futures[0].done())))
            if error is not None:
                raise error

        return run

    with _held(store):
        futures.append(store.submit(job("good", None)))
        failed = store.submit(job("bad", ValueError("no")))
    futures[0].result(DEADLINE_S)

    assert isinstance(failed.exception(DEADLINE_S), ValueError)
    assert seen == [("good", {"good"}, False)]


@contextmanager
def _full_disk(store: Store) -> Iterator[None]:
    writer = store._sidecar.writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    yield
    writer.execute("PRAGMA max_page_count = 1000000")


@contextmanager
def _readonly_disk(store: Store) -> Iterator[None]:
    store._sidecar.writer.execute("PRAGMA query_only = ON")
    yield
    store._sidecar.writer.execute("PRAGMA query_only = OFF")


@pytest.mark.parametrize(("broken", "reason"), [(_full_disk, "full"), (_readonly_disk, "readonly")])
def test_disk_that_cannot_be_written_changes_nothing(store: Store, broken: Any, reason: str) -> None:
    """Everyone in the commit learns that nothing was changed, and once there is room it goes on."""
    store.write(_put("before"))
    with ExitStack() as disk:
        with _held(store):
            disk.enter_context(broken(store))
            small, big = store.submit(_put("small")), store.submit(_put("big", "x" * 1_000_000))
        for future in (small, big):
            with pytest.raises(SidecarUnavailable, match=f"{reason}.*nothing was changed"):
                future.result(DEADLINE_S)

        assert _names(store) == {"before"}
    store.write(_put("after"))
    assert _names(store) == {"before", "after"}


def test_close_finishes_what_was_submitted(tmp_path: Path) -> None:
    """Every job that was taken is on disk when the store is closed; later ones are refused at once."""
    store = Store(tmp_path / "paycodes.sqlite3")
    with _held(store):
        futures = [store.submit(_put(f"{number}")) for number in range(MOST_JOBS * 2)]
        closing = threading.Thread(target=store.close)
        closing.start()
    closing.join(DEADLINE_S)

    assert not closing.is_alive()
    assert all(future.done() and future.exception() is None for future in futures)
    assert len(_names(store)) == MOST_JOBS * 2
    with pytest.raises(SidecarUnavailable, match="the plugin is stopping"):
        store.write(_put("late"))


def test_submitting_while_it_closes_leaves_no_one_waiting(tmp_path: Path) -> None:
    """Whoever submits at that moment is either written or refused."""
    store = Store(tmp_path / "paycodes.sqlite3")
    futures: list[Future[str]] = []
    refused = threading.Event()

    def submit_until_refused(thread: int) -> None:
        number = 0
        while not refused.is_set():
            future = store.submit(_put(f"{thread}/{number}"))
            futures.append(future)
            number += 1
            if future.done() and future.exception() is not None:
                refused.set()

    threads = [threading.Thread(target=submit_until_refused, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    store.close()
    for thread in threads:
        thread.join(DEADLINE_S)

    outcomes = [future.exception(DEADLINE_S) for future in futures]
    written = sum(outcome is None for outcome in outcomes)
    assert all(outcome is None or isinstance(outcome, SidecarUnavailable) for outcome in outcomes)
    assert len(_names(store)) == written


def test_read_sees_every_commit_before_it(store: Store) -> None:
    """A write that returned is in the next read of any thread."""
    seen: list[int] = []

    def read() -> None:
        seen.append(store.read(lambda sql: sql.execute("SELECT count(*) FROM facts").fetchone()[0]))

    for number in range(3):
        store.write(_put(f"{number}"))
        reading = threading.Thread(target=read)
        reading.start()
        reading.join(DEADLINE_S)

    assert seen == [1, 2, 3]


def test_snapshot_is_of_one_moment(store: Store) -> None:
    """What is written between two statements of it is in neither."""

    def count_twice(sql: Sql) -> list[int]:
        counts = [_count(sql)]
        store.write(_put("between"))
        return [*counts, _count(sql)]

    counts = store.snapshot(count_twice)

    assert counts == [0, 0]
    assert store.read(_count) == 1


def _count(sql: Sql) -> int:
    return int(sql.execute("SELECT count(*) FROM facts").fetchone()[0])


def test_read_error_is_the_sidecars(store: Store) -> None:
    """What SQLite raises in a read does not come out as such."""
    with pytest.raises(SidecarUnavailable, match="cannot be read"):
        store.read(lambda sql: sql.execute("SELECT * FROM nowhere"))


def test_callback_that_raises_ends_nothing(tmp_path: Path) -> None:
    """What is to be done after a commit may fail: the job is done, and the writer goes on."""
    store = Store(tmp_path / "sidecar.sqlite3")

    def job(tx: Transaction) -> str:
        tx.after_commit(lambda: 1 // 0)
        return "on disk"

    first, second = store.write(job), store.write(lambda _: "still there")
    store.close()

    assert (first, second) == ("on disk", "still there")


def test_job_that_need_not_be_durable_waits_for_no_disk_and_is_seen(store: Store) -> None:
    """Its commit leaves the fsync to the next that is durable, and every reader sees it at once."""
    seen = commit_levels(store)
    store.submit(_put("first"), durable=False).result(DEADLINE_S)
    names = _names(store)
    store.write(_put("second"))

    assert names == {"first"}
    assert seen == [1, 2]


def test_one_durable_job_makes_the_whole_commit_durable(store: Store) -> None:
    """Those that it shares a commit with cannot take the disk from it."""
    with _held(store):
        futures = [store.submit(_put(f"{number}"), durable=number == 1) for number in range(3)]
        seen = commit_levels(store)
    for future in futures:
        future.result(DEADLINE_S)

    assert seen == [2, 2]


def test_job_knows_whether_others_wait_for_it(store: Store) -> None:
    """Those that share its commit, and those that come while it runs."""

    def asked_before_and_after(tx: Transaction) -> tuple[bool, bool]:
        before = tx.is_awaited()
        store.submit(lambda _: None)
        return before, tx.is_awaited()

    alone = store.write(asked_before_and_after)
    with _held(store):
        futures = [store.submit(lambda tx: tx.is_awaited()) for _ in range(2)]

    assert alone == (False, True)
    assert [future.result(DEADLINE_S) for future in futures] == [True, True]
