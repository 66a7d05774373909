"""What other threads make arrives at the loop: each result at its own waiter, whoever is gone."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from cln_paycodes.chaining import promise
from cln_paycodes.http.arrivals import Arrivals

WAITERS = 2000


def test_every_result_arrives_at_its_own_waiter() -> None:
    """From many threads at once, some before anybody waits for them."""

    async def scenario() -> list[int]:
        arrivals, coming = Arrivals(), [promise() for _ in range(WAITERS)]
        with ThreadPoolExecutor(8) as threads:
            finishing = threads.map(lambda number: coming[number].set_result(number), range(WAITERS))
            waiting = []
            for number, future in enumerate(coming):
                waiting.append(arrivals.of(future))
                if number % 100 == 0:
                    await asyncio.sleep(0)
            results = await asyncio.wait_for(asyncio.gather(*waiting), 30)
            list(finishing)
            return results

    assert asyncio.run(scenario()) == list(range(WAITERS))


def test_an_error_arrives_as_one() -> None:
    """Raised where it is waited for."""

    async def scenario() -> None:
        arrivals, coming = Arrivals(), promise()
        waiting = arrivals.of(coming)
        coming.set_exception(ValueError("broken"))
        await waiting

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(scenario())


def test_results_that_come_together_share_a_wake_up() -> None:
    """And one that comes after the loop has looked gets another."""

    async def scenario() -> tuple[int, int]:
        loop, arrivals = asyncio.get_running_loop(), Arrivals()
        woken = 0
        call = loop.call_soon_threadsafe

        def counted(*arguments: object) -> object:
            nonlocal woken
            woken += 1
            return call(*arguments)  # type: ignore[arg-type]

        loop.call_soon_threadsafe = counted  # type: ignore[method-assign, assignment]
        coming = [promise() for _ in range(10)]
        waiting = [arrivals.of(future) for future in coming]
        for future in coming[:9]:
            future.set_result(None)
        await asyncio.gather(*waiting[:9])
        together = woken
        coming[9].set_result(None)
        await waiting[9]
        return together, woken

    assert asyncio.run(scenario()) == (1, 2)


def test_who_gives_up_harms_nobody() -> None:
    """The others get theirs, and what was given up comes to its end."""

    async def scenario() -> tuple[bool, str]:
        arrivals, left, wanted = Arrivals(), promise(), promise()
        arrivals.of(left).cancel()
        waiting = arrivals.of(wanted)
        left.set_exception(ValueError("nobody asks"))
        wanted.set_result("here")
        return left.cancelled(), await waiting

    assert asyncio.run(scenario()) == (False, "here")


def test_what_comes_after_the_loop_has_ended_is_dropped() -> None:
    """Whoever made it is told of nothing."""
    coming: Future[None] = promise()

    async def scenario() -> None:
        Arrivals().of(coming)

    asyncio.run(scenario())
    coming.set_result(None)

    assert coming.result() is None
