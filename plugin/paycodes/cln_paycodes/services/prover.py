"""Walking the node's list beside the run that judges it, in a process of its own (`proving.py`).

A rebuild has as much work in reading invoices and deriving their hashes as in writing them down, and a thread would
take turns for the interpreter. Without the child, until it is there, and after it ended, the run walks for itself.
The root keys go over a pipe, never as arguments.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..core.keys import RootKey
from . import proving
from .proving import LENGTH, Proven, unpack

_PACKAGES = Path(__file__).resolve().parents[2]

#: Bytes of the pipe from the child: some messages, so that it goes on while the run waits for a commit.
_PIPE_BYTES = 1 << 20


class Prover:
    """The child process, used by one thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self.is_started = False

    def start(self) -> None:
        """Have it come up while the caller does other things; where it does not, it is never ready."""
        self.is_started = True
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(  # noqa: S603 (this very interpreter and module)
                [sys.executable, "-m", proving.__name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=_PACKAGES,
            )
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # refused to a user who has many large ones

    def is_ready(self, *, timeout_s: float | None = 0) -> bool:
        """The child is up, as it says with one byte; None waits until it is, or has failed to come up."""
        if self._process is None or self._ready:
            return self._ready
        if select.select([self._stdout], [], [], timeout_s)[0]:
            self._ready = bool(self._stdout.read(1))
            if not self._ready:
                self.stop()
        return self._ready

    def walk(
        self, socket_path: str, node_id: str, roots: Iterable[RootKey], *, index: str, start: int, last: int
    ) -> Iterator[Proven]:
        """What the node lists from `start` to `last` by one of its indexes, once; less when the child ends before."""
        request = {
            "socket_path": socket_path,
            "node_id": node_id,
            "roots": [root.secret_bytes.hex() for root in roots],
            "index": index,
            "start": start,
            "last": last,
        }
        try:
            self._stdin.write(json.dumps(request).encode() + b"\n")
            self._stdin.flush()
            while start <= last and (proven := self._read()) is not None:
                yield proven
                start = proven.reached + 1
        except OSError:
            pass  # it is gone
        finally:
            self.stop()

    def _read(self) -> Proven | None:
        head = self._stdout.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack(head)
        message = self._stdout.read(length)
        return unpack(message) if len(message) == length else None

    @property
    def _stdin(self) -> BinaryIO:
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin  # type: ignore[return-value]

    @property
    def _stdout(self) -> BinaryIO:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout  # type: ignore[return-value]

    def stop(self) -> None:
        """End the child; harmless when there is none."""
        process, self._process, self._ready = self._process, None, False
        if process is None:
            return
        process.kill()
        with contextlib.suppress(OSError), process:  # closes its pipes, and waits
            pass
