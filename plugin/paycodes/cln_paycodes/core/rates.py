"""Token buckets: how often each of many keys may do something; the clock is an argument."""

from __future__ import annotations

from collections import OrderedDict


class TokenBuckets:
    """One bucket for each key, full at first; not thread-safe."""

    def __init__(self, *, burst: float, per_second: float, most_keys: int) -> None:
        """A bucket holds `burst` tokens and gains `per_second`.

        Of more than `most_keys` keys the one that was idle longest is forgotten, so that a caller with many addresses
        cannot make the table grow.
        """
        self._burst = burst
        self._per_second = per_second
        self._most_keys = most_keys
        #: key -> tokens, and when they were counted; the one idle longest first
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> bool:
        """Take one token at `now` (seconds of a clock that never goes back); False when there is none."""
        tokens, counted_at = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - counted_at) * self._per_second)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > self._most_keys:
            self._buckets.popitem(last=False)
        return allowed
