"""Which of our channels an invoice names as ways to us: the node's own choice, made here.

Of `routehint_candidates` (lightningd/routehint.c) and `add_routehints` (lightningd/invoice.c), v26.06, without
`exposeprivatechannels`:

1. A channel counts when its state lets HTLCs in. If any that counts is public, private ones are never named, even when
   the public one turns out to be of no use.
2. It is left out when its peer could not be reached by a payer (a dead end), is offline, or has no name yet that a
   payer may use: an alias where the channel asks for one or is private, else the real one.
3. With public channels one is drawn that can take the amount alone, the likelier the emptier it is on our side. When
   there is none, or all are private, channels are taken in turn until together they can take the amount.

The node's turn is its own secret counter, so which of several private channels comes first may differ from the node's.
Not followed: `payment-fronting-node`, where the node names all channels with those peers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .bolt11 import Hop

#: Of `listpeerchannels`: the states in which a channel takes HTLCs (`channel_state_can_add_htlc`).
USABLE_STATES = frozenset({"CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE"})

_FEE_BASE_MAX_MSAT = 2**32 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class IncomingChannel:
    """One of our channels as a way to us: an entry of `listincoming` and the channel that it is in `listpeerchannels`.

    They belong together when the former's `short_channel_id` is the latter's, or its `alias.local` where it has none.
    """

    # From listincoming.

    #: `id`, 33 bytes.
    peer_id: bytes
    fee_base_msat: int
    fee_proportional_millionths: int
    cltv_expiry_delta: int
    htlc_max_msat: int
    #: `incoming_capacity_msat`: what the peer itself can get over its other channels; 0 is a dead end.
    onward_msat: int

    # From listpeerchannels.

    #: `short_channel_id`, None while there is none.
    short_channel_id: str | None
    #: `alias.remote`, None while the peer has not told it.
    remote_alias: str | None
    #: `option_scid_alias` is among `features`.
    alias_only: bool
    #: not `private`.
    public: bool
    #: `state` is one of `USABLE_STATES`.
    usable: bool
    #: there is an `owner`.
    online: bool
    receivable_msat: int
    #: `total_msat` less `our_reserve_msat` and `their_reserve_msat`.
    capacity_msat: int

    @property
    def takes_msat(self) -> int:
        """The most that one HTLC can bring in."""
        return min(self.receivable_msat, self.htlc_max_msat)

    @property
    def name(self) -> str | None:
        """The short channel id that a payer may see (BOLT 2), None while there is none."""
        if self.alias_only:
            return self.remote_alias
        if self.remote_alias is not None and not (self.public and self.short_channel_id):
            return self.remote_alias
        return self.short_channel_id


def select(
    channels: Sequence[IncomingChannel], amount_msat: int | None, *, turn: int, draw: float
) -> tuple[tuple[Hop, ...], ...]:
    """The route hints of an invoice, each of one hop; none when no channel is fit.

    `turn` counts invoices, so that private channels are named one after the other; `draw` is random, 0 to below 1.
    """
    needed = 1 if amount_msat is None else amount_msat
    counted = [channel for channel in channels if channel.usable]
    has_public = any(channel.public for channel in counted)
    candidates = [channel for channel in counted if channel.public == has_public and _is_fit(channel)]
    drawn = _drawn(candidates, needed, draw) if has_public else []
    return tuple((_hop(channel),) for channel in drawn or _in_turn(candidates, needed, turn))


def _is_fit(channel: IncomingChannel) -> bool:
    return (
        channel.fee_base_msat <= _FEE_BASE_MAX_MSAT
        and channel.onward_msat > 0
        and channel.online
        and channel.name is not None
    )


def _drawn(candidates: Iterable[IncomingChannel], needed_msat: int, draw: float) -> list[IncomingChannel]:
    """One that can take the amount alone, or none (`select_inchan`)."""
    able = [c for c in candidates if c.takes_msat >= needed_msat and c.capacity_msat > 0]
    # One msat more, so that one that can just take the amount may be drawn too.
    weights = [(c.takes_msat - needed_msat + 1) / c.capacity_msat for c in able]
    left = draw * sum(weights)
    for channel, weight in zip(able, weights, strict=True):
        left -= weight
        if left < 0:
            return [channel]
    return able[-1:]


def _in_turn(candidates: Sequence[IncomingChannel], needed_msat: int, turn: int) -> list[IncomingChannel]:
    """As many as it takes for the amount in parts, or all (`select_inchan_mpp`)."""
    first = turn % len(candidates) if candidates else 0
    taken: list[IncomingChannel] = []
    for channel in (*candidates[first:], *candidates[:first]):
        if sum(c.takes_msat for c in taken) >= needed_msat:
            break
        taken.append(channel)
    return taken


def _hop(channel: IncomingChannel) -> Hop:
    assert channel.name is not None  # or it would not be fit
    return Hop(
        node_id=channel.peer_id,
        short_channel_id=channel.name,
        fee_base_msat=channel.fee_base_msat,
        fee_proportional_millionths=channel.fee_proportional_millionths,
        cltv_expiry_delta=channel.cltv_expiry_delta,
    )
