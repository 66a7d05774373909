"""How quickly payments go, one by one and many at once: ours beside the reference, in turns.

The plugin costs a payment a few hundredths of what it takes, and machines drift by more than that within seconds. So
a round is two turns of each side, in the order ours, reference, reference, ours (the next round begins with the
reference): a drift hits both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .load import Job, Seen, load, together
from .suite import Round, take_turns

ONE_BY_ONE = 20
#: Enough that the beginning and the end, when fewer than `CALLERS` are under way, are a small part.
AT_ONCE = 200
CALLERS = 32

#: Turns of each side in a round.
TURNS = 2

#: One turn of one side: what was seen one by one, and many at once.
Turn = tuple[Seen, Seen]


def turn(one_by_one: Job, at_once: Job) -> Turn:
    return load(one_by_one), load(at_once)


def rounds(count: int, name: str, ours: Callable[[], Turn], reference: Callable[[], Turn]) -> Iterator[Round]:
    """Median latency in ms, one by one, and payments per second, many at once."""
    for number in range(count):
        turns = [take_turns(number + each, ours=ours, reference=reference) for each in range(TURNS)]
        slow, plain_slow = (together(each[side][0] for each in turns) for side in ("ours", "reference"))
        many, plain_many = (together(each[side][1] for each in turns) for side in ("ours", "reference"))
        yield {
            f"{name}-1": (slow.quantile_ms(0.5), plain_slow.quantile_ms(0.5)),
            f"{name}-{CALLERS}": (many.per_second, plain_many.per_second),
        }
