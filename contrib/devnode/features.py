"""Feature bits of lightningd v26.06 on regtest, as ``getinfo`` and the ``init`` call show them (BOLT 9)."""

from __future__ import annotations

FEATURES = {
    "init": "800898880a8a59a1",
    "node": "808898880a8a59a1",
    "channel": "",
    "invoice": "02000002024100",
}

#: What ``init`` tells a plugin beyond that.
OFFER_FEATURES = {
    "bolt12_offer": "",
    "bolt12_invreq": "",
    "bolt12_invoice": "020000",
    "channel_type": "08800000800000",
}
