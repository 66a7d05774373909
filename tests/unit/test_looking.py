"""Looking at what was told: those that gather while one look is under way are looked at together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from backend import eventually
from cln_paycodes.core.labels import Slot
from cln_paycodes.errors import NodeUnknown
from cln_paycodes.services.looking import MOST_TOGETHER, Looker

SLOTS = [Slot("ab" * 32, index) for index in range(1, 200)]


class Books:
    """Settles when it is let; what it fails for is told with the error."""

    def __init__(self) -> None:
        self.looks: list[list[Slot]] = []
        self.open = threading.Event()
        self.errors: list[Exception] = []

    def settle_together(self, slots: list[Slot]) -> None:
        self.looks.append(slots)
        assert self.open.wait(20)
        if self.errors:
            raise self.errors.pop()


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def left() -> list[None]:
    return []


@pytest.fixture
def looker(books: Books, left: list[None]) -> Iterator[Looker]:
    looker = Looker(books, left=lambda: left.append(None))  # type: ignore[arg-type]  # what it calls
    looker.start()
    yield looker
    books.open.set()
    looker.stop()


def test_payment_is_looked_at_at_once(looker: Looker, books: Books, left: list[None]) -> None:
    """One that is told alone waits for no other."""
    books.open.set()
    looker.look(SLOTS[0])

    eventually(lambda: books.looks)
    assert books.looks == [SLOTS[:1]]
    assert left == []


def test_those_told_meanwhile_are_looked_at_together(looker: Looker, books: Books) -> None:
    """In the order in which they were told, each once, a bounded number at a time."""
    looker.look(SLOTS[0])
    eventually(lambda: books.looks)
    for slot in SLOTS[1:101]:
        looker.look(slot)
        looker.look(slot)
    books.open.set()

    eventually(lambda: {slot for look in books.looks for slot in look} == set(SLOTS[:101]))
    assert books.looks[0] == SLOTS[:1]
    assert len(books.looks) <= 5
    assert all(len(look) <= MOST_TOGETHER for look in books.looks)


@pytest.mark.parametrize("error", [NodeUnknown("no answer"), ValueError("a secret")])
def test_what_cannot_be_looked_at_is_left_to_reconcile(
    looker: Looker, books: Books, left: list[None], caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """The next one is looked at all the same, and the log names the first one, without what an unknown error says."""
    books.errors, books.looks = [error], []
    books.open.set()
    with caplog.at_level(logging.INFO):
        looker.look(SLOTS[0])
        eventually(lambda: left)
        looker.look(SLOTS[1])

        eventually(lambda: len(books.looks) == 2)
    assert left == [None]
    assert SLOTS[0].label in caplog.text
    assert "a secret" not in caplog.text


def test_stop_leaves_what_is_not_looked_at(looker: Looker, books: Books) -> None:
    """The plugin stops at once: the next start finds it."""
    looker.look(SLOTS[0])
    eventually(lambda: books.looks)
    looker.look(SLOTS[1])
    looker.stop()
    books.open.set()

    eventually(lambda: not any(thread.name == "paycodes-look" for thread in threading.enumerate()))
    assert books.looks == [SLOTS[:1]]
