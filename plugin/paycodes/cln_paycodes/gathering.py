"""Work that gathers while earlier work is done, and is then taken together."""

from __future__ import annotations

import queue
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathering(Generic[T]):
    """Filled from any thread, emptied by one."""

    def __init__(self, most: int) -> None:
        """`most` are taken together."""
        self._most = most
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    def put(self, item: T) -> None:
        self._queue.put(item)

    def close(self) -> None:
        """Nothing is taken any more."""
        self._queue.put(None)

    def take(self) -> list[T]:
        """Wait for something, and take all that is there, in its order; nothing when it was closed."""
        taken: list[T] = []
        try:
            item = self._queue.get()
            while item is not None:
                taken.append(item)
                if len(taken) == self._most:
                    return taken
                item = self._queue.get_nowait()
        except queue.Empty:
            return taken
        return []
