"""Walking the node's list of invoices: every entry once, one page ahead, an end that is told whatever the node does."""

from __future__ import annotations

import json
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cln_paycodes.core.records import NodeInvoice
from cln_paycodes.errors import NodeRefused, NodeUnknown
from cln_paycodes.node.invoices import invoice_of
from cln_paycodes.node.lightningd import Lightningd

DEADLINE_S = 20
LIMIT = 5


def entry(number: int, *, updated: int | None = None) -> dict[str, Any]:
    return {
        "label": f"tea {number}",
        "payment_hash": f"{number:064x}",
        "status": "unpaid",
        "expires_at": 1_700_000_600,
        "created_index": number,
        **({} if updated is None else {"updated_index": updated}),
    }


#: The last ones updated first, and every third never.
ENTRIES = [entry(number, updated=None if number % 3 == 0 else 100 - number) for number in range(1, 24)]

Answer = Callable[[dict[str, Any]], bytes]


def listed(asked: dict[str, Any]) -> bytes:
    """What lightningd answers."""
    by = f"{asked['index']}_index"
    found = sorted((e for e in ENTRIES if e.get(by, 0) >= asked["start"]), key=lambda e: e[by])
    return json.dumps({"result": {"invoices": found[: asked["limit"]]}}).encode() + b"\n\n"


class ListingNode:
    """A socket that answers `listinvoices` as a test says."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.asked: list[int] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # it is closed
            with suppress(OSError), connection, connection.makefile("rwb") as file:
                while line := file.readline():
                    file.readline()
                    asked = json.loads(line)["params"]
                    self.asked.append(asked["start"])
                    answer = self._answer(asked)
                    if not answer:
                        break
                    file.write(answer)
                    file.flush()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE_S)


Open = Callable[[Answer], Lightningd]


@pytest.fixture
def nodes() -> list[ListingNode]:
    return []


@pytest.fixture
def opened(tmp_path: Path, nodes: list[ListingNode]) -> Iterator[Open]:
    adapters: list[Lightningd] = []

    def open_node(answer: Answer) -> Lightningd:
        nodes.append(ListingNode(tmp_path / "rpc", answer))
        adapters.append(Lightningd(str(tmp_path / "rpc"), timeout_s=0.3))
        return adapters[-1]

    yield open_node
    for each in [*adapters, *nodes]:
        each.close()


def walk(node: Lightningd, *, index: str = "created", start: int = 1, last: int = 23) -> list[NodeInvoice]:
    with node.invoice_walk(index=index, start=start, last=last, limit=LIMIT) as pages:
        return [invoice for page in pages for invoice in page]


@pytest.mark.parametrize("start", [1, 2, 11, 23])
def test_walk_shows_every_entry_once(opened: Open, start: int) -> None:
    """By the index they were created under, whatever the last page has."""
    assert walk(opened(listed), start=start) == list(map(invoice_of, ENTRIES[start - 1 :]))


def test_walk_by_updated_index_follows_that_one(opened: Open) -> None:
    """An entry that was never updated has no place there."""
    with opened(listed).invoice_walk(index="updated", start=1, last=99, limit=LIMIT) as walk:
        pages = [(page, walk.reached) for page in walk]

    assert [e.updated_index for page, _ in pages for e in page] == sorted(100 - n for n in range(1, 24) if n % 3)
    assert [reached for _, reached in pages] == [83, 90, 98, 99]


def test_next_page_is_asked_for_once_its_predecessor_came(opened: Open, nodes: list[ListingNode]) -> None:
    """One ahead and never two: lightningd answers all that it finds in one socket before it looks after others."""
    ahead = []
    with opened(listed).invoice_walk(index="created", start=1, last=23, limit=LIMIT) as walk:
        for _ in walk:
            ahead.append(len(nodes[0].asked))

    assert nodes[0].asked == [1, 6, 11, 16, 21]
    assert all(asked <= pages + 1 for pages, asked in enumerate(ahead, 1))


def test_page_is_near_once_it_arrives(opened: Open) -> None:
    """Not while the node is at it; behind the last one nothing is waited for."""
    release = threading.Event()

    def hesitate(asked: dict[str, Any]) -> bytes:
        if asked["start"] > 5:
            release.wait(DEADLINE_S)
        return listed(asked)

    with opened(hesitate).invoice_walk(index="created", start=1, last=9, limit=LIMIT) as pages:
        next(iter(pages))
        before = pages.is_near(0)
        release.set()
        there = pages.is_near(DEADLINE_S)
        next(iter(pages))

        assert (before, there, pages.is_near(0)) == (False, True, True)


def test_walk_that_is_given_up_leaves_nothing_for_the_next(opened: Open) -> None:
    """Its last answer is never taken for another's."""
    node = opened(listed)
    with node.invoice_walk(index="created", start=1, last=23, limit=LIMIT) as given_up:
        next(iter(given_up))

    assert walk(node, start=21) == list(map(invoice_of, ENTRIES[20:]))


