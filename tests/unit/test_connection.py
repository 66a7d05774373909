"""The connection to lightningd: many calls on one socket, and "no answer" is an outcome of its own."""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cln_paycodes.errors import NodeRefused, NodeUnknown
from cln_paycodes.node.connection import Connection

DEADLINE_S = 20


class SocketNode:
    """A unix socket that takes requests as lightningd does, and answers what the test says."""

    def __init__(self, path: Path) -> None:
        self.requests: queue.Queue[tuple[socket.socket, dict[str, Any]]] = queue.Queue()
        self.connections: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        directory = os.open(path.parent, os.O_RDONLY)
        self._listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                conn, _ = self._listener.accept()
                self.connections.append(conn)
                self._threads.append(threading.Thread(target=self._read, args=(conn,)))
                self._threads[-1].start()

    def _read(self, conn: socket.socket) -> None:
        received = b""
        with suppress(OSError):
            while chunk := conn.recv(1 << 16):
                *whole, received = (received + chunk).split(b"\n\n")
                for message in whole:
                    self.requests.put((conn, json.loads(message)))

    def next(self) -> tuple[socket.socket, dict[str, Any]]:
        return self.requests.get(timeout=DEADLINE_S)

    def close(self) -> None:
        for sock in [self._listener, *self.connections]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(DEADLINE_S)


def _answer(request: dict[str, Any], **outcome: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], **outcome}).encode() + b"\n\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rpc"


@pytest.fixture
def node(path: Path) -> Iterator[SocketNode]:
    with closing(SocketNode(path)) as node:
        yield node


@pytest.fixture
def connection(path: Path) -> Iterator[Connection]:
    with closing(Connection(str(path))) as connection:
        yield connection


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def _start(
    pool: ThreadPoolExecutor, connection: Connection, method: str = "getinfo", timeout_s: float | None = DEADLINE_S
) -> Future[Any]:
    return pool.submit(connection.call, method, {}, timeout_s=timeout_s)


def test_call_is_a_json_rpc_request(node: SocketNode, connection: Connection, pool: ThreadPoolExecutor) -> None:
    """Method and parameters arrive as JSON-RPC 2.0, the result comes back."""
    call = pool.submit(connection.call, "invoice", {"label": "é"}, timeout_s=DEADLINE_S)
    conn, request = node.next()
    conn.sendall(_answer(request, result={"bolt11": "lnbc1"}))

    assert call.result(DEADLINE_S) == {"bolt11": "lnbc1"}
    assert (request["jsonrpc"], request["method"], request["params"]) == ("2.0", "invoice", {"label": "é"})
    assert request["id"].startswith("cln-paycodes:invoice#")


def test_calls_share_one_connection_and_are_answered_in_any_order(
    node: SocketNode, connection: Connection, pool: ThreadPoolExecutor
) -> None:
    """All are sent before the first is answered, and each gets its own answer."""
    calls = {f"method{number}": _start(pool, connection, f"method{number}") for number in range(20)}
    requests = [node.next() for _ in calls]
    for conn, request in reversed(requests):
        conn.sendall(_answer(request, result=request["method"]))

    assert {name: call.result(DEADLINE_S) for name, call in calls.items()} == {name: name for name in calls}
    assert len(node.connections) == 1
    assert len({request["id"] for _, request in requests}) == 20


def test_call_that_no_thread_waits_for_ends_in_time_as_well(node: SocketNode, connection: Connection) -> None:
    """The reading thread looks for those whose time is up."""
    call = connection.begin("invoice", {}, timeout_s=0.01)
    node.next()

    assert isinstance(call.exception(DEADLINE_S), NodeUnknown)


def test_batching_is_asked_for_on_each_new_connection(node: SocketNode, path: Path) -> None:
    """It comes before the first call, and again after the connection was lost."""
    with closing(Connection(str(path), batching=True)) as connection:
        for _ in range(2):
            call = connection.begin("createinvoice", {}, timeout_s=DEADLINE_S)
            conn, first = node.next()
            _, second = node.next()
            conn.shutdown(socket.SHUT_RDWR)

            assert (first["method"], first["params"], second["method"]) == (
                "batching",
                {"enable": True},
                "createinvoice",
            )
            assert isinstance(call.exception(DEADLINE_S), NodeUnknown)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 4096])
def test_answers_come_in_pieces_of_any_size(
    node: SocketNode, connection: Connection, pool: ThreadPoolExecutor, chunk_bytes: int
) -> None:
    """Neither the end of an answer nor the start of the next needs to stand where a piece ends."""
    calls = {name: _start(pool, connection, name) for name in ("a", "b", "c")}
    stream, conn = b"", None
    for _ in calls:
        conn, request = node.next()
        stream += _answer(request, result=[request["method"], "two\n\nlines"])
    assert conn is not None
    for start in range(0, len(stream), chunk_bytes):
        conn.sendall(stream[start : start + chunk_bytes])

    assert {name: call.result(DEADLINE_S) for name, call in calls.items()} == {
        name: [name, "two\n\nlines"] for name in calls
    }


def test_large_answer_arrives_whole(node: SocketNode, connection: Connection, pool: ThreadPoolExecutor) -> None:
    """Five megabytes of invoices are read like one."""
    rows = [{"label": f"paycode/{number}", "bolt11": "x" * 500} for number in range(10_000)]
    call = _start(pool, connection, "listinvoices")
    conn, request = node.next()
    conn.sendall(_answer(request, result={"invoices": rows}))

    assert call.result(DEADLINE_S) == {"invoices": rows}


