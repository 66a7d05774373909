"""Those who wait for an invoice: woken by it alone, answered once, never left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.records import Invoice
from cln_paycodes.core.states import InvoiceStatus
from cln_paycodes.errors import IllegalState, PaycodesError, WaitTimeout
from cln_paycodes.services.timer import Timer
from cln_paycodes.services.waiting import Waiters
from samples import add_invoice, add_paycode, memory_sidecar, slot_of

S = InvoiceStatus
DEADLINE_S = 20
FIRST, SECOND = slot_of("coffee", 1), slot_of("coffee", 2)


class Books:
    """The rows that a wait reads; a change is kept and told."""

    def __init__(self) -> None:
        with memory_sidecar() as sql:
            add_paycode(sql, "coffee")
            self._blank = {slot: add_invoice(sql, slot) for slot in (FIRST, SECOND)}
        self.rows: dict[Slot, Invoice] = {}
        self.timer = Timer()
        self.waiters = Waiters(self.rows.get, self.timer)

    def put(self, slot: Slot, status: InvoiceStatus) -> Invoice:
        self.rows[slot] = replace(self._blank[slot], status=status)
        return self.rows[slot]

    def change(self, slot: Slot, status: InvoiceStatus) -> Invoice:
        invoice = self.put(slot, status)
        self.waiters.changed(invoice)
        return invoice


@pytest.fixture
def books() -> Iterator[Books]:
    books = Books()
    yield books
    books.timer.stop()


def test_waiter_is_woken_by_its_invoice_alone(books: Books) -> None:
    """Another invoice of the same code leaves it waiting."""
    books.put(FIRST, S.ISSUED)
    books.put(SECOND, S.ISSUED)
    first, second = (books.waiters.wait(slot, S.PAID, None) for slot in (FIRST, SECOND))

    paid = books.change(FIRST, S.PAID)

    assert first.result(0) == paid
    assert not second.done()


def test_everyone_who_waits_for_an_invoice_is_answered(books: Books) -> None:
    """Two for its payment and one for its issue each get it when it is theirs."""
    paid_a, issued, paid_b = (books.waiters.wait(FIRST, until, None) for until in (S.PAID, S.ISSUED, S.PAID))

    at_issue = books.change(FIRST, S.ISSUED)
    assert issued.result(0) == at_issue
    assert not paid_a.done()
    books.change(FIRST, S.PAYING)
    at_payment = books.change(FIRST, S.PAID)

    assert paid_a.result(0) == paid_b.result(0) == at_payment
    assert books.waiters._waiting == {}


@pytest.mark.parametrize(
    ("until", "status"),
    [
        (S.ISSUED, S.ISSUED),
        (S.ISSUED, S.PAYING),
        (S.ISSUED, S.ACCEPTED),
        (S.ISSUED, S.SETTLING),
        (S.ISSUED, S.PAID),
        (S.ISSUED, S.EXPIRED),
        (S.ISSUED, S.CANCELED),
        (S.PAID, S.PAID),
    ],
)
def test_what_is_there_already_is_answered_at_once(books: Books, until: InvoiceStatus, status: InvoiceStatus) -> None:
    """Whoever was issued stays issued, whatever came after."""
    invoice = books.put(FIRST, status)

    assert books.waiters.wait(FIRST, until, None).result(0) == invoice


@pytest.mark.parametrize(
    ("until", "status"), [(S.ISSUED, S.VOID), (S.PAID, S.VOID), (S.PAID, S.EXPIRED), (S.PAID, S.CANCELED)]
)
@pytest.mark.parametrize("when", ["already", "later"])
def test_what_can_never_be_is_said_so(books: Books, until: InvoiceStatus, status: InvoiceStatus, when: str) -> None:
    """Nobody waits for the payment of an expired invoice, or the issue of a void one."""
    if when == "already":
        books.put(FIRST, status)
    future = books.waiters.wait(FIRST, until, None)
    if when == "later":
        books.change(FIRST, status)

    error = future.exception(0)
    assert isinstance(error, IllegalState)
    assert FIRST.label in error.message
    assert str(status) in error.message


@pytest.mark.parametrize(
    ("until", "status"),
    [(S.ISSUED, S.RESERVED), (S.PAID, S.RESERVED), (S.PAID, S.ISSUED), (S.PAID, S.PAYING), (S.PAID, S.SETTLING)],
)
def test_what_may_still_come_is_waited_for(books: Books, until: InvoiceStatus, status: InvoiceStatus) -> None:
    """A step on the way is no answer."""
    future = books.waiters.wait(FIRST, until, None)

    books.change(FIRST, status)

    assert not future.done()


def test_invoice_that_does_not_exist_yet_can_be_waited_for(books: Books) -> None:
    """The next index may be waited for before anyone asked for it."""
    future = books.waiters.wait(FIRST, S.ISSUED, None)
    assert not future.done()

    issued = books.change(FIRST, S.ISSUED)

    assert future.result(0) == issued


def test_time_out_has_its_code(books: Books) -> None:
    """After its time the caller gets error 2000, and nothing of it is kept."""
    books.put(FIRST, S.ISSUED)

    error = books.waiters.wait(FIRST, S.PAID, 0.001).exception(DEADLINE_S)

    assert isinstance(error, WaitTimeout)
    assert error.code == 2000
    assert f"{FIRST.label} is not paid yet" in str(error)
    assert books.waiters._waiting == {}
    books.change(FIRST, S.PAID)


def test_time_out_of_one_leaves_the_others_waiting(books: Books) -> None:
    """Each caller has a time of its own."""
    patient = books.waiters.wait(FIRST, S.PAID, None)

    assert isinstance(books.waiters.wait(FIRST, S.PAID, 0).exception(DEADLINE_S), WaitTimeout)
    assert not patient.done()
    paid = books.change(FIRST, S.PAID)
    assert patient.result(0) == paid


def test_no_time_at_all_is_enough_for_what_is_there(books: Books) -> None:
    """With a timeout of 0 the answer is what the books say, however slowly they are read."""
    paid = books.put(FIRST, S.PAID)

    def read_slowly(slot: Slot) -> Invoice | None:
        passed = threading.Event()
        books.timer.after(0, passed.set)
        assert passed.wait(DEADLINE_S)  # whatever was due before has run
        return books.rows.get(slot)

    assert Waiters(read_slowly, books.timer).wait(FIRST, S.PAID, 0).result(DEADLINE_S) == paid


def test_change_while_the_books_are_read_is_not_missed(books: Books) -> None:
    """A payment between registering and reading wakes the waiter, though the read is older."""
    issued = books.put(FIRST, S.ISSUED)
    waiters: list[Waiters] = []

    def read(_: Slot) -> Invoice | None:
        waiters[0].changed(replace(issued, status=S.PAID))
        return issued

    waiters.append(Waiters(read, books.timer))

    assert waiters[0].wait(FIRST, S.PAID, None).result(0).status is S.PAID


def test_answer_before_the_time_is_the_only_one(books: Books) -> None:
    """The time-out of a waiter that was answered does nothing."""
    future = books.waiters.wait(FIRST, S.PAID, 0.001)
    paid = books.change(FIRST, S.PAID)
    passed = threading.Event()
    books.timer.after(0.002, passed.set)

    assert passed.wait(DEADLINE_S)
    assert future.done()
    if future.exception() is None:
        assert future.result() == paid


def test_close_answers_everyone(books: Books) -> None:
    """When the plugin stops, nobody is left waiting."""
    futures = [books.waiters.wait(slot, S.PAID, None) for slot in (FIRST, FIRST, SECOND)]

    books.waiters.close()

    errors = [future.exception(0) for future in futures]
    assert all(isinstance(error, PaycodesError) and "stopping" in error.message for error in errors)
