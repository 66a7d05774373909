"""Token buckets."""

from __future__ import annotations

from cln_paycodes.core.rates import TokenBuckets


def taken(buckets: TokenBuckets, key: str, now: float, times: int) -> int:
    return sum(buckets.take(key, now) for _ in range(times))


def test_a_burst_is_allowed_and_no_more() -> None:
    """A new key has a full bucket."""
    assert taken(TokenBuckets(burst=5, per_second=1, most_keys=10), "a", 0.0, 8) == 5


def test_tokens_come_back_with_time_up_to_the_burst() -> None:
    """Two seconds give two, a day gives no more than the bucket holds."""
    buckets = TokenBuckets(burst=5, per_second=1, most_keys=10)
    taken(buckets, "a", 0.0, 5)

    assert taken(buckets, "a", 2.0, 5) == 2
    assert taken(buckets, "a", 90_000.0, 50) == 5


def test_asking_in_vain_costs_nothing() -> None:
    """A caller that goes on asking gets its rate all the same."""
    buckets = TokenBuckets(burst=1, per_second=1, most_keys=10)
    allowed = sum(buckets.take("a", tenth / 10) for tenth in range(100))

    assert allowed == 10


def test_keys_do_not_touch_each_other() -> None:
    """One caller's flood is not another's."""
    buckets = TokenBuckets(burst=2, per_second=1, most_keys=10)
    taken(buckets, "a", 0.0, 100)

    assert taken(buckets, "b", 0.0, 2) == 2


def test_a_clock_that_stands_still_gives_nothing() -> None:
    """Nor does one that goes back."""
    buckets = TokenBuckets(burst=1, per_second=1000, most_keys=10)
    buckets.take("a", 10.0)

    assert not buckets.take("a", 10.0)
    assert not buckets.take("a", 5.0)


def test_the_table_does_not_grow_with_its_callers() -> None:
    """The key that was idle longest is forgotten."""
    buckets = TokenBuckets(burst=1, per_second=0.001, most_keys=3)
    for key in "abcd":
        buckets.take(key, 0.0)

    assert len(buckets) == 3
    assert not buckets.take("d", 0.0)
    assert buckets.take("a", 0.0)
