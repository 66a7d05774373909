"""The log: lines in lightningd's format, on standard output and in a file; ``getlog`` has the last ones."""

from __future__ import annotations

import sys
from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from typing import TextIO

#: What lightningd prints for each level a plugin may name.
_PRINTED = {
    "trace": "TRACE  ",
    "debug": "DEBUG  ",
    "info": "INFO   ",
    "warn": "UNUSUAL",
    "unusual": "UNUSUAL",
    "error": "**BROKEN**",
    "broken": "**BROKEN**",
}

_TAIL_LINES = 1000


def is_level(name: str) -> bool:
    """Whether lightningd knows this level in a plugin's ``log`` notification."""
    return name in _PRINTED


class Journal:
    """Appends log lines; a line is in the file when the call returns."""

    def __init__(self, path: Path, echo: TextIO | None = None) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._echo = sys.stdout if echo is None else echo
        self.tail: deque[tuple[str, str, str]] = deque(maxlen=_TAIL_LINES)

    def write(self, level: str, source: str, message: str) -> None:
        now = datetime.now(timezone.utc)
        stamp = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"
        for line in message.split("\n"):
            self.tail.append((level, source, line))
            text = f"{stamp} {_PRINTED[level]} {source}: {line}\n"
            self._file.write(text)
            self._echo.write(text)
        self._file.flush()
        self._echo.flush()

    def debug(self, message: str, source: str = "lightningd") -> None:
        self.write("debug", source, message)

    def info(self, message: str, source: str = "lightningd") -> None:
        self.write("info", source, message)

    def unusual(self, message: str, source: str = "lightningd") -> None:
        self.write("unusual", source, message)

    def broken(self, message: str, source: str = "lightningd") -> None:
        self.write("broken", source, message)
