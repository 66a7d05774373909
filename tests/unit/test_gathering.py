"""Work that gathers while earlier work is done."""

from __future__ import annotations

import threading

from cln_paycodes.gathering import Gathering


def test_all_that_is_there_is_taken_together() -> None:
    """In its order, no more than were asked for; the rest the next time."""
    gathering: Gathering[int] = Gathering(4)
    for number in range(6):
        gathering.put(number)

    assert gathering.take() == [0, 1, 2, 3]
    assert gathering.take() == [4, 5]


def test_taking_waits_for_something() -> None:
    """One that comes alone is taken alone."""
    gathering: Gathering[int] = Gathering(4)
    taken: list[list[int]] = []
    taking = threading.Thread(target=lambda: taken.append(gathering.take()))
    taking.start()
    gathering.put(7)
    taking.join(20)

    assert taken == [[7]]


def test_nothing_is_taken_once_it_is_closed() -> None:
    """What was not taken before is left."""
    gathering: Gathering[int] = Gathering(4)
    gathering.put(1)
    gathering.close()

    assert gathering.take() == []
