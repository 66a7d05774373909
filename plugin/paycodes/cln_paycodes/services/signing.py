"""Invoice strings that the node signs and does not store: those of lazy and held invoices."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from ..core.bolt11 import Hop, UnsignedInvoice, encode
from ..core.holds import FINAL_CLTV_BLOCKS
from ..core.keys import InvoiceKeys, payment_secret_of
from ..core.records import Invoice
from ..core.routehints import IncomingChannel, select
from ..node.port import InvoiceTraits, Node

#: Seconds for which what is known of the channels is good enough for route hints.
CHANNELS_S = 10.0


class Signer:
    def __init__(self, node: Node, *, clock: Callable[[], int], chance: Callable[[], float]) -> None:
        self._node = node
        self._clock = clock
        self._chance = chance
        self._lock = threading.Lock()
        self._traits: InvoiceTraits | None = None
        self._channels: list[IncomingChannel] = []
        #: by the monotonic clock
        self._channels_until = 0.0
        self._turns = itertools.count()

    @property
    def is_ready(self) -> bool:
        """`begin` waits for nothing."""
        return self._traits is not None and time.monotonic() < self._channels_until

    def begin(self, row: Invoice, keys: InvoiceKeys) -> Future[str]:
        """The string of a row; NodeRefused, or NodeUnknown (nothing happened, it may be tried again)."""
        traits = self._node_traits()
        now = self._clock()
        description = row.description or ""
        return self._node.begin_signature(
            encode(
                UnsignedInvoice(
                    currency=traits.currency,
                    amount_msat=row.amount_msat,
                    timestamp=now,
                    payment_hash=keys.payment_hash,
                    payment_secret=payment_secret_of(keys.preimage),
                    description=_hash_of(description) if row.description_hashed else description,
                    expiry_s=max(1, row.expires_at - now),
                    min_final_cltv_expiry_delta=FINAL_CLTV_BLOCKS if row.hold else traits.final_cltv_blocks,
                    features=traits.features,
                    route_hints=self._route_hints(row.amount_msat),
                )
            )
        )

    def _node_traits(self) -> InvoiceTraits:
        with self._lock:
            if self._traits is None:
                self._traits = self._node.invoice_traits()
            return self._traits

    def _route_hints(self, amount_msat: int) -> tuple[tuple[Hop, ...], ...]:
        with self._lock:
            if time.monotonic() >= self._channels_until:
                self._channels = self._node.incoming_channels()
                self._channels_until = time.monotonic() + CHANNELS_S
            channels = self._channels
        return select(channels, amount_msat, turn=next(self._turns), draw=self._chance())


def _hash_of(description: str) -> bytes:
    return hashlib.sha256(description.encode()).digest()
