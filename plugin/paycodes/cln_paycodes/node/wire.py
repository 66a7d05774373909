"""What every connection to lightningd's unix socket has in common."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

from ..core.framing import END
from ..errors import NodeRefused, NodeUnknown

#: Longest path that fits in sockaddr_un.
_SUN_PATH = 100

#: What becomes of calls that were under way on a connection that ended.
LOST = "the connection to the node was lost before it answered: ask it again"


def open_socket(path: str, *, send_timeout_s: float, receive_timeout_s: float) -> socket.socket:
    """Connected; `send` and `recv` raise BlockingIOError when their time is up. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(send_timeout_s))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(receive_timeout_s))
        _connect(sock, path)
    except OSError:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, path: str) -> None:
    """Connect, by way of the directory's descriptor when the path is too long for a socket address."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        sock.connect(path)
        return
    directory = os.open(os.path.dirname(path), os.O_DIRECTORY | os.O_RDONLY)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))


def request(call_id: str, method: str, params: dict[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}
    return json.dumps(message, ensure_ascii=False).encode() + END


def result_of(method: str, answer: dict[str, Any]) -> Any:
    """What the node answered; raises NodeRefused with its error."""
    if "error" in answer:
        error = answer["error"]
        raise NodeRefused(method, error.get("code", -1), str(error.get("message", "")))
    return answer.get("result")


def too_late(method: str, timeout_s: float | None) -> NodeUnknown:
    return NodeUnknown(f"the node did not answer {method} within {timeout_s:g} s: ask it again")


def failed(method: str, error: Exception) -> NodeUnknown:
    return NodeUnknown(f"the node's socket failed on {method} ({error}): ask it again")
