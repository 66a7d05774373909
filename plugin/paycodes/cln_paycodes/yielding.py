"""Work in bulk that lets others have the core."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def yielding(items: Iterable[T], *, every: int) -> Iterator[T]:
    """The items, with a word to the kernel behind each `every` of them.

    On a small machine the node, and whoever asks it, share a core with a run of `reconcile`; without a word from it
    they wait for the kernel's next tick, up to 4 ms.
    """
    for number, item in enumerate(items, 1):
        yield item
        if number % every == 0:
            os.sched_yield()
