"""Indexes that are certainly free: `createinvoice` for any other could end the node."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any, cast

import pytest
from cln_paycodes.core.keys import RootKey
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.records import Paycode
from cln_paycodes.core.terms import PaycodeStatus, Terms
from cln_paycodes.errors import NodeUnknown
from cln_paycodes.services.vacancy import FRESH_S, Vacancy

ROOT = RootKey.derive(bytes(32), 0)
CODE = Paycode(
    paycode_id=ROOT.paycode_id,
    number=0,
    terms=Terms(label="coffee", description="One coffee"),
    status=PaycodeStatus.ACTIVE,
    sealed_root=None,
    next_index=2,
    reserved_index=257,
    issued=1,
    paid=0,
    received_msat=0,
    pending=1,
    mirrored=True,
    created_at=0,
    updated_at=0,
)


class Around:
    """The node and the registry, as far as they are asked here."""

    def __init__(self, code: Paycode, taken: tuple[int, ...] = (), silent: bool = False, slow: bool = False) -> None:
        self.code = code
        self.answers: list[Future[bool]] = []
        self._slow = slow
        self.asked: list[str] = []
        self._taken = {ROOT.invoice(index).payment_hash.hex() for index in taken}
        self._silent = silent

    def begin_search(self, payment_hashes: list[str]) -> list[Future[bool]]:
        return list(map(self._search, payment_hashes))

    def _search(self, payment_hash: str) -> Future[bool]:
        self.asked.append(payment_hash)
        answer: Future[bool] = Future()
        self.answers.append(answer)
        if self._slow:
            return answer
        if self._silent:
            answer.set_exception(NodeUnknown("no answer"))
        else:
            answer.set_result(payment_hash in self._taken)
        return answer

    def find(self, _: str) -> Paycode:
        return self.code

    def root(self, _: Paycode) -> RootKey:
        return ROOT


def slot(index: int) -> Slot:
    return Slot(CODE.paycode_id, index)


def looked(around: Around, rounds: int = 1) -> Vacancy:
    """After as many looks ahead, each when its code has handed out one more index."""
    vacancy = Vacancy(cast(Any, around), cast(Any, around))
    for number in range(rounds):
        vacancy.look_ahead(slot(around.code.next_index - 1 + number))
    return vacancy


def test_index_that_the_node_does_not_know_is_free_once() -> None:
    """A second call for it may find the first one's invoice: it is not free any more."""
    vacancy = looked(Around(CODE))

    assert vacancy.take(slot(2))
    assert not vacancy.take(slot(2))


def test_index_that_is_used_while_the_node_is_asked_is_not_free_afterwards() -> None:
    """The answer was true when it was given, and comes too late."""
    around = Around(CODE, slow=True)
    vacancy = looked(around)
    used = vacancy.take(slot(2))
    for answer in around.answers:
        answer.set_result(False)

    assert [used, vacancy.take(slot(2)), vacancy.take(slot(3))] == [False, False, True]


def test_index_whose_hash_the_node_has_is_not_free() -> None:
    """Under whatever label it is there; its neighbours are free."""
    vacancy = looked(Around(CODE, taken=(3,)))

    assert [vacancy.take(slot(index)) for index in (2, 3, 4)] == [True, False, True]


def test_index_of_which_nothing_is_known_is_not_free() -> None:
    """Neither one that was never asked about, nor one for which no answer came."""
    assert not Vacancy(cast(Any, Around(CODE)), cast(Any, Around(CODE))).take(slot(2))
    assert not looked(Around(CODE, silent=True)).take(slot(2))


def test_index_that_was_looked_up_long_ago_is_looked_up_again() -> None:
    """What the node said a minute ago is no proof any more."""
    around, time = Around(CODE), [0.0]
    vacancy = Vacancy(cast(Any, around), cast(Any, around), monotonic=lambda: time[0])
    vacancy.look_ahead(slot(1))
    time[0] = FRESH_S + 1
    stale = vacancy.take(slot(2))
    around.code = replace(CODE, next_index=3)
    vacancy.look_ahead(slot(2))

    assert not stale
    assert vacancy.take(slot(3))


def test_index_that_was_handed_out_is_never_free() -> None:
    """Its preimage may be known elsewhere, whether the node still has the invoice or not."""
    around = Around(replace(CODE, next_index=4))
    vacancy = Vacancy(cast(Any, around), cast(Any, around))
    vacancy.look_ahead(slot(1))

    assert [vacancy.take(slot(index)) for index in (1, 2, 3, 4)] == [False, False, False, True]


@pytest.mark.parametrize("change", [{"sealed_root": "sealed"}, {"number": None}], ids=["sealed root", "no number"])
def test_imported_code_has_no_free_index(change: dict[str, Any]) -> None:
    """Others have its key; the node is not even asked."""
    around = Around(replace(CODE, **change))
    vacancy = looked(around, rounds=3)

    assert around.asked == []
    assert not vacancy.take(slot(2))
    assert not vacancy.needs_look(slot(9))


def test_index_beyond_the_block_at_the_node_is_not_free() -> None:
    """A sidecar that is lost could hand it out again."""
    vacancy = looked(Around(replace(CODE, reserved_index=4)))

    assert [vacancy.take(slot(index)) for index in (2, 3, 4, 5)] == [True, True, False, False]


def test_busy_code_is_looked_ahead_for_further_and_no_index_twice() -> None:
    """Few indexes for a code that is used seldom, then ever more, up to a limit."""
    around = Around(CODE)
    vacancy = Vacancy(cast(Any, around), cast(Any, around))
    sizes = []
    for index in range(1, 250):
        if vacancy.needs_look(slot(index)):
            before = len(around.asked)
            vacancy.look_ahead(slot(index))
            sizes.append(len(around.asked) - before)

    assert sizes[:5] == [4, 8, 16, 32, 64]
    assert max(sizes) == 64
    assert len(set(around.asked)) == len(around.asked)
