"""When a delivery is tried again, and when an endpoint is left alone: pure functions of attempt, answer and time.

Deliveries follow the schedule that Standard Webhooks publishes; which answers count as what is its text as well: only
2xx acknowledges, 3xx fails, 410 disables the endpoint, 429, 502, 503, 504 and Retry-After slow down.

An endpoint that fails is more than its deliveries: after `TRIP` failures in a row it gets one attempt at a time, with
growing pauses up to `PAUSE_MAX_S`. So a backlog neither hammers a receiver that is down nor uses up its own attempts
on it, and all of it leaves a few minutes after the receiver is back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

#: Seconds from one attempt to the next, beginning with the wait after the first.
DELAYS_S = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)

#: Attempts after which a delivery is exhausted.
MOST_ATTEMPTS = 1 + len(DELAYS_S)

#: A delay is stretched by up to this part of itself, so that receivers that failed together do not return together.
JITTER = 0.2

#: The longest a receiver may ask us to wait.
RETRY_AFTER_MAX_S = 24 * 3600

#: Answers of a receiver, or of what stands before it, that has too much to do: nothing more for this long.
SLOW_DOWN = (429, 502, 503, 504)
SLOW_DOWN_S = 60

#: Failures of an endpoint in a row from which on it gets one attempt at a time. Fewer may be the events' own fault.
TRIP = 3

#: Seconds of the first pause of a failing endpoint, doubled with each failure, and of the longest.
PAUSE_S = 5
PAUSE_MAX_S = 300

#: Seconds of nothing but failure after which an endpoint is disabled, and the failures that must have been seen.
DISABLE_AFTER_S = 5 * 24 * 3600
DISABLE_FAILURES = 5

#: Seconds between two failures, more than any wait, after which that time begins anew: the node was off, the clock
#: jumped, or there was nothing to send.
UNSEEN_S = 36 * 3600


class Verdict(str, Enum):
    ACKNOWLEDGED = "acknowledged"
    RETRY = "retry"
    EXHAUSTED = "exhausted"
    #: the receiver is gone for good (410): no further delivery to this endpoint
    GONE = "gone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What an attempt brought back."""

    #: HTTP status; None when no answer came, or when the receiver does not speak HTTP
    status: int | None
    #: seconds from a Retry-After header
    retry_after_s: int | None = None
    #: for a person; None when it succeeded
    error: str | None = None
    #: a stream's acknowledgement that it has stored the event
    stored: bool = False

    @property
    def acknowledged(self) -> bool:
        return self.stored or (self.status is not None and 200 <= self.status < 300)

    @property
    def asked_pause_s(self) -> int:
        """Seconds that the receiver wants to be left alone."""
        asked = 0 if self.retry_after_s is None else min(self.retry_after_s, RETRY_AFTER_MAX_S)
        return max(asked, SLOW_DOWN_S) if self.status in SLOW_DOWN else asked


def judge_attempt(*, attempts: int, answer: Answer, now: int, chance: float) -> tuple[Verdict, int]:
    """The verdict on attempt number `attempts` (the first is 1) and the unix second of the next one.

    `chance` is a random number from 0 to 1. For verdicts other than RETRY the second is `now`.
    """
    if answer.acknowledged:
        return Verdict.ACKNOWLEDGED, now
    if answer.status == 410:
        return Verdict.GONE, now
    if attempts >= MOST_ATTEMPTS:
        return Verdict.EXHAUSTED, now
    delay_s = DELAYS_S[attempts - 1] * (1 + JITTER * chance)
    return Verdict.RETRY, now + int(max(delay_s, answer.asked_pause_s))


def resume_at(*, failures: int, answer: Answer, now: int, chance: float) -> int:
    """The unix second before which the endpoint gets nothing, after `failures` failures in a row with this one."""
    pause_s = 0.0
    if failures >= TRIP:
        pause_s = min(PAUSE_MAX_S, PAUSE_S * 2 ** min(failures - TRIP, 30)) * (1 + JITTER * chance)
    return now + int(max(pause_s, answer.asked_pause_s))


def failing_since(before: int | None, *, last_failure_at: int | None, now: int) -> int:
    """Since when an endpoint that fails at `now` has done nothing else; `before` as of its last failure."""
    if before is None or last_failure_at is None or now - last_failure_at > UNSEEN_S:
        return now
    return min(before, now)  # a clock that went back takes it along


def is_given_up(*, failures: int, failing_since: int, now: int) -> bool:
    """An endpoint that just failed for the `failures`th time in a row, first at `failing_since`, gets no more."""
    return failures >= DISABLE_FAILURES and now - failing_since >= DISABLE_AFTER_S
