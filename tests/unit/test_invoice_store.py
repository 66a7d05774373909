"""The table of invoices: sums that always add up, one row per key, pages, and no question that scans."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.states import MOVES, IllegalMove, InvoiceStatus
from cln_paycodes.store import found_invoices, invoices, paycodes
from cln_paycodes.store.store import Sql
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import NOW, Explained, add_invoice, add_paycode, hash_of, memory_sidecar, paycode_id_of, slot_of

S = InvoiceStatus
CODES = ("coffee", "tea")


@pytest.fixture
def sql() -> Iterator[sqlite3.Connection]:
    with memory_sidecar() as conn:
        for label in CODES:
            add_paycode(conn, label)
        yield conn


def _sums(sql: Sql, label: str) -> tuple[int, int, int, int]:
    """Issued, paid, pending and received as the code's row has them."""
    row = sql.execute(
        "SELECT issued, paid, pending, received_msat FROM paycodes WHERE paycode_id = ?", (paycode_id_of(label),)
    ).fetchone()
    return tuple(row)


def _recount(sql: Sql, label: str) -> tuple[int, int, int, int]:
    """The same from the invoices, by the contract's words."""
    rows = sql.execute(
        "SELECT status, received_msat FROM invoices WHERE paycode_id = ?", (paycode_id_of(label),)
    ).fetchall()
    statuses = [status for status, _ in rows]
    return (
        sum(status not in ("reserved", "void") for status in statuses),
        statuses.count("paid"),
        sum(status in ("reserved", "issued", "paying", "accepted", "settling") for status in statuses),
        sum(received or 0 for _, received in rows),
    )


@settings(max_examples=60)
@given(data=st.data())
def test_sums_follow_every_sequence_of_moves(data: st.DataObject) -> None:
    """Whatever happens to the invoices of two codes, each code's sums are what a count of its rows gives."""
    with memory_sidecar() as sql:
        for label in CODES:
            add_paycode(sql, label)
        for step in range(data.draw(st.integers(1, 25))):
            label = data.draw(st.sampled_from(CODES))
            rows = invoices.page(sql, paycode_id=paycode_id_of(label), limit=100)
            movable = [row for row in rows if MOVES[row.status]]
            reserved = [row for row in rows if row.status is S.RESERVED]
            action = data.draw(st.sampled_from(["insert", "move", "move", "move", "forget"]))
            if action == "move" and movable:
                row = data.draw(st.sampled_from(movable))
                to = data.draw(st.sampled_from(sorted(MOVES[row.status])))
                received = data.draw(st.integers(1, 10**12)) if to is S.PAID else None
                invoices.change(sql, row.slot, to, now=NOW + step, received_msat=received)
            elif action == "forget" and reserved:
                invoices.forget(sql, data.draw(st.sampled_from(reserved)).slot)
            else:
                slot = Slot(paycode_id_of(label), invoices.last_index(sql, paycode_id_of(label)) + 1)
                status = data.draw(st.sampled_from([S.RESERVED, S.RESERVED, S.ISSUED, S.PAID, S.EXPIRED]))
                add_invoice(sql, slot, status, received_msat=7_000 if status is S.PAID else None)

            assert {label: _sums(sql, label) for label in CODES} == {label: _recount(sql, label) for label in CODES}


def test_invoice_comes_back_as_it_was_put_in(sql: sqlite3.Connection) -> None:
    """Every field is kept, the payer's data as JSON."""
    slot = slot_of("coffee", 7)
    made = add_invoice(
        sql,
        slot,
        S.PAID,
        received_msat=21_001,
        bolt11="lnbc1",
        paid_at=NOW + 5,
        comment="thanks",
        payer_data={"name": "Ada", "emails": ["ada@example.org"]},
        idempotency_key="order-7",
    )

    found = invoices.by_slot(sql, slot)
    assert found == made == invoices.by_hash(sql, hash_of(slot)) == invoices.by_slots(sql, [slot])[slot]
    assert (made.index, made.status, made.received_msat, made.paid_at) == (7, S.PAID, 21_001, NOW + 5)
    assert made.payer_data == {"name": "Ada", "emails": ["ada@example.org"]}


