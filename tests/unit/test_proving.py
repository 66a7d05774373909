"""The process that walks the node's list beside a run: right where it answers, and never in the way else."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cln_paycodes
import pytest
from cln_paycodes.core.bolt11 import UnsignedInvoice, encode
from cln_paycodes.core.events import EventRow
from cln_paycodes.core.found import Found, event_of, prove
from cln_paycodes.core.keys import RootKey
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.records import NodeInvoice
from cln_paycodes.node.invoices import invoice_of
from cln_paycodes.services.prover import Prover
from cln_paycodes.services.proving import Proven, pack, unpack

NODE_ID = "02" * 33
ROOTS = [RootKey.derive(bytes(32), number) for number in range(3)]
KNOWN = {root.paycode_id: root for root in ROOTS[:2]}
COUNT = 60
BOLT11 = encode(
    UnsignedInvoice(
        currency="bcrt",
        amount_msat=1000,
        timestamp=1_700_000_000,
        payment_hash=bytes(32),
        payment_secret=bytes(32),
        description="tea",
        expiry_s=600,
        min_final_cltv_expiry_delta=18,
        features=0,
    )
)


def entry(number: int, **other: Any) -> dict[str, Any]:
    """What the node lists under a `created` index: of the codes in turn, every third paid, the last code unknown."""
    root, index = ROOTS[number % 3], number // 3 + 1
    paid = {"status": "paid", "amount_received_msat": 1001, "paid_at": 1_700_000_100, "updated_index": number}
    return {
        "label": Slot(root.paycode_id, index).label,
        "bolt11": BOLT11,
        "payment_hash": root.payment_hash(index),
        "amount_msat": 1000,
        "status": "unpaid",
        "description": "tea",
        "expires_at": 1_700_000_600,
        "created_index": number,
        **(paid if index % 3 == 0 else {}),
        **other,
    }


ENTRIES = [entry(number) for number in range(1, COUNT + 1)]


class Listing:
    """A socket on which `listinvoices` is answered."""

    def __init__(self, directory: Path, entries: list[dict[str, Any]], *, answers: int) -> None:
        """The connection ends after so many `answers`."""
        self.path = str(directory / "rpc")
        self._entries = entries
        self._answers = answers
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            connection, _ = self._server.accept()
        except OSError:
            return  # nobody asked
        with connection, connection.makefile("rwb") as file:
            for _ in range(self._answers):
                line = file.readline()
                if not line:
                    return
                asked = json.loads(line)["params"]
                file.readline()
                page = [found for found in self._entries if found["created_index"] >= asked["start"]][: asked["limit"]]
                file.write(json.dumps({"result": {"invoices": page}}).encode() + b"\n\n")
                file.flush()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


Open = Callable[..., Listing]


@pytest.fixture
def listing(tmp_path: Path) -> Iterator[Open]:
    opened: list[Listing] = []

    def open_listing(entries: list[dict[str, Any]], answers: int = 100) -> Listing:
        opened.append(Listing(tmp_path, entries, answers=answers))
        return opened[-1]

    yield open_listing
    for each in opened:
        each.close()


@contextmanager
def started() -> Iterator[Prover]:
    prover = Prover()
    prover.start()
    try:
        prover.is_ready(timeout_s=None)
        yield prover
    finally:
        prover.stop()


def walk(prover: Prover, path: str) -> list[Proven]:
    return list(prover.walk(path, NODE_ID, KNOWN.values(), index="created", start=1, last=COUNT))


def test_walk_hands_over_what_is_proved_and_all_else(listing: Open) -> None:
    """Rows of the codes, in the order of the list, with their indexes and events; others as the node said them."""
    foreign = [entry(4, payment_hash="07" * 32), entry(6, label="another's"), entry(7, local_offer_id="aa" * 32)]
    odd = {each["created_index"]: each for each in foreign}
    entries = [odd.get(each["created_index"], each) for each in ENTRIES]
    with started() as prover:
        proven = walk(prover, listing(entries).path)
    rows = [Found._make(row) for part in proven for row in part.rows]
    created = [index for part in proven for index in part.created]
    updated = [index for part in proven for index in part.updated]
    others = [other for part in proven for other in part.others]

    assert proven[-1].reached == COUNT
    assert created == [n for n in range(1, COUNT + 1) if n % 3 != 2 and n not in odd]
    assert [row.payment_hash for row in rows] == [entries[n - 1]["payment_hash"] for n in created]
    assert updated == [entries[n - 1].get("updated_index", 0) for n in created]
    assert [EventRow._make(event).subject for part in proven for event in part.events] == [
        row.payment_hash for row in rows if row.status == "paid"
    ]
    assert others == [invoice_of(each) for each in entries if each["created_index"] not in created]


def test_all_that_is_handed_over_survives_the_way() -> None:
    """Through the pipe's format and back."""
    facts = [invoice_of(each) for each in ENTRIES]
    rows = [row for fact in facts if (row := prove(fact, KNOWN, now=1_700_000_000)) is not None]
    events = [event for row in rows if (event := event_of(row, NODE_ID)) is not None]
    proven = Proven(COUNT, rows, list(range(len(rows))), [0] * len(rows), list(map(tuple, events)), facts)

    back = unpack(pack(proven)[4:])

    assert back == proven
    assert all(isinstance(other, NodeInvoice) for other in back.others)


def test_node_that_goes_away_ends_the_walk(listing: Open) -> None:
    """What came before is kept, and the run goes on by itself behind it."""
    entries = [entry(number) for number in range(1, 2001)]
    with started() as prover:
        proven = list(
            prover.walk(listing(entries, 30).path, NODE_ID, KNOWN.values(), index="created", start=1, last=2000)
        )

        assert 0 < proven[-1].reached < 2000
        assert not prover.is_ready()


def test_child_that_dies_ends_the_walk(listing: Open) -> None:
    """Before its first word, nothing was proven; and it is not ready any more."""
    with started() as prover:
        process = prover._process
        assert process is not None
        process.kill()
        process.wait()

        assert walk(prover, listing(ENTRIES).path) == []
        assert not prover.is_ready()


def test_what_was_not_started_is_never_ready() -> None:
    """Before it was started, and after it was stopped, the run is left to itself."""
    prover = Prover()
    before = prover.is_ready()
    prover.start()
    prover.is_ready(timeout_s=None)
    up = prover.is_ready()
    prover.stop()
    prover.stop()

    assert (before, up, prover.is_ready()) == (False, True, False)


@pytest.mark.parametrize("interpreter", ["/nonexistent/python", "/bin/false"])
def test_interpreter_that_does_not_come_up(monkeypatch: pytest.MonkeyPatch, interpreter: str) -> None:
    """Nothing is proven then, nothing fails, and the run knows that it has tried."""
    monkeypatch.setattr(sys, "executable", interpreter)
    prover = Prover()
    prover.start()

    assert not prover.is_ready(timeout_s=None)
    assert prover.is_started


def test_child_ends_with_its_input() -> None:
    """However the plugin ends, the child does not outlive it; and what it says is answers only."""
    child = subprocess.run(
        [sys.executable, "-m", "cln_paycodes.services.proving"],
        cwd=Path(cln_paycodes.__file__).parents[1],
        input=b"",
        capture_output=True,
        timeout=30,
        check=True,
    )

    assert child.stdout == b"\n"
    assert child.stderr == b""
