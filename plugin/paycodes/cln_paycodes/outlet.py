"""Messages on their way out of this process, whole and in order, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .core.framing import END
from .core.json_text import compact


class Outlet:
    def __init__(self, write: Callable[[bytes], None]) -> None:
        """`write` takes bytes from one thread at a time."""
        self._write = write
        self._lock = threading.Lock()
        self._thread = threading.local()

    def put(self, message: Mapping[str, Any]) -> None:
        """Written when this returns, or, inside `together`, at its end."""
        # Half of a surrogate pair, which a caller may send as an escape, leaves as one: an answer has to leave.
        framed = compact(message).encode(errors="backslashreplace") + END
        gathered: list[bytes] | None = getattr(self._thread, "gathered", None)
        if gathered is None:
            self._send(framed)
        else:
            gathered.append(framed)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What this thread puts meanwhile leaves in one piece: one write here, one wake-up there."""
        gathered = self._thread.gathered = []
        try:
            yield
        finally:
            self._thread.gathered = None
            if gathered:
                self._send(b"".join(gathered))

    def _send(self, framed: bytes) -> None:
        with self._lock:
            self._write(framed)