def test_next_index_is_behind_every_row(sql: sqlite3.Connection) -> None:
    """An index that was found at the node is never handed out, and none goes back."""
    for index in (5, 2):
        add_invoice(sql, slot_of("coffee", index))

    code = paycodes.by_id(sql, paycode_id_of("coffee"))
    assert code is not None
    assert code.next_index == 6
    assert invoices.last_index(sql, code.paycode_id) == 5
    assert invoices.last_index(sql, paycode_id_of("tea")) == 0


@pytest.mark.parametrize("again", [slot_of("coffee", 1), slot_of("tea", 1)])
def test_index_and_hash_have_one_row_each(sql: sqlite3.Connection, again: Slot) -> None:
    """Neither the same index nor the same payment hash is entered twice, and the sums do not count the attempt."""
    add_invoice(sql, slot_of("coffee", 1))

    with pytest.raises(sqlite3.IntegrityError):
        add_invoice(sql, again, payment_hash=hash_of(slot_of("coffee", 1)))

    assert [_sums(sql, label)[2] for label in CODES] == [1, 0]


def test_idempotency_key_has_one_row_per_code(sql: sqlite3.Connection) -> None:
    """The same key of one code is one invoice; another code's key is its own; no key is no key."""
    first = add_invoice(sql, slot_of("coffee", 1), idempotency_key="order-7")
    other = add_invoice(sql, slot_of("tea", 1), idempotency_key="order-7")
    for index in (2, 3):
        add_invoice(sql, slot_of("coffee", index))

    with pytest.raises(sqlite3.IntegrityError):
        add_invoice(sql, slot_of("coffee", 4), idempotency_key="order-7")

    assert invoices.by_idempotency_key(sql, paycode_id_of("coffee"), "order-7") == first
    assert invoices.by_idempotency_key(sql, paycode_id_of("tea"), "order-7") == other
    assert invoices.by_idempotency_key(sql, paycode_id_of("tea"), "order-8") is None


def test_void_invoice_gives_its_idempotency_key_back(sql: sqlite3.Connection) -> None:
    """A caller whose invoice the node refused may try again under the same key."""
    add_invoice(sql, slot_of("coffee", 1), idempotency_key="order-7")
    invoices.change(sql, slot_of("coffee", 1), S.VOID, now=NOW)

    again = add_invoice(sql, slot_of("coffee", 2), idempotency_key="order-7")

    assert invoices.by_idempotency_key(sql, paycode_id_of("coffee"), "order-7") == again


def test_issued_invoice_keeps_its_idempotency_key(sql: sqlite3.Connection) -> None:
    """The key leads to the invoice for as long as it exists."""
    add_invoice(sql, slot_of("coffee", 1), idempotency_key="order-7")
    for to in (S.ISSUED, S.EXPIRED, S.PAID):
        invoices.change(sql, slot_of("coffee", 1), to, now=NOW)

    kept = invoices.by_idempotency_key(sql, paycode_id_of("coffee"), "order-7")
    assert kept is not None
    assert kept.status is S.PAID


def test_illegal_move_changes_nothing(sql: sqlite3.Connection) -> None:
    """What is not in the table of moves leaves row and sums as they were."""
    before = add_invoice(sql, slot_of("coffee", 1), S.PAID, received_msat=5)

    with pytest.raises(IllegalMove):
        invoices.change(sql, slot_of("coffee", 1), S.EXPIRED, now=NOW + 1)

    assert invoices.by_slot(sql, slot_of("coffee", 1)) == before
    assert _sums(sql, "coffee") == (1, 1, 0, 5)


def test_bolt11_once_known_stays(sql: sqlite3.Connection) -> None:
    """A later answer neither replaces nor erases the string that was handed out."""
    add_invoice(sql, slot_of("coffee", 1))
    invoices.change(sql, slot_of("coffee", 1), S.ISSUED, now=NOW, bolt11="lnbc1first", expires_at=NOW + 99)

    invoices.change(sql, slot_of("coffee", 1), S.PAYING, now=NOW)
    after = invoices.change(sql, slot_of("coffee", 1), S.PAID, now=NOW, bolt11="lnbc1other")

    assert (after.bolt11, after.expires_at) == ("lnbc1first", NOW + 99)


def test_only_reserved_rows_are_forgotten(sql: sqlite3.Connection) -> None:
    """An invoice that anyone may have seen stays in the books."""
    add_invoice(sql, slot_of("coffee", 1))
    add_invoice(sql, slot_of("coffee", 2), S.ISSUED)

    invoices.forget(sql, slot_of("coffee", 1))
    with pytest.raises(IllegalMove, match="never forgotten"):
        invoices.forget(sql, slot_of("coffee", 2))

    assert [row.index for row in invoices.page(sql, limit=10)] == [2]
    with pytest.raises(LookupError, match="no row"):
        invoices.get(sql, slot_of("coffee", 1))


