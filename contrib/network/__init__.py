"""One interface over both kinds of network a plugin can be tried on: devnode, and lightningd on regtest.

with open_network("devnode", directory) as network:
    invoice = network.merchant.call("invoice", 1000, "label", "description")
    network.pay(invoice["bolt11"])
"""

from .interface import (
    ConnectionLost,
    Network,
    NetworkUnavailable,
    Node,
    NotSupported,
    PaymentFailed,
    StartFailed,
)
from .opening import DEFAULT_PLUGIN, KINDS, available_kinds, open_network, why_unavailable

__all__ = [
    "DEFAULT_PLUGIN",
    "KINDS",
    "ConnectionLost",
    "Network",
    "NetworkUnavailable",
    "Node",
    "NotSupported",
    "PaymentFailed",
    "StartFailed",
    "available_kinds",
    "open_network",
    "why_unavailable",
]
