"""One persistent, pipelined JSON-RPC connection to lightningd's unix socket.

pyln's `LightningRpc` opens a socket for each call, has no time-out and reads large answers in quadratic time; here
many threads share one connection, every call has a deadline, and "no answer" is an outcome of its own
(`NodeUnknown`), never a guess.

With `batching` lightningd does in one transaction all that it finds in the socket when it looks, so that calls which
arrive together share its commit. Its manual says that answers may come before the commit; for commands that it carries
out at once they do not: `read_json` (lightningd/jsonrpc.c, v26.06) commits before it goes back to the loop that writes
answers to sockets.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from ..core.framing import Frames
from ..errors import NodeRefused, NodeUnknown
from .wire import LOST, failed, open_socket, request, result_of, too_late

#: Seconds that a node which reads nothing may hold up a sender.
_SEND_TIMEOUT_S = 10

#: Seconds between two looks for calls whose time is up and for which no thread waits.
_LOOK_S = 1


@dataclass(slots=True)
class _Call:
    method: str
    timeout_s: float | None
    began: float
    future: Future[Any] = field(default_factory=Future)

    def answer(self, answer: dict[str, Any]) -> None:
        try:
            result = result_of(self.method, answer)
        except NodeRefused as e:
            self.future.set_exception(e)
        else:
            self.future.set_result(result)

    def time_out(self) -> None:
        self.future.set_exception(too_late(self.method, self.timeout_s))

    def is_late(self, now: float) -> bool:
        return self.timeout_s is not None and now - self.began > self.timeout_s


class Connection:
    """Thread-safe; connects at the first call, and again at the next one after it was lost."""

    def __init__(self, socket_path: str, *, batching: bool = False) -> None:
        self._path = socket_path
        self._batching = batching
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._pending: dict[str, _Call] = {}
        self._ids = itertools.count(1)
        self._closed = False

    def call(self, method: str, params: dict[str, Any], *, timeout_s: float | None) -> Any:
        """The result; raises NodeRefused with the node's error, NodeUnknown when no answer came in time."""
        call_id, call = self._begin(method, params, timeout_s)
        try:
            return call.future.result(timeout_s)
        except FutureTimeout:
            if self._pending.pop(call_id, None) is not None:
                call.time_out()
            return call.future.result()

    def begin(self, method: str, params: dict[str, Any], *, timeout_s: float | None) -> Future[Any]:
        """Send the call now, for an answer later: the result, NodeRefused or NodeUnknown.

        What is to be done with the answer is done in the reading thread, and must be short.
        """
        return self._begin(method, params, timeout_s)[1].future

    def _begin(self, method: str, params: dict[str, Any], timeout_s: float | None) -> tuple[str, _Call]:
        call_id = f"cln-paycodes:{method}#{next(self._ids)}"
        call = _Call(method, timeout_s, time.monotonic())
        payload = request(call_id, method, params)
        with self._lock:
            error, lost = self._send(method, call_id, call, payload)
        _lose(lost)
        if error is not None:
            call.future.set_exception(error)
        return call_id, call

    def _send(self, method: str, call_id: str, call: _Call, payload: bytes) -> tuple[NodeUnknown | None, list[_Call]]:
        """Why it was not sent, and the calls that were under way on a connection that is now lost."""
        if self._closed:
            return NodeUnknown(f"{method} was not sent: the plugin is stopping"), []
        try:
            sock = self._sock or self._connect()
        except OSError as e:
            error = failed(method, e)
            error.__cause__ = e
            return error, self._drop()
        self._pending[call_id] = call
        try:
            sock.sendall(payload)
        except OSError:
            return None, self._drop()  # this call among them: how much of it was sent is not known
        return None, []

    def _connect(self) -> socket.socket:
        sock = open_socket(self._path, send_timeout_s=_SEND_TIMEOUT_S, receive_timeout_s=_LOOK_S)
        try:
            if self._batching:
                sock.sendall(request("cln-paycodes:batching", "batching", {"enable": True}))
        except OSError:
            sock.close()
            raise
        self._sock = sock
        threading.Thread(target=self._read, args=(sock,), name="paycodes-node", daemon=True).start()
        return sock

    def _read(self, sock: socket.socket) -> None:
        """Hand every answer to the call that waits for it, until the connection ends."""
        frames, looked_at = Frames(), time.monotonic()
        try:
            while (chunk := _receive(sock)) != b"":
                for message in frames.of(chunk or b""):
                    self._deliver(message)
                if time.monotonic() - looked_at >= _LOOK_S:
                    looked_at = time.monotonic()
                    self._give_up_late(looked_at)
        except (OSError, ValueError, RecursionError):
            pass  # a broken stream is the same as an orderly end: what waits learns that the outcome is unknown
        finally:
            with self._lock:
                lost = self._drop() if self._sock is sock else []
                sock.close()
            _lose(lost)

    def _deliver(self, message: bytes) -> None:
        answer = json.loads(message)
        call = self._pending.pop(answer.get("id"), None)
        if call is not None:
            call.answer(answer)

    def _give_up_late(self, now: float) -> None:
        late = [call_id for call_id, call in list(self._pending.items()) if call.is_late(now)]
        for call_id in late:
            call = self._pending.pop(call_id, None)
            if call is not None:
                call.time_out()

    def _drop(self) -> list[_Call]:
        """Forget the socket; the calls under way, whose outcome is unknown then. The lock is held."""
        sock, self._sock = self._sock, None
        if sock is not None:
            # A blocked recv() ends by shutdown(), not by close().
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        lost = []
        # Taken one by one: an answer that the reading thread delivers meanwhile has its call to itself.
        while self._pending:
            with contextlib.suppress(KeyError):
                lost.append(self._pending.popitem()[1])
        return lost

    def close(self) -> None:
        with self._lock:
            self._closed = True
            lost = self._drop()
        _lose(lost)


def _lose(calls: list[_Call]) -> None:
    """Not under the lock: those who waited may call again at once."""
    for call in calls:
        call.future.set_exception(NodeUnknown(LOST))


def _receive(sock: socket.socket) -> bytes | None:
    """What has arrived; None when nothing did for a while, nothing at the end."""
    try:
        return sock.recv(1 << 18)
    except BlockingIOError:
        return None
