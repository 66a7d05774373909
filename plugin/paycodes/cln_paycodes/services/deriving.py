"""Deriving the payment hashes of many invoices beside the walk that needs them, in a process of its own.

A rebuild derives one key for each invoice that the node ever had: as much work as everything else that it does. A
thread would take turns with the walk for the interpreter; another process uses another core.

The root keys go over a pipe, never as arguments. The child ends with its standard input, however the plugin ended.
Without it, or until it is there, the walk derives for itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from ..core.keys import RootKey
from ..core.labels import Slot

#: The node goes first: it may have one core for itself and all others.
_NICE = 15

_COUNT = struct.Struct(">I")
_ENTRY = struct.Struct(">33sQ")
_HASH_BYTES = 32

_PACKAGES = Path(__file__).resolve().parents[2]


class Deriver:
    """The child process, used by one thread: each answer is taken before the next but one is asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    def start(self) -> None:
        """Have it come up while the caller does other things; where it does not, it is never ready."""
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(  # noqa: S603 (this very interpreter and module)
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=_PACKAGES,
            )

    @property
    def is_started(self) -> bool:
        return self._process is not None

    def begin(self, wanted: Iterable[tuple[Slot, RootKey]]) -> Callable[[], dict[Slot, str]]:
        """Ask for the hashes of slots; what waits for them gives none that the child did not derive."""
        entries = list(wanted)
        if not entries or not self._is_ready():
            return dict
        request = [_COUNT.pack(len(entries))]
        request += [_ENTRY.pack(root.secret_bytes, slot.index) for slot, root in entries]
        try:
            self._stdin.write(b"".join(request))
            self._stdin.flush()
        except OSError:
            self.stop()
            return dict
        return lambda: self._finish([slot for slot, _ in entries])

    def _finish(self, slots: list[Slot]) -> dict[Slot, str]:
        if self._process is None:
            return {}
        hashes = self._stdout.read(_HASH_BYTES * len(slots)).hex()
        if len(hashes) < 2 * _HASH_BYTES * len(slots):
            self.stop()
            return {}
        at = range(0, len(hashes), 2 * _HASH_BYTES)
        return {slot: hashes[start : start + 2 * _HASH_BYTES] for slot, start in zip(slots, at, strict=True)}

    def wait(self) -> None:
        """Return once the child is up, or has failed to come up."""
        self._is_ready(timeout_s=None)

    def _is_ready(self, *, timeout_s: float | None = 0) -> bool:
        """The child says so with one byte."""
        if self._process is None or self._ready:
            return self._ready
        if select.select([self._stdout], [], [], timeout_s)[0]:
            self._ready = bool(self._stdout.read(1))
            if not self._ready:
                self.stop()
        return self._ready

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


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """The child: answer until the input ends."""
    roots: dict[bytes, RootKey] = {}

    def derive(secret: bytes, index: int) -> bytes:
        root = roots.get(secret)
        if root is None:
            root = roots[secret] = RootKey(secret)
        return root.invoice(index).payment_hash

    RootKey.derive(bytes(_HASH_BYTES), 0).invoice(1)  # what is made once, is made now
    answers.write(b"\n")
    answers.flush()
    while head := requests.read(_COUNT.size):
        (count,) = _COUNT.unpack(head)
        entries = requests.read(count * _ENTRY.size)
        answers.write(b"".join(derive(*entry) for entry in _ENTRY.iter_unpack(entries)))
        answers.flush()


if __name__ == "__main__":
    os.nice(_NICE)
    with contextlib.suppress(OSError, struct.error):  # the plugin is gone
        _serve(sys.stdin.buffer, sys.stdout.buffer)