def test_many_are_found_by_slot_and_by_hash_where_they_exist(sql: sqlite3.Connection) -> None:
    """Those without a row are absent, and none at all is no question."""
    slots = [slot_of("coffee", 1), slot_of("coffee", 3), slot_of("tea", 1)]
    for slot in slots:
        add_invoice(sql, slot)

    found = invoices.by_slots(sql, [*slots, slot_of("coffee", 2), slot_of("tea", 3)])
    by_hash = invoices.by_hashes(sql, [*map(hash_of, slots), hash_of(slot_of("coffee", 2)), "00"])

    assert {slot: row.slot for slot, row in found.items()} == {slot: slot for slot in slots}
    assert invoices.by_slots(sql, []) == {}
    assert by_hash == {row.payment_hash: row for row in found.values()}
    assert invoices.by_hashes(sql, []) == {}


def _fill(sql: sqlite3.Connection) -> None:
    """Nine invoices of two codes in turn: sequences 1 to 9, every third one paid."""
    for number in range(9):
        slot = slot_of(CODES[number % 2], number // 2 + 1)
        status = S.PAID if number % 3 == 0 else S.ISSUED
        add_invoice(sql, slot, status, expires_at=NOW + 100 - number, received_msat=1 if status is S.PAID else None)


@pytest.mark.parametrize(
    ("choice", "sequences"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"paycode_id": paycode_id_of("tea")}, [2, 4, 6, 8]),
        ({"status": S.PAID}, [1, 4, 7]),
        ({"paycode_id": paycode_id_of("coffee"), "status": S.PAID}, [1, 7]),
        ({"paycode_id": paycode_id_of("tea"), "index": 2}, [4]),
        ({"index": 2}, [3, 4]),
        ({"payment_hash": hash_of(slot_of("tea", 1))}, [2]),
        ({"payment_hash": hash_of(slot_of("tea", 1)), "status": S.PAID}, []),
        ({"start": 7}, [7, 8, 9]),
        ({"start": 10}, []),
    ],
)
def test_pages_lead_through_all_that_was_chosen(
    sql: sqlite3.Connection, choice: dict[str, Any], sequences: list[int]
) -> None:
    """Page after page, each from where the last one ended, nothing is left out or twice."""
    _fill(sql)
    start, found = choice.pop("start", 0), []
    while page := invoices.page(sql, **choice, start=start, limit=2):
        assert len(page) <= 2
        found += [row.sequence for row in page]
        start = found[-1] + 1

    assert found == sequences


def test_open_invoices_come_in_the_order_of_their_expiry(sql: sqlite3.Connection) -> None:
    """The first to expire comes first, page after page, and with a time only those past it."""
    _fill(sql)
    found, after = [], (-1, -1)
    while page := invoices.open_slots(sql, S.ISSUED, now=NOW, after=after, limit=2):
        found += [place[1] for place, _ in page]
        after = page[-1][0]
    over = invoices.open_slots(sql, S.ISSUED, now=NOW + 93, past_time=True, limit=10)

    assert found == [9, 8, 6, 5, 3, 2]
    assert [(place, slot) for place, slot in over] == [
        ((NOW + 92, 9), slot_of("coffee", 5)),
        ((NOW + 93, 8), slot_of("tea", 4)),
    ]
    assert invoices.count_open(sql, S.ISSUED) == 6
    assert invoices.open_slots(sql, S.RESERVED, now=NOW, limit=10) == []
    assert invoices.count_open(sql, S.RESERVED) == 0


def test_counts_by_status(sql: sqlite3.Connection) -> None:
    """Only the states that occur are counted."""
    _fill(sql)

    assert invoices.counts_by_status(sql) == {"paid": 3, "issued": 6}


