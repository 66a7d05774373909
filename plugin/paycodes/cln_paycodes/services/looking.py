"""Looking at what the node told of: payments that come together are looked at together.

While one look is under way those that are told of meanwhile gather, and are asked for and written down in one go by
the next: the busier the node, the less each costs. What cannot be looked at is left to `reconcile`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..core.labels import Slot
from ..errors import PaycodesError, describe
from ..gathering import Gathering
from .books import Books

log = logging.getLogger(__name__)

#: Slots that are looked at together: bounds what they hold up at the node and in the sidecar.
MOST_TOGETHER = 64


class Looker:
    def __init__(self, books: Books, *, left: Callable[[], None]) -> None:
        """`left` is called when something is left to `reconcile`."""
        self._books = books
        self._left = left
        self._told: Gathering[Slot] = Gathering(MOST_TOGETHER)

    def start(self) -> None:
        threading.Thread(target=self._run, name="paycodes-look", daemon=True).start()

    def look(self, slot: Slot) -> None:
        """Have the node asked about a slot soon, and what it says written down; returns at once."""
        self._told.put(slot)

    def stop(self) -> None:
        self._told.close()

    def _run(self) -> None:
        while told := self._told.take():
            slots = list(dict.fromkeys(told))
            try:
                self._books.settle_together(slots)
            except PaycodesError as e:
                log.info("%s is looked at again by reconcile: %s", _named(slots), e)
                self._left()
            except Exception as e:
                log.error("%s is looked at again by reconcile: %s", _named(slots), describe(e))
                self._left()


def _named(slots: list[Slot]) -> str:
    return slots[0].label if len(slots) == 1 else f"{slots[0].label} with {len(slots) - 1} more"
