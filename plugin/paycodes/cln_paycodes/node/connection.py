"""One persistent, pipelined JSON-RPC connection to lightningd's unix socket.

pyln's `LightningRpc` opens a socket for each call, has no time-out and reads large answers in quadratic time; here
many threads share one connection, every call has a deadline, and "no answer" is an outcome of its own
(`NodeUnknown`), never a guess.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any

from ..errors import NodeRefused, NodeUnknown

#: lightningd ends every answer with an empty line.
_END = b"\n\n"

#: Longest path that fits in sockaddr_un.
_SUN_PATH = 100

#: Seconds that a node which reads nothing may hold up a sender.
_SEND_TIMEOUT_S = 10


class Connection:
    """Thread-safe; connects at the first call, and again at the next one after it was lost."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._pending: dict[str, Future[Any]] = {}
        self._ids = itertools.count(1)
        self._closed = False

    def call(self, method: str, params: dict[str, Any], *, timeout_s: float | None) -> Any:
        """The result; raises NodeRefused with the node's error, NodeUnknown when no answer came in time."""
        return self.begin(method, params, timeout_s=timeout_s)()

    def begin(self, method: str, params: dict[str, Any], *, timeout_s: float | None) -> Callable[[], Any]:
        """Send the call now and give what waits for its result: the node works while the caller does other things."""
        call_id = f"cln-paycodes:{method}#{next(self._ids)}"
        future: Future[Any] = Future()
        request = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}
        payload = json.dumps(request, ensure_ascii=False).encode() + _END
        with self._lock:
            self._send(call_id, future, method, payload)
        return partial(self._finish, call_id, future, method, timeout_s)

    def _finish(self, call_id: str, future: Future[Any], method: str, timeout_s: float | None) -> Any:
        try:
            answer = future.result(timeout_s)
        except FutureTimeout:
            self._pending.pop(call_id, None)
            raise NodeUnknown(f"the node did not answer {method} within {timeout_s:g} s: ask it again") from None
        if "error" in answer:
            error = answer["error"]
            raise NodeRefused(method, error.get("code", -1), str(error.get("message", "")))
        return answer["result"]

    def _send(self, call_id: str, future: Future[Any], method: str, payload: bytes) -> None:
        if self._closed:
            raise NodeUnknown(f"{method} was not sent: the plugin is stopping")
        try:
            if self._sock is None:
                self._connect()
            assert self._sock is not None
            self._pending[call_id] = future
            self._sock.sendall(payload)
        except OSError as e:
            self._pending.pop(call_id, None)
            self._drop()
            raise NodeUnknown(f"the node's socket failed on {method} ({e}): ask it again") from e

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _connect_unix(sock, self._path)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_TIMEOUT_S, 0))
        except OSError:
            sock.close()
            raise
        self._sock = sock
        threading.Thread(target=self._read, args=(sock,), name="paycodes-node", daemon=True).start()

    def _read(self, sock: socket.socket) -> None:
        """Hand every answer to the call that waits for it, until the connection ends."""
        buffer, scanned = bytearray(), 0
        try:
            while chunk := sock.recv(1 << 18):
                buffer += chunk
                start = 0
                while (end := buffer.find(_END, max(start, scanned - 1))) >= 0:
                    self._deliver(bytes(buffer[start:end]))
                    start = scanned = end + len(_END)
                del buffer[:start]
                scanned = len(buffer)
        except (OSError, ValueError, RecursionError):
            pass  # a broken stream is the same as an orderly end: what waits learns that the outcome is unknown
        finally:
            with self._lock:
                if self._sock is sock:
                    self._drop()
                sock.close()

    def _deliver(self, message: bytes) -> None:
        answer = json.loads(message)
        future = self._pending.pop(answer.get("id"), None)
        if future is not None:
            future.set_result(answer)

    def _drop(self) -> None:
        """Forget the socket and tell every call under way that its outcome is unknown; the lock is held."""
        sock, self._sock = self._sock, None
        if sock is not None:
            # A blocked recv() ends by shutdown(), not by close().
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        # Taken one by one: an answer that the reading thread delivers meanwhile has its call to itself.
        while self._pending:
            with contextlib.suppress(KeyError):
                _, future = self._pending.popitem()
                future.set_exception(
                    NodeUnknown("the connection to the node was lost before it answered: ask it again")
                )

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()


def _connect_unix(sock: socket.socket, path: str) -> None:
    """Connect, by way of the directory's descriptor when the path is too long for a socket address."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        sock.connect(path)
        return
    directory = os.open(os.path.dirname(path), os.O_DIRECTORY | os.O_RDONLY)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)
