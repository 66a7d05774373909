"""The one door to the sidecar: `write` waits for the disk, `submit` does not, `read` never waits for a writer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..errors import SidecarUnavailable
from .database import Sidecar
from .writer import Transaction, Writer

T = TypeVar("T")


class Sql(Protocol):
    """What the table modules need: a transaction or a reading connection."""

    def execute(self, sql: str, parameters: Any = ..., /) -> sqlite3.Cursor: ...

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor: ...


class _Reader:
    """A thread's own connection, closed with the thread or the store, whichever goes first."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn

    def __del__(self) -> None:
        self.conn.close()


class Store:
    def __init__(self, path: Path) -> None:
        """Open (and create or migrate) the sidecar; raises SidecarUnavailable with what to do."""
        self._sidecar = Sidecar(path)
        self._writer = Writer(self._sidecar.writer)
        self._local = threading.local()
        self.path = path

    def submit(self, job: Callable[[Transaction], T], *, durable: bool = True) -> Future[T]:
        """Queue a transaction; the future is done when it is on disk, or (not `durable`) when it can be read."""
        return self._writer.submit(job, durable=durable)

    def write(self, job: Callable[[Transaction], T]) -> T:
        """Run a transaction and return when it is on disk."""
        return self._writer.submit(job).result()

    def read(self, job: Callable[[Sql], T]) -> T:
        """Run a read on this thread's own connection: it sees every commit that was done before."""
        try:
            return job(self._reader())
        except sqlite3.Error as e:
            raise SidecarUnavailable(f"the sidecar cannot be read: {e}") from e

    def snapshot(self, job: Callable[[Sql], T]) -> T:
        """The same, but all statements of the job see one moment."""

        def at_once(sql: Sql) -> T:
            sql.execute("BEGIN")
            try:
                return job(sql)
            finally:
                sql.execute("ROLLBACK")

        return self.read(at_once)

    def _reader(self) -> sqlite3.Connection:
        reader: _Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = _Reader(self._sidecar.reader())
        return reader.conn

    def close(self) -> None:
        """Finish what was submitted and let go of the file."""
        self._writer.close()
        self._sidecar.close()
