"""Answers 204 to every POST as fast as Python can, and prints its port first.

With a file as argument it writes down the label in each body, and when it was acknowledged.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_LABEL = re.compile(rb'"label": ?"([^"]*)"')


@contextmanager
def receiving(*arguments: str) -> Iterator[str]:
    """The URL of a receiver in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/paid"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Receiver(asyncio.Protocol):
    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (head := self._received.find(b"\r\n\r\n")) >= 0:
            length = self._received[:head].lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            end = head + 4 + int(length)
            if len(self._received) < end:
                return
            body, self._received = self._received[head + 4 : end], self._received[end:]
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            if self._file is not None and (match := _LABEL.search(body)):
                self._file.write(f"{match[1].decode()} {time.monotonic()}\n")
                self._file.flush()


async def serve(path: str | None) -> None:
    file = None if path is None else open(path, "a")  # noqa: SIM115  # it is open as long as the process lives
    server = await asyncio.get_running_loop().create_server(lambda: Receiver(file), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1] if len(sys.argv) > 1 else None))
