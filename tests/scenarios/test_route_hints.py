"""Route hints: a lazy invoice names the same ways to the node as the node's own invoices do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest
from cln_paycodes.core.bolt11 import Hop, UnsignedInvoice, encode, features_from, timestamp_of
from cln_paycodes.core.keys import payment_secret_of
from cln_paycodes.core.routehints import IncomingChannel, select
from cln_paycodes.node.lightningd import Lightningd
from network import Node, open_network, why_unavailable
from network.daemon import poll_until
from network.regtest_network import RegtestNetwork

_CHANNEL_SAT = 1_000_000
#: No channel here takes so much alone.
_TOO_MUCH_FOR_ONE_MSAT = 5_200_000_000


@pytest.fixture(scope="module")
def regtest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegtestNetwork]:
    """Only a real node has channels."""
    reason = why_unavailable("regtest")
    if reason is not None:
        pytest.skip(reason)
    with open_network("regtest", tmp_path_factory.mktemp("hints")) as network:
        assert isinstance(network, RegtestNetwork)
        wait_for_ways(network.merchant)
        yield network


def incoming(node: Node) -> list[IncomingChannel]:
    """The node's channels as `select` takes them."""
    lightningd = Lightningd(str(node.rpc_path))
    try:
        return lightningd.incoming_channels()
    finally:
        lightningd.close()


def hints_in(node: Node, bolt11: str) -> tuple[tuple[Hop, ...], ...]:
    """By the node's own word."""
    return tuple(
        tuple(
            Hop(
                node_id=bytes.fromhex(hop["pubkey"]),
                short_channel_id=hop["short_channel_id"],
                fee_base_msat=hop["fee_base_msat"],
                fee_proportional_millionths=hop["fee_proportional_millionths"],
                cltv_expiry_delta=hop["cltv_expiry_delta"],
            )
            for hop in route
        )
        for route in node.call("decode", bolt11).get("routes", ())
    )


def hints_of_the_node(node: Node, amount_msat: int | str) -> tuple[tuple[Hop, ...], ...]:
    """What `invoice` puts in."""
    return hints_in(node, node.call("invoice", amount_msat, os.urandom(8).hex(), "d")["bolt11"])


def open_channel(network: RegtestNetwork, *, public: bool) -> None:
    """One more channel from the payer, with coins on either side, known to both nodes."""
    merchant, payer = network.merchant, network.payer
    network.bitcoind.send(payer.call("newaddr", "bech32")["bech32"], _CHANNEL_SAT + 500_000)
    network.mine(1)
    merchant_id = merchant.call("getinfo")["id"]
    opened = payer.call(
        "fundchannel", id=merchant_id, amount=_CHANNEL_SAT, announce=public, push_msat=_CHANNEL_SAT * 500
    )
    network.bitcoind.wait_for_transaction(opened["txid"])
    network.mine(6)  # so many announce a public one
    network.wait_for_channel()
    wait_for_ways(merchant)


def wait_for_ways(node: Node) -> None:
    """Until the peer has told its fees for every channel, which it does some time after the channel is ready."""

    def has_all() -> bool:
        return len(node.call("listincoming")["incoming"]) == len(node.call("listpeerchannels")["channels"])

    poll_until(has_all, 30, "the merchant does not see every way")


def test_hints_are_those_that_the_node_gives(regtest: RegtestNetwork) -> None:
    """A dead end is not named, private channels are named in turn or together, and a public one in their place."""
    merchant = regtest.merchant
    dead_end = (hints_of_the_node(merchant, 1000), select(incoming(merchant), 1000, turn=0, draw=0))

    # Either channel is a way on to the other: no dead ends any more.
    open_channel(regtest, public=False)
    channels = incoming(merchant)
    in_turn = [{hints_of_the_node(merchant, amount) for _ in range(2)} for amount in (1000, "any")]
    ours_in_turn = [{select(channels, amount, turn=turn, draw=0) for turn in range(2)} for amount in (1000, None)]
    together = set(hints_of_the_node(merchant, _TOO_MUCH_FOR_ONE_MSAT))
    ours_together = set(select(channels, _TOO_MUCH_FOR_ONE_MSAT, turn=0, draw=0))

    open_channel(regtest, public=True)
    channels = incoming(merchant)
    amounts = [1000, 300_000_000, _TOO_MUCH_FOR_ONE_MSAT]
    public = [hints_of_the_node(merchant, amount) for amount in amounts]
    ours_public = [select(channels, amount, turn=0, draw=0.5) for amount in amounts]

    assert dead_end == ((), ())
    assert ours_in_turn == in_turn
    assert [len(hints) for hints in in_turn] == [2, 2]
    assert ours_together == together
    assert len(together) == 2
    assert ours_public == public
    assert [len(hints) for hints in public] == [1, 1, 1]
    assert len({*public, *in_turn[0]}) == 3


def test_string_with_a_hint_is_signed_into_the_nodes_own(regtest: RegtestNetwork, unique: str) -> None:
    """With a route hint too, signinvoice gives byte for byte what `invoice` gave."""
    merchant = regtest.merchant
    preimage = os.urandom(32)
    channel = incoming(merchant)[0].short_channel_id
    terms = {"amount_msat": 123_457, "label": unique, "description": "d", "expiry": 60, "cltv": 18}
    made = merchant.call("invoice", **terms, preimage=preimage.hex(), exposeprivatechannels=channel)["bolt11"]
    ours = UnsignedInvoice(
        currency="bcrt",
        amount_msat=123_457,
        timestamp=timestamp_of(made),
        payment_hash=hashlib.sha256(preimage).digest(),
        payment_secret=payment_secret_of(preimage),
        description="d",
        expiry_s=60,
        min_final_cltv_expiry_delta=18,
        features=features_from(merchant.call("getinfo")["our_features"]["invoice"]),
        route_hints=hints_in(merchant, made),
    )

    assert len(ours.route_hints) == 1
    assert merchant.call("signinvoice", encode(ours))["bolt11"] == made


def test_lazy_invoice_names_the_ways_that_the_nodes_own_does(regtest: RegtestNetwork, unique: str) -> None:
    """A payer finds us over private channels by a lazy invoice as well."""
    merchant = regtest.merchant
    merchant.call("paycode-create", label=unique, issue="lazy")
    lazy = hints_in(merchant, merchant.call("paycode-invoice", unique, 1000)["bolt11"])
    ways = {hints_of_the_node(merchant, 1000) for _ in range(8)}

    assert lazy in ways
