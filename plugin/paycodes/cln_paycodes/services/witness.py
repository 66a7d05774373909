"""Was an invoice that the node no longer lists ever paid? Three witnesses, the surest first.

1. The node's `updated` indexes since the books last agreed: each payment takes one, so if every one of them belongs
   to an invoice that is still listed, nothing that is gone was paid meanwhile.
2. The built-in bookkeeper, which keeps what came in under each payment hash. It learns of a payment only when its HTLC
   is gone from the channel, so an HTLC that is still there means: not known.
3. None: then nothing is decided.
"""

from __future__ import annotations

from ..core.reconciliation import NO_EVIDENCE, Evidence, Trace
from ..errors import NodeRefused
from ..node.port import Node


class Witness:
    def __init__(self, node: Node, *, unbroken: bool, rewound: bool) -> None:
        """`unbroken`: nothing is missing among the updates; `rewound`: the node is an older backup of itself."""
        self._node = node
        self._unbroken = unbroken
        self._rewound = rewound
        self._has_bookkeeper = True
        self._in_flight: frozenset[str] | None = None

    def evidence(self, payment_hash: str, *, in_doubt: bool) -> Evidence:
        """`in_doubt`: it was gone before this run already, so that what the node did since proves nothing."""
        if self._unbroken and not self._rewound and not in_doubt:
            return Evidence(trace=Trace.NONE)
        known = self._bookkeeper(payment_hash)
        if known.trace is not Trace.PAID and self._rewound:
            return NO_EVIDENCE if in_doubt else Evidence(trace=Trace.LOST)
        return known

    def _bookkeeper(self, payment_hash: str) -> Evidence:
        if not self._has_bookkeeper:
            return NO_EVIDENCE
        try:
            if self._in_flight is None:
                # Before the bookkeeper is asked: what is resolved in between, it has.
                self._in_flight = frozenset(htlc.payment_hash for htlc in self._node.incoming_htlcs())
            credit = self._node.bookkeeper_credit(payment_hash)
        except NodeRefused:
            self._has_bookkeeper = False  # disabled, or a node without it
            return NO_EVIDENCE
        if credit is not None:
            return Evidence(trace=Trace.PAID, received_msat=credit.amount_msat, paid_at=credit.at)
        return NO_EVIDENCE if payment_hash in self._in_flight else Evidence(trace=Trace.NONE)