def test_error_of_the_node_is_a_refusal(node: SocketNode, connection: Connection, pool: ThreadPoolExecutor) -> None:
    """It carries the node's code and message, and names the method."""
    call = _start(pool, connection, "invoice")
    conn, request = node.next()
    conn.sendall(_answer(request, error={"code": 900, "message": "Duplicate label"}))

    error = call.exception(DEADLINE_S)
    assert isinstance(error, NodeRefused)
    assert (error.code, error.node_code, error.node_message) == (3111, 900, "Duplicate label")
    assert error.message == "the node refused invoice: Duplicate label (code 900)"


def test_call_without_an_answer_in_time_is_unknown(
    node: SocketNode, connection: Connection, pool: ThreadPoolExecutor
) -> None:
    """The caller learns that it does not know; the late answer disturbs nobody, the connection goes on."""
    late = _start(pool, connection, "invoice", timeout_s=0.01)
    conn, request = node.next()
    error = late.exception(DEADLINE_S)
    conn.sendall(_answer(request, result="late"))
    call = _start(pool, connection)
    conn.sendall(_answer(node.next()[1], result="in time"))

    assert isinstance(error, NodeUnknown)
    assert error.message == "the node did not answer invoice within 0.01 s: ask it again"
    assert call.result(DEADLINE_S) == "in time"
    assert len(node.connections) == 1


@pytest.mark.parametrize("timeout_s", [DEADLINE_S, None], ids=["with a time-out", "parked"])
def test_lost_connection_makes_every_call_unknown(
    node: SocketNode, connection: Connection, pool: ThreadPoolExecutor, timeout_s: float | None
) -> None:
    """Nobody who waits is forgotten, and the next call connects again."""
    calls = [_start(pool, connection, timeout_s=timeout_s) for _ in range(20)]
    (conn, _), *_ = [node.next() for _ in calls]
    conn.shutdown(socket.SHUT_RDWR)
    errors = [call.exception(DEADLINE_S) for call in calls]
    again = _start(pool, connection)
    conn, request = node.next()
    conn.sendall(_answer(request, result="back"))

    assert {type(error) for error in errors} == {NodeUnknown}
    assert again.result(DEADLINE_S) == "back"
    assert len(node.connections) == 2


@pytest.mark.parametrize("garbage", [b"not json\n\n", b'{"half": \n\n', b"\xff\xfe\n\n", b"[" * 200_000 + b"\n\n"])
def test_garbage_is_a_lost_connection(
    node: SocketNode, connection: Connection, pool: ThreadPoolExecutor, garbage: bytes
) -> None:
    """What cannot be read says nothing about any call, and the next one starts afresh."""
    call = _start(pool, connection)
    node.next()[0].sendall(garbage)
    error = call.exception(DEADLINE_S)
    again = _start(pool, connection)
    conn, request = node.next()
    conn.sendall(_answer(request, result="back"))

    assert isinstance(error, NodeUnknown)
    assert again.result(DEADLINE_S) == "back"


def test_answer_to_nobody_is_passed_over(node: SocketNode, connection: Connection, pool: ThreadPoolExecutor) -> None:
    """A notification, or an answer to a call that is not ours, is no call's answer."""
    call = _start(pool, connection)
    conn, request = node.next()
    conn.sendall(b'{"jsonrpc": "2.0", "method": "progress", "params": {}}\n\n{"id": "other", "result": 1}\n\n')
    conn.sendall(_answer(request, result="ours"))

    assert call.result(DEADLINE_S) == "ours"


def test_node_that_is_not_there_is_unknown_until_it_is(path: Path, pool: ThreadPoolExecutor) -> None:
    """A call before the node listens fails as unknown; one after it works."""
    with closing(Connection(str(path))) as connection:
        with pytest.raises(NodeUnknown, match="socket failed on getinfo"):
            connection.call("getinfo", {}, timeout_s=DEADLINE_S)
        with closing(SocketNode(path)) as node:
            call = _start(pool, connection)
            conn, request = node.next()
            conn.sendall(_answer(request, result="here"))

            assert call.result(DEADLINE_S) == "here"


@pytest.mark.parametrize("length", [90, 107, 108, 109, 200])
def test_socket_path_of_any_length_connects(tmp_path: Path, pool: ThreadPoolExecutor, length: int) -> None:
    """A node in a deep directory is reached, beyond what a socket address holds."""
    directory = tmp_path / ("d" * max(1, length - len(str(tmp_path)) - len("//rpc")))
    directory.mkdir()
    path = directory / "rpc"
    with closing(SocketNode(path)) as node, closing(Connection(str(path))) as connection:
        call = _start(pool, connection)
        conn, request = node.next()
        conn.sendall(_answer(request, result="deep"))

        assert len(str(path)) == length
        assert call.result(DEADLINE_S) == "deep"


def test_close_answers_everyone_and_takes_no_more(
    node: SocketNode, connection: Connection, pool: ThreadPoolExecutor
) -> None:
    """A parked call does not keep the plugin from stopping."""
    parked = [_start(pool, connection, "wait", timeout_s=None) for _ in range(3)]
    for _ in parked:
        node.next()
    connection.close()

    assert {type(call.exception(DEADLINE_S)) for call in parked} == {NodeUnknown}
    with pytest.raises(NodeUnknown, match="was not sent: the plugin is stopping"):
        connection.call("getinfo", {}, timeout_s=DEADLINE_S)
