"""What every connection to lightningd's unix socket has in common."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from ..core.framing import END

#: Longest path that fits in sockaddr_un.
_SUN_PATH = 100


def connect(sock: socket.socket, path: str) -> None:
    """Connect, by way of the directory's descriptor when the path is too long for a socket address."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        sock.connect(path)
        return
    directory = os.open(os.path.dirname(path), os.O_DIRECTORY | os.O_RDONLY)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)


def request(call_id: str, method: str, params: dict[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}
    return json.dumps(message, ensure_ascii=False).encode() + END
