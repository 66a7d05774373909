"""Sets of indexes in a bit or so each: which of a node's invoices a walk has met, however many there are."""

from __future__ import annotations

from collections.abc import Iterator

#: Bits of one chunk: dense runs of indexes cost one bit each, a stray one this many.
_CHUNK_BITS = 4096


class IndexSet:
    """Non-negative integers; small where they are dense."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def add(self, index: int) -> bool:
        """True when it was not in the set."""
        number, bit = divmod(index, _CHUNK_BITS)
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._chunks[number] = bytearray(_CHUNK_BITS // 8)
        mask = 1 << (bit & 7)
        if chunk[bit >> 3] & mask:
            return False
        chunk[bit >> 3] |= mask
        return True

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
            bits, at = int.from_bytes(self._chunks[number], "little"), number * _CHUNK_BITS
            while bits:
                skipped = (bits & -bits).bit_length() - 1
                bits >>= skipped
                length = (~bits & (bits + 1)).bit_length() - 1
                bits >>= length
                yield at + skipped, at + skipped + length - 1
                at += skipped + length

    def __contains__(self, index: int) -> bool:
        number, bit = divmod(index, _CHUNK_BITS)
        chunk = self._chunks.get(number)
        return chunk is not None and bool(chunk[bit >> 3] & 1 << (bit & 7))


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
