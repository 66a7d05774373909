"""Opening the sidecar: a fresh one is whole, and a file that is not ours or not sound is left as it is."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cln_paycodes.errors import SidecarUnavailable
from cln_paycodes.store import database
from cln_paycodes.store.database import Sidecar
from cln_paycodes.store.schema import APPLICATION_ID, migrations
from sqlite_utils import Database, Migrations

NOBODY = 65534


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for statement in statements:
            conn.execute(statement)


def _schema(conn: sqlite3.Connection) -> list[tuple[str, ...]]:
    return conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()


def _pragma(conn: sqlite3.Connection, name: str) -> object:
    return conn.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "paycodes.sqlite3"


def test_fresh_sidecar_equals_the_migrations_replayed_one_by_one(path: Path) -> None:
    """Whoever started with the first version has the same tables as who starts today."""
    for last in range(1, len(migrations._migrations) + 1):
        one_more = Migrations(migrations.name)
        one_more._migrations = migrations._migrations[:last]
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            one_more.apply(Database(conn, execute_plugins=False))
    with closing(sqlite3.connect(path)) as conn:
        replayed = _schema(conn)
    with closing(Sidecar(path.with_name("fresh.sqlite3"))) as sidecar:
        fresh = _schema(sidecar.writer)

    assert fresh == replayed
    assert {"paycodes", "invoices", "events", "endpoints", "deliveries"} <= {name for _, name, _, _ in fresh}


def test_sidecar_is_ours_private_and_durable(path: Path) -> None:
    """Nobody else reads it, a commit is on disk when it returns, and other programs can tell whose it is."""
    with closing(Sidecar(path)) as sidecar:
        sidecar.writer.execute("INSERT INTO facts VALUES ('name', 'value')")
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        settings = {name: _pragma(sidecar.writer, name) for name in ("journal_mode", "synchronous", "foreign_keys")}

        assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        assert _pragma(sidecar.writer, "application_id") == APPLICATION_ID
    assert modes == dict.fromkeys([path.name + end for end in ("", "-wal", "-shm", ".lock")], 0o600)


def test_sidecar_that_others_could_read_becomes_private(path: Path) -> None:
    """A file that was copied back with loose permissions is closed again."""
    Sidecar(path).close()
    path.chmod(0o644)

    Sidecar(path).close()

    assert path.stat().st_mode & 0o777 == 0o600


def test_sidecar_opens_again_with_what_was_written(path: Path) -> None:
    """A second start finds the first one's rows and runs no migration twice."""
    with closing(Sidecar(path)) as sidecar:
        sidecar.writer.execute("INSERT INTO facts VALUES ('name', 'value')")

    with closing(Sidecar(path)) as sidecar, closing(sidecar.reader()) as reader:
        assert reader.execute("SELECT value FROM facts").fetchall() == [("value",)]