SLOT = slot_of("coffee", 1)
HOT: dict[str, Callable[[Sql], object]] = {
    "by_slot": lambda sql: invoices.by_slot(sql, SLOT),
    "by_slots": lambda sql: invoices.by_slots(sql, [SLOT]),
    "by_hashes": lambda sql: invoices.by_hashes(sql, ["00"]),
    "by_hash": lambda sql: invoices.by_hash(sql, "00"),
    "by_idempotency_key": lambda sql: invoices.by_idempotency_key(sql, "00", "key"),
    "last_index": lambda sql: invoices.last_index(sql, "00"),
    "page": lambda sql: invoices.page(sql, start=5, limit=10),
    "page of a code": lambda sql: invoices.page(sql, paycode_id="00", start=5, limit=10),
    "page of an index": lambda sql: invoices.page(sql, paycode_id="00", index=5, limit=10),
    "page of a hash": lambda sql: invoices.page(sql, payment_hash="00", limit=10),
    "page of a state": lambda sql: invoices.page(sql, status=S.PAID, start=5, limit=10),
    "page of a code's state": lambda sql: invoices.page(sql, paycode_id="00", status=S.PAID, start=5, limit=10),
    "open_slots": lambda sql: invoices.open_slots(sql, S.ISSUED, now=NOW, after=(NOW, 5), limit=10),
    "open_slots past their time": lambda sql: invoices.open_slots(sql, S.ISSUED, now=NOW, past_time=True, limit=10),
    "is_any_over": lambda sql: invoices.is_any_over(sql, first=NOW, last=NOW + 5),
    "count_open": lambda sql: invoices.count_open(sql, S.ISSUED),
    "open_between": lambda sql: invoices.open_between(sql, S.ISSUED, now=NOW, first=Slot("00", 5), last=9),
    "among": lambda sql: found_invoices.among(sql, [Slot("00", 5), Slot("00", 9)]),
    "newest_issued": invoices.newest_issued,
    "oldest_issued": lambda sql: invoices.oldest_issued(sql, limit=10),
    "outlines": lambda sql: invoices.outlines(sql, "00", first=5, last=9, limit=10),
    "change": lambda sql: invoices.change(sql, SLOT, S.ISSUED, now=NOW),
    "forget": lambda sql: invoices.forget(sql, SLOT),
}


@pytest.mark.parametrize("query", HOT.values(), ids=HOT)
def test_no_hot_question_scans_or_sorts(sql: sqlite3.Connection, query: Callable[[Sql], object]) -> None:
    """Every question that is asked per payment or per call is answered through an index."""
    add_invoice(sql, SLOT)
    explained = Explained(sql)

    query(explained)

    # json_each of `by_slots` and `by_hashes` is the list that is asked for itself.
    tables = [step for step in explained.plans if "VIRTUAL TABLE" not in step]
    assert any(step.startswith("SEARCH") for step in tables)
    assert [step for step in tables if not step.startswith("SEARCH")] == []


@pytest.mark.parametrize(
    ("status", "registered", "is_over"),
    [(S.ISSUED, False, True), (S.ISSUED, True, False), (S.EXPIRED, False, False), (S.ACCEPTED, False, False)],
)
def test_invoice_is_over_in_silence_if_open_and_unknown_to_the_node(
    sql: sqlite3.Connection, status: S, registered: bool, is_over: bool
) -> None:
    """The node tells of the others; both ends of the time that is asked for belong to it."""
    add_invoice(sql, SLOT, status, expires_at=NOW, registered=registered)

    assert invoices.is_any_over(sql, first=NOW, last=NOW) is is_over
    assert not invoices.is_any_over(sql, first=NOW + 1, last=NOW + 9)
    assert not invoices.is_any_over(sql, first=NOW - 9, last=NOW - 1)


def test_expired_invoices_that_the_node_never_had_are_forgotten(sql: sqlite3.Connection) -> None:
    """Those that are past their time for long enough; what the node was told of, what is open and the sums stay."""
    kinds = [(S.EXPIRED, False, 1), (S.EXPIRED, False, 2), (S.EXPIRED, True, 1), (S.ISSUED, False, 1)]
    for index, (status, registered, expires_at) in enumerate(kinds, start=1):
        add_invoice(sql, slot_of("tea", index), status, expires_at=NOW + expires_at, registered=registered)
    before = _sums(sql, "tea")
    forgotten = invoices.prune_unregistered(sql, expired_at=NOW + 1, limit=10)
    left = [row.index for row in invoices.page(sql, limit=10)]

    assert forgotten == 1
    assert left == [2, 3, 4]
    assert _sums(sql, "tea") == before
    assert paycodes.pruned(sql, paycode_id_of("tea")) == 1
