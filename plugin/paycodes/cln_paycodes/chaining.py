"""Futures that follow one another, so that no thread waits in between."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")


def promise() -> Future[Any]:
    """A future that cannot be cancelled: a caller that gives up does not make an answer from another thread fail."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def then(first: Future[S], convert: Callable[[S], T]) -> Future[T]:
    """A future of what `convert` makes of the first one's result, in the thread that gives it; errors pass through."""
    second: Future[T] = promise()

    def done(finished: Future[S]) -> None:
        try:
            second.set_result(convert(finished.result()))
        except BaseException as e:
            second.set_exception(e)

    first.add_done_callback(done)
    return second


def pass_on(first: Future[S], second: Future[S]) -> None:
    """Have what becomes of the first one, result or error, become of the second."""

    def done(finished: Future[S]) -> None:
        error = finished.exception()
        if error is None:
            second.set_result(finished.result())
        else:
            second.set_exception(error)

    first.add_done_callback(done)
