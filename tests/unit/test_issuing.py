"""An invoice is on a disk before its caller has it: the node's where that tells all of it, else the sidecar's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cln_paycodes.core.terms import Issue
from cln_paycodes.services.issuing import Request
from making import Bench
from samples import commit_levels

DEADLINE_S = 20

#: SQLite's `synchronous` of a commit.
READABLE, ON_DISK = 1, 2

WORDS: dict[str, dict[str, Any]] = {
    "comment": {"comment": "with milk"},
    "payer data": {"payer_data": {"name": "Ann"}},
    "idempotency key": {"idempotency_key": "order-1"},
}

UNLISTED: dict[str, dict[str, Any]] = {"lazy": {"issue": Issue.LAZY}, "held": {"hold": True}}


@contextmanager
def shop(directory: Path, **terms: Any) -> Iterator[Bench]:
    with closing(Bench(directory, **terms)) as bench:
        yield bench


def issue(bench: Bench, **words: Any) -> list[int]:
    """How each commit was made, up to when the caller has his invoice."""
    seen = commit_levels(bench.store)
    issued = bench.issuing.issue("coffee", Request(amount_msat=1000, **words)).result(DEADLINE_S)
    seen = list(seen)
    assert issued.status == "issued"
    return seen


def test_what_the_node_lists_waits_for_no_other_disk(tmp_path: Path) -> None:
    """Label, amount, description and times are the node's own: a sidecar gets them back from there."""
    with shop(tmp_path) as bench:
        assert issue(bench) == [READABLE, READABLE]


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_words_that_the_node_does_not_know_are_on_disk_before_the_answer(tmp_path: Path, words: dict[str, Any]) -> None:
    """They came with the request, and only the sidecar has them."""
    with shop(tmp_path) as bench:
        assert issue(bench, **words) == [READABLE, ON_DISK]


@pytest.mark.parametrize("terms", UNLISTED.values(), ids=UNLISTED)
def test_string_that_the_node_does_not_know_is_on_disk_before_the_answer(tmp_path: Path, terms: dict[str, Any]) -> None:
    """Nobody else could tell that it was handed out."""
    with shop(tmp_path, **terms) as bench:
        assert issue(bench) == [READABLE, ON_DISK]


@pytest.mark.parametrize("terms", [{}, *UNLISTED.values()], ids=["eager", *UNLISTED])
def test_index_is_taken_before_the_node_is_asked(tmp_path: Path, terms: dict[str, Any]) -> None:
    """Every process that looks sees the row: however this one ends, the index stays taken."""
    seen: list[tuple[int, str]] = []

    def look() -> None:
        with closing(sqlite3.connect(tmp_path / "paycodes.sqlite3")) as other:
            seen.extend(other.execute("SELECT idx, status FROM invoices"))

    with shop(tmp_path, **terms) as bench:
        bench.node.before = look
        issue(bench)

    assert seen == [(1, "reserved")]