def test_reader_cannot_write(path: Path) -> None:
    """Only the writer changes the books."""
    with (
        closing(Sidecar(path)) as sidecar,
        closing(sidecar.reader()) as reader,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        reader.execute("DELETE FROM facts")


@pytest.mark.parametrize("replaced", [False, True])
def test_reader_of_a_file_that_was_deleted_is_refused(path: Path, replaced: bool) -> None:
    """Whoever deletes the sidecar of a running plugin is told what to do, and no empty file takes its place."""
    with closing(Sidecar(path)) as sidecar:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        if replaced:
            path.touch()
        with pytest.raises(SidecarUnavailable, match="stop and start the plugin"):
            sidecar.reader()

        assert path.exists() == replaced


def test_sidecar_at_a_strange_path_opens(tmp_path: Path) -> None:
    """Characters that mean something in a URI mean nothing in a path."""
    path = tmp_path / "100% a#b?mode=rw é.sqlite3"
    Sidecar(path).close()

    Sidecar(path).close()

    assert path.exists()


CRASHING = """
import os, signal, sys
from pathlib import Path
from cln_paycodes.store import database

def crash_at(statement):
    left = statement
    def trace(sql):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    connect = database.Sidecar._connect
    def connect_traced(self):
        conn = connect(self)
        conn.set_trace_callback(trace)
        return conn
    database.Sidecar._connect = connect_traced

statement = 0
while True:
    statement += 1
    path = Path(sys.argv[1]) / f"{statement}.sqlite3"
    child = os.fork()
    if child == 0:
        crash_at(statement)
        database.Sidecar(path)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
    database.Sidecar(path).close()
print(statement)
"""


def test_sidecar_opens_wherever_its_making_was_killed(tmp_path: Path) -> None:
    """The plugin killed before any statement of the first start leaves a file that the next start takes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    done = subprocess.run(
        [sys.executable, "-c", CRASHING, str(tmp_path)], env=environment, capture_output=True, text=True
    )

    assert done.stderr == ""
    assert int(done.stdout) > 20


def _write_text(path: Path) -> None:
    path.write_text("a shopping list, not a database\n" * 100)


def _write_foreign(path: Path) -> None:
    _execute(path, "CREATE TABLE wallets (id INTEGER)", "INSERT INTO wallets VALUES (1)")


def _write_foreign_wal(path: Path) -> None:
    _execute(path, "PRAGMA journal_mode = WAL", "CREATE TABLE wallets (id INTEGER)")


def _write_foreign_with_an_id(path: Path) -> None:
    _execute(path, "PRAGMA application_id = 7", "CREATE TABLE wallets (id INTEGER)")


def _write_newer(path: Path) -> None:
    Sidecar(path).close()
    _execute(path, "INSERT INTO _sqlite_migrations VALUES (99, 'paycodes', 'm099_future', '2030-01-01')")


def _write_corrupted(path: Path) -> None:
    with closing(Sidecar(path)) as sidecar:
        sidecar.writer.executemany("INSERT INTO facts VALUES (?, ?)", [(f"{n}", "x" * 500) for n in range(100)])
    raw = bytearray(path.read_bytes())
    raw[4096 * 3 :] = b"\xa5" * len(raw[4096 * 3 :])
    path.write_bytes(raw)


def _write_truncated(path: Path) -> None:
    Sidecar(path).close()
    path.write_bytes(path.read_bytes()[:6000])


def _write_one_byte(path: Path) -> None:
    path.write_bytes(b"S")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_write_text, r"damaged or not SQLite .*: move it away .* or set paycodes-db"),
        (_write_one_byte, r"move it away"),
        (_write_foreign, r"is not a sidecar of this plugin: move it away .* or set paycodes-db"),
        (_write_foreign_wal, r"is not a sidecar of this plugin"),
        (_write_foreign_with_an_id, r"is not a sidecar of this plugin"),
        (_write_newer, r"written by a newer version \(m099_future\): upgrade the plugin"),
        (_write_corrupted, r"damaged.*: move it away \(reconcile full=true rebuilds"),
        (_write_truncated, r"damaged.*: move it away"),
    ],
)
def test_file_that_is_not_a_sound_sidecar_is_left_as_it_is(
    path: Path, make: Callable[[Path], None], message: str
) -> None:
    """It is refused with what to do, no byte of it and no file beside it changes, and the lock is given back."""
    make(path)
    path.chmod(0o644)
    before = {
        file: (file.read_bytes(), file.stat().st_mode) for file in path.parent.iterdir() if file.suffix != ".lock"
    }

    with pytest.raises(SidecarUnavailable, match=message) as refused:
        Sidecar(path)

    after = {file: (file.read_bytes(), file.stat().st_mode) for file in path.parent.iterdir() if file.suffix != ".lock"}
    assert after == before
    assert str(path) in refused.value.message
    path.unlink()
    Sidecar(path).close()


def test_directory_in_place_of_the_file_is_refused(path: Path) -> None:
    """It stays an empty directory, and nobody is told to move it away."""
    path.mkdir()

    with pytest.raises(SidecarUnavailable, match=r"paycodes\.sqlite3 is not a file: set paycodes-db to one"):
        Sidecar(path)

    assert list(path.parent.iterdir()) == [path]
    assert list(path.iterdir()) == []


def test_root_directory_is_refused() -> None:
    """It has no name to put a lock beside."""
    with pytest.raises(SidecarUnavailable, match="/ is not a file"):
        Sidecar(Path("/"))


def test_what_is_no_file_keeps_its_mode(path: Path) -> None:
    """A device or a pipe is refused as it is: /dev/null made private would break every program of the machine."""
    os.mkfifo(path)
    path.chmod(0o666)

    with pytest.raises(SidecarUnavailable, match="is not a file"):
        Sidecar(path)

    assert path.stat().st_mode & 0o777 == 0o666
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("place", ["missing/paycodes.sqlite3", "file/paycodes.sqlite3"])
def test_path_without_a_directory_is_refused(tmp_path: Path, place: str) -> None:
    """A directory that is not there is not made, and a file is not taken for one."""
    (tmp_path / "file").write_text("text")

    with pytest.raises(SidecarUnavailable, match="set paycodes-db to a file in a writable directory"):
        Sidecar(tmp_path / place)

    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@contextmanager
def _without_privileges() -> Iterator[None]:
    """As nobody, where the tests run as root: root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_directory_without_permission_is_refused(tmp_path: Path) -> None:
    """The message says what to do about it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)

    with _without_privileges(), pytest.raises(SidecarUnavailable, match=r"Permission denied; set paycodes-db"):
        Sidecar(closed / "paycodes.sqlite3")

    closed.chmod(0o700)
    assert list(closed.iterdir()) == []


HOLDING = """
import sys
from pathlib import Path
from cln_paycodes.store.database import Sidecar
sidecar = Sidecar(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_second_process_is_refused_until_the_first_is_gone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two plugins never share a sidecar; one that ends soon is waited for."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"open\n"
        before = path.read_bytes()

        with monkeypatch.context() as patch:
            patch.setattr(database, "ENDING_S", 0)
            with pytest.raises(SidecarUnavailable, match=r"another process has the sidecar .*: stop it first"):
                Sidecar(path)

        assert path.read_bytes() == before

        def end_first(_: float) -> None:
            first.kill()
            first.wait()

        monkeypatch.setattr(database.time, "sleep", end_first)
        Sidecar(path).close()
