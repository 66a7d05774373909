"""Invoice strings for the node to sign, made here."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from ..core.bolt11 import UnsignedInvoice, encode
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
        """Nothing here waits for the node."""
        return self._traits is not None and time.monotonic() < self._channels_until

    @property
    def is_exact(self) -> bool:
        """What the node's own `invoice` would make has nothing in it that a `draft` lacks."""
        return not self._node_traits().adds_more

    def prepare(self) -> None:
        """Ask the node for what strings are made of; then it `is_ready` for a while."""
        self._node_traits()
        self._node_channels()

    def begin(self, row: Invoice, keys: InvoiceKeys) -> Future[str]:
        """The string of a row; NodeRefused, or NodeUnknown (nothing happened, it may be tried again)."""
        return self._node.begin_signature(self.draft(row, keys))

    def draft(self, row: Invoice, keys: InvoiceKeys, *, tells_text: bool = False) -> str:
        """The string of a row without a signature, beside the hash of its description the text if it `tells_text`."""
        traits = self._node_traits()
        now = self._clock()
        description = row.description or ""
        return encode(
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
                route_hints=select(self._node_channels(), row.amount_msat, turn=next(self._turns), draw=self._chance()),
                hashed_text=description if tells_text and row.description_hashed else None,
            )
        )

    def _node_traits(self) -> InvoiceTraits:
        with self._lock:
            if self._traits is None:
                self._traits = self._node.invoice_traits()
            return self._traits

    def _node_channels(self) -> list[IncomingChannel]:
        with self._lock:
            if time.monotonic() >= self._channels_until:
                self._channels = self._node.incoming_channels()
                self._channels_until = time.monotonic() + CHANNELS_S
            return self._channels


def _hash_of(description: str) -> bytes:
    return hashlib.sha256(description.encode()).digest()
