"""What the node remembers of a code that it neither defines nor lists any more: payments to its invoices.

A code that is made anew can be an old one: its number or imported root key was in use before the sidecar and the node's
datastore were both lost. Invoices that were cleaned away since cannot be seen in the node's list, and a preimage of
one that was paid is known to others: issued again, it would let them take the money. So the code's hashes are derived
and looked for in the bookkeeper, which keeps what came in under each of them.
"""

from __future__ import annotations

from ..core.keys import FIRST_INDEX, RootKey
from ..errors import NodeRefused
from ..node.port import Node

#: Indexes in a row without a payment after which no more are looked for (a wallet's gap limit, BIP 44).
GAP = 20


def first_free_index(node: Node, root: RootKey, *, block: int) -> int:
    """The index that a new code begins with: the first, or one a whole `block` of indexes behind the last one paid."""
    last_paid, index = 0, FIRST_INDEX
    try:
        while index <= last_paid + GAP:
            if node.bookkeeper_credit(root.invoice(index).payment_hash.hex()) is not None:
                last_paid = index
            index += 1
    except NodeRefused:
        pass  # disabled, or a node without it: what it says so far counts
    return last_paid + block + 1 if last_paid else FIRST_INDEX
