"""When a delivery is tried again: a pure function of the attempt, its answer and the time.

The schedule is the one that Standard Webhooks publishes; which answers count as what is its text as well: only 2xx
acknowledges, 3xx fails, 410 disables the endpoint, 429, 502, 503, 504 and Retry-After slow down.
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

#: Answers of a receiver that has too much to do: never sooner than this.
_SLOW_DOWN = frozenset({429, 502, 503, 504})
SLOW_DOWN_S = 60


class Verdict(str, Enum):
    ACKNOWLEDGED = "acknowledged"
    RETRY = "retry"
    EXHAUSTED = "exhausted"
    #: the receiver is gone for good (410): no further delivery to this endpoint
    GONE = "gone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What an attempt brought back."""

    #: HTTP status; None when no answer came
    status: int | None
    #: seconds from a Retry-After header
    retry_after_s: int | None = None
    #: for a person; None when it succeeded
    error: str | None = None

    @property
    def acknowledged(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


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
    if answer.status in _SLOW_DOWN:
        delay_s = max(delay_s, SLOW_DOWN_S)
    if answer.retry_after_s is not None:
        delay_s = max(delay_s, min(answer.retry_after_s, RETRY_AFTER_MAX_S))
    return Verdict.RETRY, now + int(delay_s)
