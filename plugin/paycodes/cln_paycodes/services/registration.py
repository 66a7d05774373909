"""Telling the node of an invoice that it does not have yet: lazy ones at their first HTLC, held ones to settle them.

1. intent    the row is marked: from here on the node may have it
2. call      the node's `invoice` with our label and preimage; one that is there already is ours, and as good
3. outcome   the node's: from now on it checks, settles and lists the invoice like any other

A process that finds a row marked by an earlier one cannot know whether 2 was done, and does it again: a repeat is
harmless. So does `reconcile`, to which the row looks like one that is gone from the node.

Who has the money of a lazy payment when processes die, by the point that was reached:

       the payment                                plugin alone dies             plugin and node die
    1  its invoice is signed (issue:signed)       nobody has the string yet: the same call gives it again
    2  node about to be told (register:marked)    payer, and may pay it again   offered again: told and paid
    3  node has the invoice (register:called)     operator: the node settles    offered again: paid
    4  hook:*, paid:*                             operator: the node settles    offered again, where not yet paid
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from .. import crash
from ..core.records import Invoice
from ..errors import NodeRefused
from ..node.port import INVOICE_LABEL_ALREADY_EXISTS, INVOICE_PREIMAGE_ALREADY_EXISTS
from ..store import invoices
from ..store.store import Store
from .minting import Mint

log = logging.getLogger(__name__)

_IS_THERE = (INVOICE_LABEL_ALREADY_EXISTS, INVOICE_PREIMAGE_ALREADY_EXISTS)


class Registration:
    def __init__(self, store: Store, mint: Mint, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._mint = mint
        self._clock = clock

    def ensure(self, row: Invoice, *, expiry_s: int | None = None) -> bool:
        """Have the node know the invoice, for as long as its string says or for `expiry_s`; False when it does not.

        Raises NodeRefused, and NodeUnknown when no answer came: it may have it.
        """
        if row.registered and not row.registered_late:
            return True
        expiry_s = expiry_s or row.expires_at - self._clock()
        if expiry_s < 1:
            return False
        self._store.write(partial(invoices.mark_registered, slot=row.slot))
        crash.point("register:marked")
        try:
            self._mint.make(row, expiry_s=expiry_s)
        except NodeRefused as e:
            if e.node_code not in _IS_THERE:
                raise
        crash.point("register:called")
        return True
