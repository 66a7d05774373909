"""Opening the sidecar: every check that must pass before a byte of it is changed.

Order: the path can be used, no other process has the sidecar, the file is empty or a whole SQLite database of ours
and not of a newer plugin; only then migrations run. A file that fails a check is left as it is.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from ..errors import SidecarUnavailable
from .schema import APPLICATION_ID, migrations

#: STRICT tables came with it (November 2021).
_OLDEST_SQLITE = (3, 37, 0)

_MIGRATIONS_TABLE = "_sqlite_migrations"

#: Seconds that the process before this one has to end: its node died, and was started again at once. Held HTLCs that
#: the node offers again meanwhile would be lost to a plugin that does not work yet.
ENDING_S = 5.0

#: Seconds between two looks whether it has.
_LOOK_S = 0.05


class Sidecar:
    """The open file, its lock, and the way to get connections to it."""

    def __init__(self, path: Path) -> None:
        """Raises SidecarUnavailable, saying what to do; the file is then untouched."""
        self.path = path
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise SidecarUnavailable(
                f"SQLite {sqlite3.sqlite_version} is too old: the plugin's Python needs 3.37 or newer"
            )
        if os.path.exists(path) and not os.path.isfile(path):
            raise SidecarUnavailable(f"the sidecar path {path} is not a file: set paycodes-db to one")
        self._lock_fd = _take_lock(path)
        try:
            _refuse_foreign_file(path)
            self._create_private(path)
            self._file = _identity(path)
            self.writer = self._open_writer()
        except (sqlite3.Error, OSError) as e:
            self._unlock()
            raise SidecarUnavailable(f"cannot open the sidecar {path}: {e}") from e
        except SidecarUnavailable:
            self._unlock()
            raise

    @staticmethod
    def _create_private(path: Path) -> None:
        """Mode 0600 from its first moment; WAL and shared memory files inherit it."""
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)

    def _open_writer(self) -> sqlite3.Connection:
        """The writing connection to a file with every migration applied."""
        conn = self._connect()
        try:
            # First of all: a file that a crash left behind half made is then known as ours.
            conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            conn.execute("PRAGMA journal_mode = WAL")
            conn.execute("PRAGMA synchronous = FULL")
            # Room for a few thousand new rows and the pages of their indexes: these are written once, not many times.
            conn.execute("PRAGMA cache_size = -16000")
            conn.execute("PRAGMA wal_autocheckpoint = 4000")
            migrations.apply(Database(conn, execute_plugins=False))
        except BaseException:
            conn.close()
            raise
        return conn

    def _connect(self) -> sqlite3.Connection:
        conn = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
        conn.execute("PRAGMA foreign_keys = ON")
        return conn

    def reader(self) -> sqlite3.Connection:
        """A connection that cannot write, for one thread; SidecarUnavailable when the writer's file is not there."""
        if _identity(self.path) != self._file:
            raise SidecarUnavailable(
                f"the sidecar {self.path} was deleted or replaced while the plugin has it open:"
                " stop and start the plugin, which rebuilds it from the node"
            )
        conn = self._connect()
        conn.execute("PRAGMA query_only = ON")
        return conn

    def close(self) -> None:
        self.writer.close()
        self._unlock()

    def _unlock(self) -> None:
        os.close(self._lock_fd)


def _identity(path: Path) -> tuple[int, int] | None:
    """Of the file that has this name now, None when there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _take_lock(path: Path) -> int:
    """One plugin process per sidecar; the kernel gives the lock back when the process ends, however it ends."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        fd = os.open(lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise SidecarUnavailable(
            f"cannot use the sidecar path {path}: {e.strerror}; set paycodes-db to a file in a writable directory"
        ) from e
    until = time.monotonic() + ENDING_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except OSError as e:
            if time.monotonic() >= until:
                os.close(fd)
                raise SidecarUnavailable(f"another process has the sidecar {path}: stop it first") from e
        time.sleep(_LOOK_S)


def _refuse_foreign_file(path: Path) -> None:
    """Look at an existing file without changing it; SidecarUnavailable unless it is ours and readable."""
    if not path.exists() or path.stat().st_size == 0:
        return
    advice = "move it away (reconcile full=true rebuilds the books from the node) or set paycodes-db"
    # Without a WAL beside it the file alone is the database, and nothing is made beside it by looking.
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"
    try:
        conn = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)
        try:
            ours = conn.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
            if not ours:
                raise SidecarUnavailable(f"{path} is not a sidecar of this plugin: {advice}")
            if conn.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise SidecarUnavailable(f"the sidecar {path} is damaged: {advice}")
            made = conn.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_MIGRATIONS_TABLE,)).fetchone()
            applied = {row[0] for row in conn.execute(f"SELECT name FROM {_MIGRATIONS_TABLE}")} if made else set()
        finally:
            conn.close()
    except sqlite3.Error as e:
        raise SidecarUnavailable(f"the sidecar {path} is damaged or not SQLite ({e}): {advice}") from e
    with closing(sqlite3.connect(":memory:")) as empty:
        known = {migration.name for migration in migrations.pending(Database(empty, execute_plugins=False))}
    if newer := applied - known:
        raise SidecarUnavailable(
            f"the sidecar {path} was written by a newer version ({', '.join(sorted(newer))}): upgrade the plugin"
        )
