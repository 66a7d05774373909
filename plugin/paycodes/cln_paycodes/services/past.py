"""What the node remembers of a code that it does not define any more: invoices in its list, payments to others.

A code that is made anew can be an old one: its number or imported root key was in use before the sidecar and the node's
datastore were both lost. An invoice that is still listed would be handed out a second time. One that was cleaned away
since cannot be seen there, and its preimage, if it was paid, is known to others: issued again, it would let them take
the money. So the code's hashes are derived and looked for in the list, and in the bookkeeper, which keeps what came in
under each of them.
"""

from __future__ import annotations

from ..core.keys import FIRST_INDEX, RootKey
from ..errors import NodeRefused
from ..node.port import Node

#: Indexes in a row of which nothing is known after which no more are looked for (a wallet's gap limit, BIP 44).
GAP = 20


def first_free_index(node: Node, root: RootKey, *, block: int) -> int:
    """The index that a new code begins with: the first, or one a whole `block` of indexes behind the last one known."""
    last_known, index = 0, FIRST_INDEX
    while index <= last_known + GAP:
        if _is_known(node, root.payment_hash(index)):
            last_known = index
        index += 1
    return last_known + block + 1 if last_known else FIRST_INDEX


def _is_known(node: Node, payment_hash: str) -> bool:
    if node.begin_search(payment_hash).result():
        return True
    try:
        return node.bookkeeper_credit(payment_hash) is not None
    except NodeRefused:
        return False  # disabled, or a node without it
