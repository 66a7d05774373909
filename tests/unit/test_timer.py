"""The timer: what is due first runs first, and no action takes another with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from cln_paycodes.services.timer import Timer

DEADLINE_S = 20
HOUR_S = 3600.0


@pytest.fixture
def timer() -> Iterator[Timer]:
    timer = Timer()
    yield timer
    timer.stop()


def test_what_is_due_first_runs_first(timer: Timer) -> None:
    """A short delay overtakes a long one that was asked for before it."""
    ran: list[str] = []
    done = threading.Event()
    timer.after(HOUR_S, lambda: ran.append("late"))
    timer.after(0.02, done.set)
    timer.after(0.01, lambda: ran.append("second"))
    timer.after(0, lambda: ran.append("first"))

    assert done.wait(DEADLINE_S)
    assert ran == ["first", "second"]


def test_actions_of_one_moment_run_in_their_order(timer: Timer) -> None:
    """Of two with the same delay the one asked for first runs first."""
    ran: list[int] = []
    done = threading.Event()
    for number in range(50):
        timer.after(0, lambda number=number: ran.append(number))  # type: ignore[misc]
    timer.after(0, done.set)

    assert done.wait(DEADLINE_S)
    assert ran == list(range(50))


def test_action_that_raises_takes_no_other_with_it(timer: Timer, caplog: pytest.LogCaptureFixture) -> None:
    """It is one line in the log, without what it says, and the timer goes on."""
    done = threading.Event()

    def fail() -> None:
        raise ValueError("a secret")

    with caplog.at_level(logging.ERROR):
        timer.after(0, fail)
        timer.after(0, done.set)

        assert done.wait(DEADLINE_S)
    assert len(caplog.records) == 1
    assert "ValueError" in caplog.text
    assert "a secret" not in caplog.text
    assert "Traceback" not in caplog.text


def test_action_may_ask_for_another(timer: Timer) -> None:
    """An action that puts off its work does not wait for itself."""
    done = threading.Event()
    timer.after(0, lambda: timer.after(0, done.set))

    assert done.wait(DEADLINE_S)


def test_stop_leaves_what_is_not_due() -> None:
    """The plugin stops at once, and nothing runs afterwards."""
    ran: list[str] = []
    timer = Timer()
    timer.after(HOUR_S, lambda: ran.append("late"))
    timer.stop()
    timer.after(0, lambda: ran.append("after"))

    assert not timer._thread.is_alive()
    assert ran == []
