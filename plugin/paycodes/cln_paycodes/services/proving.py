"""The process that walks the node's list of invoices beside a run of `reconcile` (`prover.py`).

It hands over what `core/found.py` proves: rows that are taken over if the books have none. All else it hands on as the
node said it. It decides nothing that depends on the books. It ends with its standard input, however the plugin ended.
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
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from ..core.found import Columns, event_of, prove
from ..core.keys import RootKey
from ..core.records import NodeInvoice
from ..node.invoices import InvoiceList
from .walking import Lister, pages

#: Rows that are handed over at a time.
_TOGETHER = 400

#: Seconds that the node may take for a page.
_TIMEOUT_S = 30.0

#: The node goes first, and the plugin: they have others who wait for them.
_NICE = 15

LENGTH = struct.Struct(">I")


class Proven(NamedTuple):
    """What some pages of the node's list have, and how far they reach."""

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


def _prove_list(
    node: Lister, node_id: str, roots: dict[str, RootKey], *, index: str, start: int, last: int
) -> Iterator[Proven]:
    proven = Proven(start - 1, [], [], [], [], [])
    for page, reached in pages(node, index=index, start=start, last=last, check=lambda: None):
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
        if len(proven.rows) + len(proven.others) >= _TOGETHER or reached >= last:
            yield proven._replace(reached=reached)
            proven = Proven(reached, [], [], [], [], [])


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """The child: one walk."""
    RootKey.derive(bytes(32), 0).payment_hash(1)  # what is made once, is made now
    answers.write(b"\n")
    answers.flush()
    request = json.loads(requests.readline())
    threading.Thread(target=_end_with, args=(requests.fileno(),), daemon=True).start()
    node = InvoiceList(request.pop("socket_path"), timeout_s=_TIMEOUT_S)
    keys = map(RootKey, map(bytes.fromhex, request.pop("roots")))
    for proven in _prove_list(node, request.pop("node_id"), {root.paycode_id: root for root in keys}, **request):
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
