"""When a delivery is tried again, and when an endpoint is left alone."""

from __future__ import annotations

import pytest
from cln_paycodes.core.retry import (
    DELAYS_S,
    DISABLE_AFTER_S,
    DISABLE_FAILURES,
    JITTER,
    MOST_ATTEMPTS,
    PAUSE_MAX_S,
    RETRY_AFTER_MAX_S,
    SLOW_DOWN_S,
    TRIP,
    UNSEEN_S,
    Answer,
    Verdict,
    failing_since,
    is_given_up,
    judge_attempt,
    resume_at,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000
HOUR = 3600

answers = st.builds(
    Answer,
    status=st.none() | st.integers(100, 599),
    retry_after_s=st.none() | st.integers(0, 10**9),
    error=st.none() | st.text(),
    stored=st.booleans(),
)
chances = st.floats(0, 1)
moments = st.integers(0, 2**40)


def failed(status: int | None = 500, retry_after_s: int | None = None) -> Answer:
    return Answer(status=status, retry_after_s=retry_after_s, error="it failed")


def test_schedule_is_the_published_one() -> None:
    """Without jitter the waits are those of Standard Webhooks: 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""
    waits = [judge_attempt(attempts=n, answer=failed(), now=0, chance=0)[1] for n in range(1, MOST_ATTEMPTS)]

    hours = [2, 5, 10, 14, 20, 24]
    assert waits == [5, 300, 1800, *(hour * HOUR for hour in hours)]


@given(attempts=st.integers(1, 50), answer=answers, now=moments, chance=chances)
def test_verdict_follows_from_the_answer(attempts: int, answer: Answer, now: int, chance: float) -> None:
    """Only an acknowledgement acknowledges, only 410 is gone, the last attempt exhausts, all others are retried."""
    verdict, due_at = judge_attempt(attempts=attempts, answer=answer, now=now, chance=chance)

    if answer.stored or (answer.status is not None and 200 <= answer.status <= 299):
        assert (verdict, due_at) == (Verdict.ACKNOWLEDGED, now)
    elif answer.status == 410:
        assert (verdict, due_at) == (Verdict.GONE, now)
    elif attempts >= MOST_ATTEMPTS:
        assert (verdict, due_at) == (Verdict.EXHAUSTED, now)
    else:
        assert verdict is Verdict.RETRY


@given(attempts=st.integers(1, MOST_ATTEMPTS - 1), answer=answers, now=moments, chance=chances)
def test_retry_is_never_early_and_never_unbounded(attempts: int, answer: Answer, now: int, chance: float) -> None:
    """The next attempt waits its delay, what the receiver asked for up to a day, and at most the jitter on top."""
    verdict, due_at = judge_attempt(attempts=attempts, answer=answer, now=now, chance=chance)
    if verdict is not Verdict.RETRY:
        return
    asked = min(answer.retry_after_s or 0, RETRY_AFTER_MAX_S)
    longest = max(DELAYS_S[attempts - 1] * (1 + JITTER), asked, SLOW_DOWN_S)

    assert max(DELAYS_S[attempts - 1], asked) <= due_at - now <= longest


@given(attempts=st.integers(1, MOST_ATTEMPTS - 1), now=moments, low=chances, high=chances)
def test_jitter_only_stretches(attempts: int, now: int, low: float, high: float) -> None:
    """A larger chance never makes a retry earlier, and the same one always gives the same second."""
    low, high = min(low, high), max(low, high)
    early, late = (judge_attempt(attempts=attempts, answer=failed(), now=now, chance=c)[1] for c in (low, high))

    assert early <= late
    assert early == judge_attempt(attempts=attempts, answer=failed(), now=now, chance=low)[1]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_overloaded_receiver_is_left_alone(status: int) -> None:
    """After 429, 502, 503 and 504 neither the delivery nor the endpoint is tried for a minute."""
    _, due_at = judge_attempt(attempts=1, answer=failed(status), now=NOW, chance=0)

    assert due_at == NOW + SLOW_DOWN_S
    assert resume_at(failures=1, answer=failed(status), now=NOW, chance=0) == NOW + SLOW_DOWN_S


@pytest.mark.parametrize(("asked", "waited"), [(0, 0), (120, 120), (10**9, RETRY_AFTER_MAX_S)])
def test_retry_after_holds_for_the_whole_endpoint(asked: int, waited: int) -> None:
    """What the receiver asks for in Retry-After, up to a day, is time in which it gets nothing at all."""
    assert resume_at(failures=1, answer=failed(500, asked), now=NOW, chance=1) == NOW + waited


@given(failures=st.integers(1, 10**6), now=moments, chance=chances)
def test_pause_of_a_failing_endpoint_is_bounded(failures: int, now: int, chance: float) -> None:
    """The first failures cost the endpoint nothing, later ones a pause that grows to some minutes and no further."""
    until = resume_at(failures=failures, answer=failed(), now=now, chance=chance)

    if failures < TRIP:
        assert until == now
    else:
        assert now < until <= now + PAUSE_MAX_S * (1 + JITTER)


@given(failures=st.integers(0, 100), age=st.integers(-(10**6), 10**7))
def test_endpoint_is_given_up_after_five_days_of_failure(failures: int, age: int) -> None:
    """Both must be: five days, and more failures than a clock that jumped could explain."""
    given_up = is_given_up(failures=failures, failing_since=NOW - age, now=NOW)

    assert given_up == (failures >= DISABLE_FAILURES and age >= DISABLE_AFTER_S)
    assert DISABLE_AFTER_S == 5 * 24 * HOUR


@given(ages=st.lists(st.integers(-(10**6), 10**6), min_size=1))
def test_time_of_failure_is_made_of_failures_only(ages: list[int]) -> None:
    """It never begins before a gap that no wait explains, nor after the failure itself."""
    since, last = None, None
    for at in (NOW + age for age in ages):
        begun_anew = last is None or at - last > UNSEEN_S
        since, last = failing_since(since, last_failure_at=last, now=at), at

        assert since <= at
        assert not begun_anew or since == at
    assert max(DELAYS_S) * (1 + JITTER) < UNSEEN_S < DISABLE_AFTER_S
    assert UNSEEN_S > RETRY_AFTER_MAX_S
