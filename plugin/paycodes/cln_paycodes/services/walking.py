"""Walking the node's list of invoices, page by page: the next page is on its way while this one is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ..core.records import NodeInvoice

#: Invoices in one page. The node answers nobody else while it writes one: this many take it half a millisecond. Larger
#: ones make no run quicker, as the next one is on its way while this one is worked on.
PAGE = 25


def index_of(entry: NodeInvoice, index: str) -> int:
    """Its place by `created` or `updated`; 0 when it was never updated."""
    return entry.created_index if index == "created" else entry.updated_index or 0


class Lister(Protocol):
    """A node, or all that is needed of it here."""

    def invoices_ahead(self, *, index: str, start: int, limit: int) -> Callable[[], list[NodeInvoice]]: ...


def pages(
    node: Lister, *, index: str, start: int, last: int, check: Callable[[], None]
) -> Iterator[tuple[list[NodeInvoice], int]]:
    """Each page by one index from `start` (1 at least) to `last`, and how far it reaches; `check` may raise between."""
    if start > last:
        return
    ahead = node.invoices_ahead(index=index, start=start, limit=PAGE)
    while True:
        page = ahead()
        check()
        full = len(page) == PAGE
        reached = min(last, index_of(page[-1], index)) if full else last
        if reached < last:
            ahead = node.invoices_ahead(index=index, start=reached + 1, limit=PAGE)
        yield page, reached
        if reached >= last:
            return
