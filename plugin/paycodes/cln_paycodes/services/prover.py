"""Walking the node's list beside the run that judges it, in processes of their own (`proving.py`).

A rebuild has as much work in reading invoices and deriving their hashes as in writing them down, and a thread would
take turns for the interpreter. One core is left to the node, and to those who wait for it: on two cores, two processes
would be through in six sevenths of the time, and the slowest calls of others take half as long again. More than two
would wait for the node. Without them, until they are there, and after one ended, the run walks for itself. The root
keys go over a pipe, never as arguments.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..core.keys import RootKey
from . import proving
from .proving import BLOCK, LENGTH, Proven, unpack

_PACKAGES = Path(__file__).resolve().parents[2]

#: Processes that share a list.
MOST = 2

#: Bytes of a pipe: some blocks, so that no process waits for the run while it takes those of another, or a commit.
_PIPE_BYTES = 1 << 20


class Prover:
    """The processes, used by one thread."""

    def __init__(self, processes: int | None = None) -> None:
        """As many as suit this machine, unless told."""
        self._processes = processes or max(1, min(MOST, len(os.sched_getaffinity(0)) - 1))
        self._children: list[_Child] = []

    def start(self) -> None:
        """Have them come up while the caller does other things; where one does not, they are never ready."""
        with contextlib.suppress(OSError):
            for _ in range(self._processes):
                self._children.append(_Child())

    @property
    def is_started(self) -> bool:
        return bool(self._children)

    def is_ready(self, *, timeout_s: float | None = 0) -> bool:
        """All are up, as each says with one byte; None waits until they are, or one has failed to come up."""
        try:
            return bool(self._children) and all(child.is_ready(timeout_s) for child in self._children)
        except OSError:
            self.stop()
            return False

    def walk(
        self, socket_path: str, node_id: str, roots: Iterable[RootKey], *, index: str, start: int, last: int
    ) -> Iterator[Proven]:
        """What the node lists from `start` to `last` by one of its indexes, in that order, once; less when one of the
        processes ends before.
        """
        request = {
            "socket_path": socket_path,
            "node_id": node_id,
            "roots": [root.secret_bytes.hex() for root in roots],
            "index": index,
        }
        count = len(self._children)
        try:
            for number, child in enumerate(self._children):
                child.ask({**request, "share": (start, last, number, count)})
            # Up to where each has told what it walks: whoever is behind all others has the next block.
            told = [start - 1 + number * BLOCK for number in range(count)]
            while (reached := min(told, default=last)) < last:
                number = told.index(reached)
                proven = self._children[number].read()
                told[number] = proven.reached
                yield proven._replace(reached=min(told))
        except OSError:
            pass  # one is gone
        finally:
            self.stop()

    def stop(self) -> None:
        """End them; harmless when there are none."""
        children, self._children = self._children, []
        for child in children:
            child.stop()


class _Child:
    """One process; all raise OSError when it is gone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 (this very interpreter and module)
            [sys.executable, "-m", proving.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_PACKAGES,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._stdout: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._ready = False
        with contextlib.suppress(OSError):  # a user may have only so many large ones
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def is_ready(self, timeout_s: float | None) -> bool:
        if not self._ready and select.select([self._stdout], [], [], timeout_s)[0]:
            self._receive(1)
            self._ready = True
        return self._ready

    def ask(self, request: dict[str, Any]) -> None:
        self._stdin.write(json.dumps(request).encode() + b"\n")
        self._stdin.flush()

    def read(self) -> Proven:
        (length,) = LENGTH.unpack(self._receive(LENGTH.size))
        return unpack(self._receive(length))

    def _receive(self, size: int) -> bytes:
        received = self._stdout.read(size)
        if len(received) < size:
            raise OSError("the process has ended")
        return received

    def stop(self) -> None:
        self._process.kill()
        with contextlib.suppress(OSError), self._process:  # closes its pipes, and waits
            pass
