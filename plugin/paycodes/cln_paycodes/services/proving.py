"""A process that walks the node's list of invoices beside a run of `reconcile` (`prover.py`).

It hands over what `core/found.py` proves: rows that are taken over if the books have none. All else it hands on as the
node said it. It decides nothing that depends on the books. It ends with its standard input, however the plugin ended.

Several of them share one list: each walks every so many blocks of it, in turn.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import struct
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from ..core.found import Columns, event_of, prove
from ..core.keys import RootKey
from ..core.records import NodeInvoice
from ..node.invoices import InvoiceList
from .walking import PAGE, Lister, index_of

#: Indexes of the list that are handed over at a time.
BLOCK = 400

#: Seconds that the node may take for a page.
_TIMEOUT_S = 30.0

#: The node goes first, and the plugin: they have others who wait for them.
_NICE = 15

LENGTH = struct.Struct(">I")


class Proven(NamedTuple):
    """What one block of the node's list has."""

    #: all that this process walks is told up to here
    reached: int
    #: rows that are taken over if the books have none
    rows: list[Columns]
    #: theirs by `created`, and by `updated`: 0 when it was never updated
    created: list[int]
    updated: list[int]
    #: theirs, of those that are told: each an `EventRow` as a plain tuple
    events: list[Columns]
    #: all other entries
    others: list[NodeInvoice]


def pack(proven: Proven) -> bytes:
    """In the interpreter's own format, in an eighth of JSON's time: both ends are this interpreter."""
    message = marshal.dumps((*proven[:-1], list(map(tuple, proven.others))))
    return LENGTH.pack(len(message)) + message


def unpack(message: bytes) -> Proven:
    proven = Proven._make(marshal.loads(message))  # noqa: S302 (from our own child)
    return proven._replace(others=list(map(NodeInvoice._make, proven.others)))


class Share(NamedTuple):
    """The blocks of the list, from its `start` to its `last` index, that one of some `processes` walks."""

    start: int
    last: int
    number: int
    processes: int

    def place_at(self, index: int) -> _Place | None:
        """The first of them that does not end before `index`."""
        block = (index - self.start) // BLOCK
        block += (self.number - block) % self.processes
        first = self.start + block * BLOCK
        return None if max(first, index) > self.last else _Place(first, min(first + BLOCK - 1, self.last))


class _Place(NamedTuple):
    """Where a process goes on: an index, and the last one of the block that it is in."""

    start: int
    end: int

    @property
    def limit(self) -> int:
        return min(PAGE, self.end - self.start + 1)


def _prove_list(node: Lister, node_id: str, roots: dict[str, RootKey], *, index: str, share: Share) -> Iterator[Proven]:
    """One block after the other; the next page is on its way while this one is worked on."""
    proven, place = Proven(0, [], [], [], [], []), share.place_at(share.start)
    if place is None:
        return
    ahead = node.invoices_ahead(index=index, start=place.start, limit=place.limit)
    while place is not None:
        page, before = ahead(), place
        indexes = [index_of(entry, index) for entry in page]
        place = _behind(before, indexes, share)
        if place is not None:
            ahead = node.invoices_ahead(index=index, start=place.start, limit=place.limit)
        _prove_page(proven, page[: bisect_right(indexes, before.end)], node_id, roots)
        if place is None or place.end != before.end:
            yield proven._replace(reached=share.last if place is None else place.start - 1)
            proven = Proven(0, [], [], [], [], [])


def _behind(place: _Place, indexes: list[int], share: Share) -> _Place | None:
    """Where to go on after a page with these indexes; None when there is no more."""
    if not indexes:
        return None
    if indexes[-1] < place.end:
        return None if len(indexes) < place.limit else _Place(indexes[-1] + 1, place.end)
    # What lies behind the block is another's, and all before that is empty.
    of_block = bisect_right(indexes, place.end)
    if of_block < len(indexes):
        return share.place_at(indexes[of_block])
    return share.place_at(place.end + 1)


def _prove_page(proven: Proven, page: list[NodeInvoice], node_id: str, roots: dict[str, RootKey]) -> None:
    now = int(time.time())
    for entry in page:
        row = prove(entry, roots, now=now)
        if row is None:
            proven.others.append(entry)
            continue
        proven.rows.append(row)
        proven.created.append(entry.created_index)
        proven.updated.append(entry.updated_index or 0)
        event = event_of(row, node_id)
        if event is not None:
            proven.events.append(tuple(event))


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """The child: its share of one walk."""
    RootKey.derive(bytes(32), 0).payment_hash(1)  # what is made once, is made now
    answers.write(b"\n")
    answers.flush()
    request = json.loads(requests.readline())
    threading.Thread(target=_end_with, args=(requests.fileno(),), daemon=True).start()
    node = InvoiceList(request["socket_path"], timeout_s=_TIMEOUT_S)
    roots = {root.paycode_id: root for root in map(RootKey, map(bytes.fromhex, request["roots"]))}
    share = Share(*request["share"])
    for proven in _prove_list(node, request["node_id"], roots, index=request["index"], share=share):
        answers.write(pack(proven))
        answers.flush()


def _end_with(requests: int) -> None:
    """Past all locks that the interpreter would wait for at its end."""
    while os.read(requests, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    os.nice(_NICE)
    with contextlib.suppress(OSError, ValueError):  # the plugin is gone, or the node
        _serve(sys.stdin.buffer, sys.stdout.buffer)
