"""The table of paycodes: kept whole, found by any name, unique where it must be."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from cln_paycodes.core.definitions import PaycodeDefinition, decode_paycode, encode_paycode
from cln_paycodes.core.terms import Issue, PaycodeStatus
from cln_paycodes.store import paycodes
from cln_paycodes.store.store import Sql
from samples import NOW, Explained, add_paycode, definition_of, memory_sidecar, paycode_id_of

FULL = definition_of(
    "coffee",
    number=4,
    user="till",
    min_msat=1_000,
    max_msat=10**9,
    expiry=60,
    comment_chars=0,
    issue=Issue.LAZY,
    hold=True,
    max_pending=3,
    status=PaycodeStatus.DISABLED,
    sealed_root="c2VhbGVk",
    reserved_index=101,
    listed_from=1,
    updated_at=NOW + 1,
)


@pytest.fixture
def sql() -> Iterator[sqlite3.Connection]:
    with memory_sidecar() as conn:
        yield conn


@pytest.mark.parametrize("definition", [FULL, definition_of("plain")], ids=["full", "plain"])
def test_code_comes_back_as_it_was_put_in(sql: sqlite3.Connection, definition: PaycodeDefinition) -> None:
    """Every term is kept, and the row's definition is the one that it came from."""
    paycodes.insert(sql, definition, next_index=7, mirrored=True)

    code = paycodes.by_id(sql, definition.paycode_id)

    assert code is not None
    assert decode_paycode(code.paycode_id, encode_paycode(code)) == definition
    assert (code.next_index, code.mirrored, code.issued, code.paid, code.received_msat) == (7, True, 0, 0, 0)


def test_code_is_found_by_each_of_its_names(sql: sqlite3.Connection) -> None:
    """Id, label, user and the beginning of the id lead to it; nothing else does."""
    paycodes.insert(sql, FULL, next_index=1, mirrored=True)
    add_paycode(sql, "tea")
    code = paycodes.by_id(sql, FULL.paycode_id)

    assert code is not None
    assert code == paycodes.by_label(sql, "coffee") == paycodes.by_user(sql, "till")
    assert paycodes.by_prefix(sql, FULL.paycode_id[:8]) == [code]
    assert paycodes.by_prefix(sql, FULL.paycode_id) == [code]
    assert paycodes.by_label(sql, "Coffee") is None
    assert paycodes.by_user(sql, "coffee") is None
    assert paycodes.by_id(sql, "00" * 32) is None


@pytest.mark.parametrize(("prefix", "found"), [("abcdef12", 2), ("abcdef120", 1), ("abcdef12f", 1), ("abcdef13", 0)])
def test_prefix_of_several_ids_finds_two(sql: sqlite3.Connection, prefix: str, found: int) -> None:
    """Two are enough to know that a prefix is not unique; the last hex digit is among them."""
    for label, paycode_id in (("a", "abcdef120" + "0" * 55), ("b", "abcdef12f" + "f" * 55), ("c", "f" * 64)):
        add_paycode(sql, label, paycode_id=paycode_id)

    assert len(paycodes.by_prefix(sql, prefix)) == found


@pytest.mark.parametrize(
    "other",
    [
        replace(definition_of("coffee"), paycode_id="00" * 32),
        definition_of("tea", user="till"),
        definition_of("tea", number=4),
        replace(definition_of("tea"), paycode_id=FULL.paycode_id),
    ],
    ids=["label", "user", "number", "id"],
)
def test_name_is_taken_once(sql: sqlite3.Connection, other: PaycodeDefinition) -> None:
    """Two codes share neither id, number, label nor user."""
    paycodes.insert(sql, FULL, next_index=1, mirrored=True)

    with pytest.raises(sqlite3.IntegrityError):
        paycodes.insert(sql, other, next_index=1, mirrored=True)

    assert [code.paycode_id for code in paycodes.every(sql)] == [FULL.paycode_id]


def test_codes_without_user_and_number_do_not_collide(sql: sqlite3.Connection) -> None:
    """Imported codes have no number, most codes have no user."""
    for label in ("a", "b", "c"):
        add_paycode(sql, label)

    assert [code.terms.label for code in paycodes.every(sql)] == ["a", "b", "c"]


def test_numbers_go_on_from_the_highest(sql: sqlite3.Connection) -> None:
    """The first is 0, an imported code takes none, and a gap is not filled."""
    numbers = [paycodes.next_number(sql)]
    for label, number in (("a", 0), ("b", None), ("c", 5)):
        add_paycode(sql, label, number=number)
        numbers.append(paycodes.next_number(sql))

    assert numbers == [0, 1, 1, 6]


def test_changed_terms_wait_for_the_datastore(sql: sqlite3.Connection) -> None:
    """A change is kept at once and counts as not mirrored until the node's datastore has it."""
    paycodes.insert(sql, FULL, next_index=9, mirrored=True)
    terms = replace(FULL.terms, label="espresso", user=None, max_msat=None, hold=False, issue=Issue.EAGER)

    paycodes.set_terms(sql, FULL.paycode_id, terms, now=NOW + 5)
    (changed,) = paycodes.unmirrored(sql)
    paycodes.mark_mirrored(sql, FULL.paycode_id, changed.reserved_index)

    assert (changed.terms, changed.updated_at, changed.next_index) == (terms, NOW + 5, 9)
    assert paycodes.unmirrored(sql) == []


def test_changed_status_waits_for_the_datastore(sql: sqlite3.Connection) -> None:
    """So does disabling a code."""
    add_paycode(sql, "coffee", reserved_index=1)
    paycodes.mark_mirrored(sql, paycode_id_of("coffee"), 1)

    paycodes.set_status(sql, paycode_id_of("coffee"), PaycodeStatus.DISABLED, now=NOW + 5)

    assert [(code.status, code.updated_at) for code in paycodes.unmirrored(sql)] == [(PaycodeStatus.DISABLED, NOW + 5)]


def test_bound_of_indexes_only_rises(sql: sqlite3.Connection) -> None:
    """An answer of the datastore that comes late does not take back what a later one allowed."""
    paycode_id = add_paycode(sql, "coffee")
    for bound in (101, 51):
        paycodes.mark_mirrored(sql, paycode_id, bound)
        paycodes.raise_next_index(sql, paycode_id, bound)

    code = paycodes.by_id(sql, paycode_id)
    assert code is not None
    assert (code.reserved_index, code.next_index) == (101, 101)


HOT: dict[str, Callable[[Sql], Any]] = {
    "by_id": lambda sql: paycodes.by_id(sql, "00"),
    "by_label": lambda sql: paycodes.by_label(sql, "coffee"),
    "by_user": lambda sql: paycodes.by_user(sql, "till"),
    "by_prefix": lambda sql: paycodes.by_prefix(sql, "00000000"),
    "count": lambda sql: paycodes.count(sql, paycode_id_of("coffee"), pending=1),
}


@pytest.mark.parametrize("query", HOT.values(), ids=HOT)
def test_code_is_found_through_an_index(sql: sqlite3.Connection, query: Callable[[Sql], Any]) -> None:
    """Ten thousand codes are no slower than ten."""
    add_paycode(sql, "coffee")
    explained = Explained(sql)
    query(explained)

    assert explained.plans
    assert [plan for plan in explained.plans if not plan.startswith("SEARCH paycodes USING")] == []
