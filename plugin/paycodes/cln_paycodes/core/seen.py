"""Sets of indexes in a bit or so each: which of a node's invoices a walk has met, however many there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator

#: Bits of one chunk: dense runs of indexes cost one bit each, a stray one this many.
_CHUNK_BITS = 4096


class IndexSet:
    """Non-negative integers; small where they are dense."""

    def __init__(self) -> None:
        #: a bit for each index
        self._chunks: dict[int, int] = {}

    def add(self, index: int) -> bool:
        """True when it was not in the set."""
        number, bit = divmod(index, _CHUNK_BITS)
        chunk = self._chunks.get(number, 0)
        if chunk >> bit & 1:
            return False
        self._chunks[number] = chunk | 1 << bit
        return True

    def add_all(self, indexes: Collection[int]) -> int:
        """How many of them were not in the set; quick where they follow each other."""
        run = _run_of(indexes)
        return sum(map(self.add, indexes)) if run is None else self.add_run(*run)

    def add_run(self, first: int, last: int) -> int:
        """The same for all from the first to the last."""
        added = 0
        for number in range(first // _CHUNK_BITS, last // _CHUNK_BITS + 1):
            begin = number * _CHUNK_BITS
            low, end = max(first - begin, 0), min(last - begin + 1, _CHUNK_BITS)
            mask, chunk = (1 << end) - (1 << low), self._chunks.get(number, 0)
            added += (mask & ~chunk).bit_count()
            self._chunks[number] = chunk | mask
        return added

    def gaps(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The runs of indexes that are not in the set, each with its first and last one."""
        for begin, end in self._runs():
            if first < begin:
                yield first, min(begin - 1, last)
            first = max(first, end + 1)
            if first > last:
                return
        yield first, last

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Of indexes in the set that follow each other; one ends with each chunk at the latest."""
        for number in sorted(self._chunks):
            bits, at = self._chunks[number], number * _CHUNK_BITS
            while bits:
                skipped = (bits & -bits).bit_length() - 1
                bits >>= skipped
                length = (~bits & (bits + 1)).bit_length() - 1
                bits >>= length
                yield at + skipped, at + skipped + length - 1
                at += skipped + length

    def __contains__(self, index: int) -> bool:
        number, bit = divmod(index, _CHUNK_BITS)
        return bool(self._chunks.get(number, 0) >> bit & 1)


def _run_of(indexes: Collection[int]) -> tuple[int, int] | None:
    """The first and the last of these, when all between them are among them."""
    if not indexes:
        return None
    first, last = min(indexes), max(indexes)
    return (first, last) if last - first + 1 == len(set(indexes)) else None


class UnbrokenRange:
    """Whether every index behind `start` up to some last one has been met.

    The node gives each of its `created` and `updated` indexes out once. An invoice that was paid and then deleted
    has left a hole among the updated ones, so a range without a hole proves that nothing of the kind happened.
    """

    def __init__(self, start: int) -> None:
        self._unbroken_to = start
        self._met = IndexSet()

    def meet(self, index: int) -> None:
        if index <= self._unbroken_to:
            return
        if index == self._unbroken_to + 1:
            self._unbroken_to = index
        else:
            self._met.add(index)

    def is_complete(self, last: int) -> bool:
        """Nothing is missing up to `last`."""
        while self._unbroken_to < last and self._unbroken_to + 1 in self._met:
            self._unbroken_to += 1
        return self._unbroken_to >= last
