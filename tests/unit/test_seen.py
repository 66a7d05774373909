"""Sets of indexes, and ranges of them without a hole."""

from __future__ import annotations

from cln_paycodes.core.seen import IndexSet, UnbrokenRange
from hypothesis import given
from hypothesis import strategies as st

INDEXES = st.integers(0, 2**63)


@given(st.lists(INDEXES), st.lists(INDEXES))
def test_set_holds_what_was_added(added: list[int], asked: list[int]) -> None:
    """Exactly like a set of Python, and `add` says what is new."""
    seen, model = IndexSet(), set()
    for index in added:
        assert seen.add(index) is (index not in model)
        model.add(index)

    assert all((index in seen) is (index in model) for index in added + asked)


@given(
    st.lists(st.integers(0, 40) | st.integers(4080, 4110) | INDEXES, max_size=60),
    st.integers(0, 4110) | INDEXES,
    st.integers(0, 4110) | INDEXES,
)
def test_gaps_are_all_that_is_not_in_the_set(added: list[int], first: int, last: int) -> None:
    """In order, from the first to the last index asked for; every run between them is in the set."""
    first, last = sorted((first, last))
    seen = IndexSet()
    for index in added:
        seen.add(index)
    gaps = list(seen.gaps(first, last))
    ends = [edge for gap in gaps for edge in gap]
    held = {index for index in added if first <= index <= last}

    assert ends == sorted(ends)
    assert not any(begin <= index <= end for index in held for begin, end in gaps)
    assert sum(end - begin + 1 for begin, end in gaps) == last - first + 1 - len(held)


@given(st.integers(0, 50), st.lists(st.integers(0, 80)), st.integers(0, 80))
def test_range_is_complete_without_a_hole_up_to_its_end(start: int, met: list[int], last: int) -> None:
    """What lies behind the end, or before the start, makes up for no hole."""
    unbroken = UnbrokenRange(start)
    for index in met:
        unbroken.meet(index)

    assert unbroken.is_complete(last) is set(met).issuperset(range(start + 1, last + 1))


RUNS = st.builds(lambda first, length: list(range(first, first + length)), st.integers(0, 4200), st.integers(0, 200))
SOME = RUNS | st.lists(st.integers(0, 9), max_size=9) | st.lists(st.integers(0, 4200) | INDEXES, max_size=9)


@given(st.lists(SOME))
def test_many_at_once_are_as_many_one_by_one(several: list[list[int]]) -> None:
    """Runs across the ends of chunks, what lies scattered, and what comes twice: the same new ones, the same set."""
    at_once, one_by_one = IndexSet(), IndexSet()
    for indexes in several:
        assert at_once.add_all(indexes) == sum(map(one_by_one.add, indexes))

    assert list(at_once.gaps(0, 2**64)) == list(one_by_one.gaps(0, 2**64))


def test_range_goes_on_after_it_was_asked() -> None:
    """A hole that is filled later is no hole."""
    unbroken = UnbrokenRange(3)
    unbroken.meet(0)
    unbroken.meet(5)
    before = unbroken.is_complete(5)
    unbroken.meet(4)

    assert (before, unbroken.is_complete(5), unbroken.is_complete(6)) == (False, True, False)
