"""`createinvoice` with a hash that the node has would end it: only the node's fresh word lets an invoice be made so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from cln_paycodes.core.terms import SUPPLY_MSAT
from cln_paycodes.services import minting
from making import Bench, string_by

QUICK = string_by("createinvoice")


class Clock:
    """The mint's monotonic clock: it stands still."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(minting, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path)) as bench:
        yield bench


def issue_in_a_row(bench: Bench, *indexes: int) -> None:
    """For a caller who wants each as soon as he has the one before; what the node was asked for it is forgotten."""
    for index in indexes:
        row = bench.row(index)
        assert bench.mint.begin_new(row, bench.paycode).result(0).bolt11 == QUICK
        bench.mint.look_ahead(row)
    bench.node.asked.clear()


def test_free_hash_is_made_the_quick_way(bench: Bench) -> None:
    """The node is asked once, and its word is enough."""
    made = bench.mint.begin_new(bench.row(1), bench.paycode)

    assert made.result(0).bolt11 == QUICK
    assert bench.node.asked == ["search", "createinvoice"]


def test_hash_that_the_node_has_is_left_to_its_own_command(bench: Bench) -> None:
    """`invoice` refuses it, where `createinvoice` would end the node."""
    bench.node.taken.add(bench.payment_hash(1))
    bench.mint.begin_new(bench.row(1), bench.paycode)

    assert bench.node.asked == ["search", "invoice"]


def test_repeated_call_is_left_to_its_own_command(bench: Bench) -> None:
    """A row that was there before may be at the node, whatever it said a moment ago."""
    issue_in_a_row(bench, 1, 2)
    bench.mint.begin(bench.row(3))

    assert bench.node.asked == ["invoice"]


def test_word_that_is_still_on_its_way_is_waited_for(bench: Bench, clock: Clock) -> None:
    """Nothing is made before it is here, and however long it takes, it is fresh when it comes."""
    bench.node.is_slow = True
    made = bench.mint.begin_new(bench.row(1), bench.paycode)
    asked_before = list(bench.node.asked)
    clock.now_s += 60
    bench.node.answer()

    assert asked_before == ["search"]
    assert made.result(0).bolt11 == QUICK


def test_next_hash_is_asked_for_ahead(bench: Bench) -> None:
    """A caller who goes on at once does not wait for the node's word."""
    issue_in_a_row(bench, 1, 2)
    made = bench.mint.begin_new(bench.row(3), bench.paycode)

    assert made.result(0).bolt11 == QUICK
    assert bench.node.asked == ["createinvoice"]


def test_next_hash_that_the_node_has_is_left_to_its_own_command(bench: Bench) -> None:
    """What it says ahead counts like what it says at the time."""
    bench.node.taken.add(bench.payment_hash(3))
    issue_in_a_row(bench, 1, 2)
    bench.mint.begin_new(bench.row(3), bench.paycode)

    assert bench.node.asked == ["invoice"]


def test_word_ahead_counts_once(bench: Bench) -> None:
    """The index was used up by it, whatever came of that."""
    issue_in_a_row(bench, 1, 2)
    row = bench.row(3)
    for _ in range(2):
        bench.mint.begin_new(row, bench.paycode)

    assert bench.node.asked == ["createinvoice", "search", "createinvoice"]


def test_old_word_of_the_node_is_asked_for_again(bench: Bench, clock: Clock) -> None:
    """The caller paused, and meanwhile someone used the hash."""
    issue_in_a_row(bench, 1, 2)
    bench.node.taken.add(bench.payment_hash(3))
    clock.now_s += 0.2
    bench.mint.begin_new(bench.row(3), bench.paycode)

    assert bench.node.asked == ["search", "invoice"]


def test_late_word_ahead_is_waited_for(bench: Bench, clock: Clock) -> None:
    """It was asked for long ago and is not here yet: it will be fresh."""
    issue_in_a_row(bench, 1)
    bench.node.is_slow = True
    row = bench.row(2)
    bench.mint.begin_new(row, bench.paycode)
    bench.node.answer()
    bench.mint.look_ahead(row)
    clock.now_s += 60
    made = bench.mint.begin_new(bench.row(3), bench.paycode)
    asked_before = list(bench.node.asked)
    bench.node.answer()

    assert asked_before == ["search", "createinvoice", "search"]
    assert made.result(0).bolt11 == QUICK


def test_word_about_another_hash_counts_for_nothing(bench: Bench) -> None:
    """Another index was taken than the one that was expected."""
    issue_in_a_row(bench, 1, 2)
    bench.mint.begin_new(bench.row(5), bench.paycode)

    assert bench.node.asked == ["search", "createinvoice"]


def test_nothing_is_asked_ahead_for_a_crowd_or_a_caller_who_pauses(bench: Bench, clock: Clock) -> None:
    """The next index is taken already, or will be when the word is old."""
    issue_in_a_row(bench, 1)
    first, second = bench.row(2), bench.row(3)
    bench.mint.begin_new(first, bench.paycode)
    bench.mint.begin_new(second, bench.paycode)
    bench.mint.look_ahead(first)
    clock.now_s += 0.2
    third = bench.row(4)
    bench.mint.begin_new(third, bench.paycode)
    bench.mint.look_ahead(third)

    assert bench.node.asked == ["search", "createinvoice"] * 3


def test_imported_code_is_never_made_the_quick_way(bench: Bench) -> None:
    """Its key is known elsewhere: no word of the node is fresh enough."""
    imported = replace(bench.paycode, sealed_root="sealed")
    bench.mint.begin_new(bench.row(1), imported)

    assert bench.node.asked == ["invoice"]


def test_amount_that_the_node_cannot_read_is_left_to_its_own_command(bench: Bench) -> None:
    """Nobody has so much, but anyone may ask for it: the next caller's invoice is made the quick way as before."""
    bench.mint.begin_new(bench.row(1, amount_msat=SUPPLY_MSAT), bench.paycode)
    bench.mint.begin_new(bench.row(2), bench.paycode)

    assert bench.node.asked == ["invoice", "search", "createinvoice"]