def test_refusal_ends_the_walk(opened: Open) -> None:
    """With the node's own code."""
    refusal = json.dumps({"error": {"code": -32602, "message": "no such index"}}).encode() + b"\n\n"
    with pytest.raises(NodeRefused, match="no such index") as refused:
        walk(opened(lambda _: refusal))

    assert refused.value.node_code == -32602


@pytest.mark.parametrize(
    ("garbage", "told"),
    [
        (b"", "lost before it answered"),
        (b"{]\n\n", "failed"),
        (b"{}\n\n", "failed"),
        (b'{"result": {"invoices": [{}]}}\n\n', "failed"),
        (b'{"result": null}\n\n', "failed"),
        (b'{"error": "no"}\n\n', "failed"),
        (b"[]\n\n", "failed"),
        (b'{"result": {"invo', "within 0.3 s"),
    ],
)
def test_walk_without_an_answer_is_unknown(opened: Open, garbage: bytes, told: str) -> None:
    """The node ends the connection, answers what is none, or stops in the middle; what came before was handed out."""
    node = opened(lambda asked: listed(asked) if asked["start"] < 10 else garbage)
    seen: list[int] = []
    with (
        pytest.raises(NodeUnknown, match=told),
        node.invoice_walk(index="created", start=1, last=23, limit=LIMIT) as pages,
    ):
        seen.extend(page[-1].created_index for page in pages)

    assert seen == [5, 10]
    assert walk(node, start=1, last=9)[-1].created_index == 10


def test_node_that_is_away_is_unknown(tmp_path: Path) -> None:
    """Its socket is not there, or nobody listens on it."""
    with closing(Lightningd(str(tmp_path / "nothing"))) as node, pytest.raises(NodeUnknown, match="failed"):
        walk(node)


def test_process_without_a_free_descriptor_is_unknown(opened: Open) -> None:
    """As at every other call; the next walk, once there is one again, is whole."""
    node = opened(listed)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(NodeUnknown, match="Too many open files"):
            walk(node)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert walk(node) == list(map(invoice_of, ENTRIES))


def test_plugin_that_stops_waits_for_no_page(tmp_path: Path) -> None:
    """A node that hangs does not hold it up, and a walk after that is refused."""
    asked = threading.Event()

    def hang(_: dict[str, Any]) -> bytes:
        asked.set()
        return b'{"result"'

    server = ListingNode(tmp_path / "rpc", hang)
    node = Lightningd(str(tmp_path / "rpc"), timeout_s=600)
    ended: list[str] = []

    def run() -> None:
        with pytest.raises(NodeUnknown) as unknown:
            walk(node)
        ended.append(str(unknown.value))

    thread = threading.Thread(target=run)
    thread.start()
    assert asked.wait(DEADLINE_S)
    node.close()
    thread.join(DEADLINE_S)
    with pytest.raises(NodeUnknown, match="stopping"):
        walk(node)
    server.close()

    assert ended == ["the connection to the node was lost before it answered: ask it again"]
