"""One writer with group commit: many small transactions share one fsync.

A job is a function of a `Transaction`. Jobs that wait together are run one after the other inside one SQLite
transaction, each in a savepoint of its own (one that is alone needs none), so that one that raises undoes only itself.
A caller's future is done after the commit that holds its job is on disk, never before.

A job may say that it need not be `durable`, because what it writes can be asked of the node again. A commit of
such jobs alone is seen by every reader, survives the end of the process, and gets to the disk with the next one that is
(SQLite's `synchronous`: NORMAL in place of FULL, which in WAL leaves out the fsync).
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..errors import SidecarUnavailable, describe

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Jobs that may share one commit: bounds how long the first of them waits.
MOST_JOBS = 256


class Rejected(Exception):
    """A job, or a part of one, broke a rule of the tables, and was undone."""


class Transaction:
    """What a job works with: SQL, and things to do once it is on disk."""

    def __init__(self, conn: sqlite3.Connection, *, is_awaited: Callable[[], bool]) -> None:
        self._conn = conn
        self._after: list[Callable[[], None]] = []
        #: other jobs wait for this one: what it has much of, it may do the rest of in another
        self.is_awaited = is_awaited

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        return self._conn.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        return self._conn.executemany(sql, parameters)

    @contextmanager
    def part(self) -> Iterator[None]:
        """Some of the job's statements that succeed or fail together: what raises undoes only them, and goes on up."""
        done_before = len(self._after)
        self._conn.execute("SAVEPOINT part")
        try:
            yield
        except BaseException as e:
            self._conn.execute("ROLLBACK TO part")
            del self._after[done_before:]
            if isinstance(e, sqlite3.IntegrityError):
                raise Rejected(str(e)) from e
            raise
        finally:
            self._conn.execute("RELEASE part")

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the writer's thread when the job is on disk; it must be short."""
        self._after.append(callback)


@dataclass(slots=True)
class _Job(Generic[T]):
    run: Callable[[Transaction], T]
    durable: bool = True
    future: Future[T] = field(default_factory=Future)
    after: list[Callable[[], None]] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Owns the writing connection and the one thread that uses it."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._syncs = True
        self._queue: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="paycodes-writer", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[Transaction], T], *, durable: bool = True) -> Future[T]:
        """The future is done when the job is on disk (not `durable`: when it can be read), or holds what it raised,
        Rejected, or SidecarUnavailable.
        """
        job: _Job[T] = _Job(run, durable)
        with self._closing:
            if not self._closed:
                self._queue.put(job)
                return job.future
        job.future.set_exception(SidecarUnavailable("the sidecar is closed: the plugin is stopping"))
        return job.future

    def close(self) -> None:
        """Finish what is queued and stop."""
        with self._closing:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while True:
            batch, stopping = self._next_batch()
            if batch:
                self._commit(batch)
            if stopping:
                return

    def _next_batch(self) -> tuple[list[_Job[Any]], bool]:
        batch: list[_Job[Any]] = []
        try:
            job = self._queue.get()
            while job is not None:
                batch.append(job)
                if len(batch) == MOST_JOBS:
                    return batch, False
                job = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _commit(self, batch: list[_Job[Any]]) -> None:
        try:
            self._sync(any(job.durable for job in batch))
            self._conn.execute("BEGIN IMMEDIATE")
            if len(batch) == 1:
                self._run(batch[0], is_awaited=lambda: not self._queue.empty())
                self._conn.execute("COMMIT" if batch[0].error is None else "ROLLBACK")
            else:
                for job in batch:
                    self._run_beside_others(job)
                self._conn.execute("COMMIT")
        except sqlite3.Error as e:
            self._roll_back()
            for job in batch:
                unavailable = SidecarUnavailable(f"the sidecar cannot be written ({e}): nothing was changed")
                unavailable.__cause__ = e
                job.future.set_exception(unavailable)
            return
        for job in batch:
            for callback in job.after:
                _call(callback)
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)

    def _sync(self, wanted: bool) -> None:
        if wanted != self._syncs:
            self._conn.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._syncs = wanted

    def _run_beside_others(self, job: _Job[Any]) -> None:
        self._conn.execute("SAVEPOINT job")
        self._run(job, is_awaited=lambda: True)
        if job.error is not None:
            self._conn.execute("ROLLBACK TO job")
        self._conn.execute("RELEASE job")

    def _run(self, job: _Job[Any], *, is_awaited: Callable[[], bool]) -> None:
        transaction = Transaction(self._conn, is_awaited=is_awaited)
        try:
            job.result = job.run(transaction)
        except sqlite3.OperationalError:
            raise  # disk full, I/O error, locked: the whole commit fails
        except sqlite3.IntegrityError as e:
            job.error = Rejected(str(e))
        except BaseException as e:
            job.error = e
        else:
            job.after = transaction._after

    def _roll_back(self) -> None:
        if self._conn.in_transaction:
            self._conn.execute("ROLLBACK")


def _call(callback: Callable[[], None]) -> None:
    """What is on disk stays so, and the writer goes on, whatever those who are told of it do."""
    try:
        callback()
    except Exception as e:
        log.error("something to do after a commit failed: %s", describe(e))
