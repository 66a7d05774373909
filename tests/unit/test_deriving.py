"""The process that derives hashes beside a walk: right where it answers, and never in the way where it does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cln_paycodes
import pytest
from cln_paycodes.core.keys import RootKey
from cln_paycodes.core.labels import Slot
from cln_paycodes.services.deriving import Deriver

ROOTS = [RootKey.derive(bytes(32), number) for number in range(3)]
WANTED = [(Slot(root.paycode_id, index), root) for index in (1, 2, 2**32, 10**18 - 1) for root in ROOTS]
HASHES = {slot: root.invoice(slot.index).payment_hash.hex() for slot, root in WANTED}


def _kill(deriver: Deriver) -> None:
    process = deriver._process
    assert process is not None
    process.kill()
    process.wait()


@pytest.fixture
def deriver() -> Iterator[Deriver]:
    deriver = Deriver()
    deriver.start()
    yield deriver
    deriver.stop()


def test_hashes_are_those_of_the_codes(deriver: Deriver) -> None:
    """Several requests in a row, of codes in any order, each with its own answer."""
    deriver.wait()
    first, second = deriver.begin(WANTED), deriver.begin(WANTED[:1])

    assert first() == HASHES
    assert second() == {WANTED[0][0]: HASHES[WANTED[0][0]]}
    assert deriver.begin([])() == {}


def test_what_is_not_there_yet_answers_nothing() -> None:
    """Before it was started, and after it was stopped, the walk is left to itself."""
    deriver = Deriver()
    before = deriver.begin(WANTED)()
    deriver.start()
    deriver.wait()
    under_way = deriver.begin(WANTED)
    deriver.stop()
    deriver.stop()

    assert before == {}
    assert under_way() == {}
    assert deriver.begin(WANTED)() == {}


def test_child_that_dies_answers_nothing(deriver: Deriver) -> None:
    """A request that it took with it has no hashes, and those behind it neither; the run goes on without."""
    deriver.wait()
    assert deriver.begin(WANTED)() == HASHES
    _kill(deriver)

    assert deriver.begin(WANTED)() == {}
    assert deriver.begin(WANTED)() == {}


def test_interpreter_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is derived beside the walk then, and nothing fails."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    deriver = Deriver()
    deriver.start()

    assert not deriver.is_started
    assert deriver.begin(WANTED)() == {}


def test_child_ends_with_its_input() -> None:
    """However the plugin ends, the child does not outlive it; and what it says is answers only."""
    child = subprocess.run(
        [sys.executable, "-m", "cln_paycodes.services.deriving"],
        cwd=Path(cln_paycodes.__file__).parents[1],
        input=b"",
        capture_output=True,
        timeout=30,
        check=True,
    )

    assert child.stdout == b"\n"
    assert child.stderr == b""
