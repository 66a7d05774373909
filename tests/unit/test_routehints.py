"""Route hints: the node's rules, one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from cln_paycodes.core.bolt11 import Hop
from cln_paycodes.core.routehints import IncomingChannel, select

PRIVATE = IncomingChannel(
    peer_id=b"\2" * 33,
    fee_base_msat=1000,
    fee_proportional_millionths=100,
    cltv_expiry_delta=40,
    htlc_max_msat=5_000_000,
    onward_msat=1,
    short_channel_id="100x1x0",
    remote_alias="7x7x7",
    alias_only=True,
    public=False,
    usable=True,
    online=True,
    receivable_msat=4_000_000,
    capacity_msat=10_000_000,
)
PUBLIC = replace(PRIVATE, short_channel_id="200x1x0", remote_alias=None, alias_only=False, public=True)


def privates(count: int) -> list[IncomingChannel]:
    return [replace(PRIVATE, remote_alias=f"{number}x7x7") for number in range(count)]


def names(channels: list[IncomingChannel], amount_msat: int | None = 1000, turn: int = 0, draw: float = 0) -> list[str]:
    return [hop.short_channel_id for [hop] in select(channels, amount_msat, turn=turn, draw=draw)]


def test_hint_is_the_channel_as_its_peer_told() -> None:
    """The hop has the peer, its fees and its delta, under the alias that the peer gave."""
    hop = Hop(
        node_id=b"\2" * 33,
        short_channel_id="7x7x7",
        fee_base_msat=1000,
        fee_proportional_millionths=100,
        cltv_expiry_delta=40,
    )

    assert select([PRIVATE], 1000, turn=0, draw=0) == ((hop,),)


def test_no_channel_no_hint() -> None:
    """A node without channels names none."""
    assert names([]) == []


@pytest.mark.parametrize(
    "unfit",
    [
        {"usable": False},
        {"online": False},
        {"onward_msat": 0},
        {"fee_base_msat": 2**32},
        {"remote_alias": None},
        {"alias_only": False, "remote_alias": None, "short_channel_id": None},
    ],
)
def test_channel_that_a_payer_cannot_use_is_left_out(unfit: dict[str, Any]) -> None:
    """Closing, offline, a dead end, with a fee that no hint can hold, or without a name for payers."""
    assert names([replace(PRIVATE, **unfit), *privates(1)]) == ["0x7x7"]


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (PRIVATE, "7x7x7"),
        (replace(PRIVATE, alias_only=False), "7x7x7"),
        (replace(PRIVATE, alias_only=False, remote_alias=None), "100x1x0"),
        (PUBLIC, "200x1x0"),
        (replace(PUBLIC, remote_alias="8x8x8"), "200x1x0"),
        (replace(PUBLIC, remote_alias="8x8x8", short_channel_id=None), "8x8x8"),
    ],
)
def test_real_name_of_a_private_channel_is_kept_from_payers(channel: IncomingChannel, name: str) -> None:
    """An alias stands for it where there is one; a public channel goes by its real name as soon as it has one."""
    assert channel.name == name


@pytest.mark.parametrize("unfit", [{}, {"onward_msat": 0}, {"online": False}, {"receivable_msat": 0}])
def test_private_channels_stay_private_beside_a_public_one(unfit: dict[str, Any]) -> None:
    """Even when the public one is of no use."""
    assert "0x7x7" not in names([replace(PUBLIC, **unfit), *privates(1)])


def test_public_channel_that_closes_no_longer_hides_private_ones() -> None:
    """Only a channel that still takes payments makes a node public."""
    assert names([replace(PUBLIC, usable=False), *privates(1)]) == ["0x7x7"]


def test_private_channels_take_turns() -> None:
    """Invoice after invoice names the next channel."""
    assert [names(privates(3), turn=turn) for turn in range(4)] == [["0x7x7"], ["1x7x7"], ["2x7x7"], ["0x7x7"]]


@pytest.mark.parametrize(
    ("amount_msat", "count"), [(None, 1), (4_000_000, 1), (4_000_001, 2), (8_000_001, 3), (10**9, 3)]
)
def test_as_many_channels_as_the_amount_takes(amount_msat: int | None, count: int) -> None:
    """Private channels are named until together they can take the amount, or all of them."""
    named = names(privates(3), amount_msat, turn=1)

    assert len(named) == len(set(named)) == count
    assert named[0] == "1x7x7"


def test_most_that_an_htlc_may_bring_counts() -> None:
    """A peer's maximum for one HTLC limits a channel as its balance does."""
    small = [replace(channel, htlc_max_msat=1000) for channel in privates(3)]

    assert len(names(small, 1000)) == 1
    assert len(names(small, 1001)) == 2


def test_public_channel_is_drawn_by_its_room() -> None:
    """Of those that can take the amount, one with three times the room left is drawn three times as often."""
    narrow = replace(PUBLIC, short_channel_id="1x1x1", receivable_msat=1_000_999)
    wide = replace(PUBLIC, short_channel_id="2x2x2", receivable_msat=3_000_999)
    full = replace(PUBLIC, short_channel_id="3x3x3", receivable_msat=999)

    drawn = Counter(names([narrow, full, wide], 1000, draw=place / 400)[0] for place in range(400))

    assert drawn == {"1x1x1": 100, "2x2x2": 300}


def test_public_channel_with_just_enough_room_is_drawn() -> None:
    """It may be the only one."""
    exact = replace(PUBLIC, receivable_msat=1000)

    assert names([exact], 1000, draw=0) == names([exact], 1000, draw=0.999999) == ["200x1x0"]


def test_public_channels_share_what_none_takes_alone() -> None:
    """As private ones do."""
    both = [PUBLIC, replace(PUBLIC, short_channel_id="201x1x0")]

    assert names(both, 5_000_000) == ["200x1x0", "201x1x0"]
