"""When a held payment must be decided."""

from __future__ import annotations

from collections.abc import Iterable

#: Blocks that a held invoice asks its payer to leave between the HTLC's expiry and the tip (BOLT 11 `c`): about a day,
#: most of which is the operator's time.
FINAL_CLTV_BLOCKS = 144

#: Blocks before an HTLC's expiry in which it is no longer settled, at least.
MARGIN_BLOCKS = 18


def margin_blocks(*, cltv_delta: int, cltv_final: int) -> int:
    """A fulfilled HTLC that the peer has not let go of by `cltv_expiry - (cltv-delta + 1) / 2` makes lightningd close
    the channel (v26.06 `htlc_in_deadline`; 17 blocks at mainnet's 34): it is settled before that, or not at all. And
    what is let go to the node with less than `cltv-final` blocks left is refused there (`handle_localpay`).
    """
    return max(MARGIN_BLOCKS, (cltv_delta + 1) // 2 + 1, cltv_final + 1)


def claim_deadline_height(expiries: Iterable[int], *, margin: int) -> int:
    """The block height from which on a payment with these `cltv_expiry` heights is canceled instead of settled."""
    return min(expiries) - margin
