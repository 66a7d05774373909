"""The threads that methods and HTLCs run on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from cln_paycodes.app import Pools


@pytest.fixture
def pools() -> Iterator[Pools]:
    made = Pools()
    yield made
    made.stop()


def test_job_is_done_where_no_more_threads_can_be_had(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of the machine is reached, and whoever hands over a job lives: it waits for a thread there is."""
    first, others = threading.Event(), [threading.Event() for _ in range(20)]
    pools.submit("htlc", first.wait)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limit:
        limit.setattr(threading.Thread, "start", refuse)
        for event in others:
            pools.submit("htlc", event.set)
    first.set()

    assert all(event.wait(10) for event in others)


def test_stopped_pool_takes_nothing(pools: Pools) -> None:
    """Whoever hands over a job then is told."""
    pools.stop()

    with pytest.raises(RuntimeError):
        pools.submit("htlc", int)
