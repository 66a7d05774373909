"""The one channel, from the payer to the merchant, as ``listpeerchannels`` shows it (``peer_control.c``)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .command import Call, Command, Result
from .features import FEATURES
from .htlcs import CHANNEL, Htlc
from .parameters import optional, read_any

if TYPE_CHECKING:
    from .node import Node

_CAPACITY_MSAT = 10_000_000_000
_RESERVE_MSAT = _CAPACITY_MSAT // 100

#: What an HTLC needs to have an output of its own in the commitment transaction.
_DUST_LIMIT_MSAT = 546_000


@dataclass(frozen=True)
class Cltv:
    """lightningd's options ``cltv-delta`` and ``cltv-final``."""

    delta: int
    final: int


def default_cltv(network: str) -> Cltv:
    """lightningd's defaults (``options.c``, v26.06)."""
    return Cltv(34, 18) if network == "bitcoin" else Cltv(6, 10)


def _listpeerchannels(node: Node, call: Call) -> Result:
    call.checkpoint()
    channel = _channel(node)
    wanted = (("id", "peer_id"), ("short_channel_id", "short_channel_id"), ("channel_id", "channel_id"))
    matches = all(call.params[name] in (None, channel[field]) for name, field in wanted)
    return {"channels": [channel] if matches else []}


def _channel(node: Node) -> Result:
    received = node.incoming.received_msat()
    return {
        "peer_id": node.payer_id,
        "peer_connected": True,
        "reestablished": True,
        "updates": {"local": _update(node)},
        "state": "CHANNELD_NORMAL",
        "short_channel_id": CHANNEL,
        "direction": int(node.keys.node_id > node.payer_id),
        "channel_id": hashlib.sha256(node.payer_id.encode()).hexdigest(),
        "owner": "channeld",
        "private": True,
        "opener": "remote",
        "alias": {"local": "225900x9274169x20089", "remote": "6563513x494271x31689"},
        "features": ["option_static_remotekey", "option_anchors", "option_scid_alias"],
        "to_us_msat": received,
        "total_msat": _CAPACITY_MSAT,
        "dust_limit_msat": _DUST_LIMIT_MSAT,
        "our_reserve_msat": _RESERVE_MSAT,
        "their_reserve_msat": _RESERVE_MSAT,
        "receivable_msat": max(0, _CAPACITY_MSAT - _RESERVE_MSAT - received),
        "max_accepted_htlcs": 483,
        "htlcs": [_htlc(htlc, plugin) for htlc, plugin in node.incoming.pending()],
    }


def _update(node: Node) -> Result:
    return {
        "htlc_minimum_msat": 0,
        "htlc_maximum_msat": _CAPACITY_MSAT,
        "cltv_expiry_delta": node.cltv.delta,
        "fee_base_msat": 1,
        "fee_proportional_millionths": 10,
    }


def _listincoming(node: Node, call: Call) -> Result:
    """The way to us over that channel, which no invoice names: nobody but the payer could go it."""
    call.checkpoint()
    update = _update(node)
    way = {
        "id": node.payer_id,
        "short_channel_id": CHANNEL,
        "fee_base_msat": update["fee_base_msat"],
        "htlc_min_msat": update["htlc_minimum_msat"],
        "htlc_max_msat": update["htlc_maximum_msat"],
        "fee_proportional_millionths": update["fee_proportional_millionths"],
        "cltv_expiry_delta": update["cltv_expiry_delta"],
        "incoming_capacity_msat": 0,
        "public": False,
        "peer_features": FEATURES["node"],
        "enabled": True,
    }
    return {"incoming": [way]}


def _htlc(htlc: Htlc, plugin: str | None) -> Result:
    """One that waits for a plugin, for the rest of its set, or for the invoice_payment hook: devnode knows no other.

    lightningd's go on to ``SENT_REMOVE_HTLC`` the moment they are settled or failed, and away from there.
    """
    shown: Result = {
        "direction": "in",
        "id": htlc.id,
        "amount_msat": htlc.amount_msat,
        "expiry": htlc.cltv_expiry,
        "payment_hash": htlc.payment_hash,
        "state": "RCVD_ADD_ACK_REVOCATION",
    }
    if htlc.amount_msat < _DUST_LIMIT_MSAT:
        shown["local_trimmed"] = True
    if plugin is not None:
        shown["status"] = f"Waiting for the htlc_accepted hook of plugin {plugin}"
    return shown


COMMANDS = (
    Command("listincoming", _listincoming),
    Command(
        "listpeerchannels",
        _listpeerchannels,
        (optional("id", read_any), optional("short_channel_id", read_any), optional("channel_id", read_any)),
    ),
)
