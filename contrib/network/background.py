"""Calls that go on while the test does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from .interface import Answer


def in_background(work: Callable[[], Answer]) -> Future[Answer]:
    """In a thread that nobody has to wait for at exit."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # it belongs to whoever asks the future
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
