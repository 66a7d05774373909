"""An open network as measurements use it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from network import Network, Node
from pyln.client import RpcError

from .load import Job

#: Above the dust limit, so that the channel signs for it as for a real one.
PAID_MSAT = 600_000
DESCRIPTION = "A cup of tea"
EXPIRY_S = 3600

_numbers = itertools.count(1)


class Stage:
    """A network, and in how many rounds to measure on it."""

    def __init__(self, network: Network, rounds: int) -> None:
        self.network = network
        self.rounds = rounds
        self._has_plugin = True

    @property
    def merchant(self) -> Node:
        return self.network.merchant

    @property
    def sidecar(self) -> Path:
        return self.merchant.network_dir / "paycodes.sqlite3"

    def with_plugin(self) -> None:
        """Started, if it is not, and done with what it does at start."""
        if not self._has_plugin:
            self.merchant.start_plugin()
        self.resume()

    def resume(self) -> None:
        """The plugin runs; return when it is done with what it does at start."""
        self._has_plugin = True
        self.merchant.call("reconcile")

    def without_plugin(self) -> None:
        if self._has_plugin:
            self.merchant.stop_plugin()
            self._has_plugin = False

    def url(self) -> str:
        listening = self.merchant.call("getpaycodesinfo")["listening"]["paycodes-listen"]
        return f"http://{listening}"

    def paycode(self, **terms: Any) -> str:
        """The label of a new code; raises RpcError when these terms are refused."""
        label = fresh("code")
        self.merchant.call("paycode-create", label=label, description=DESCRIPTION, **terms)
        return label

    # --- work for clients ---

    def job(self, calls: Iterable[tuple[str, dict[str, Any]]], clients: int, wanted: str = '"result"') -> Job:
        """Calls to the merchant's node, each client over a socket that it keeps."""
        return Job(str(self.merchant.rpc_path), [[rpc(method, params)] for method, params in calls], clients, wanted)

    def invoices(self, count: int, clients: int, **params: Any) -> Job:
        """The node's own `invoice`."""
        given = {"amount_msat": PAID_MSAT, "description": DESCRIPTION, "expiry": EXPIRY_S} | params
        return self.job((("invoice", given | {"label": fresh("plain")}) for _ in range(count)), clients, '"bolt11"')

    def paycode_invoices(self, paycode: str, count: int, clients: int) -> Job:
        given = {"paycode": paycode, "amount_msat": PAID_MSAT}
        return self.job((("paycode-invoice", given) for _ in range(count)), clients, '"bolt11"')

    def payments(self, bolt11s: Iterable[str], clients: int) -> Job:
        """As a wallet pays, from pay to settled."""
        payer = self.network.payer
        node, method = (self.merchant, "dev-pay") if payer is None else (payer, "xpay")
        name = "bolt11" if payer is None else "invstring"
        requests = [[rpc(method, {name: bolt11})] for bolt11 in bolt11s]
        return Job(str(node.rpc_path), requests, clients, '"payment_preimage"')

    def plain_strings(self, count: int) -> list[str]:
        given = {"amount_msat": PAID_MSAT, "description": DESCRIPTION}
        return [str(self.merchant.call("invoice", label=fresh("plain"), **given)["bolt11"]) for _ in range(count)]

    def paycode_strings(self, paycode: str, count: int) -> list[str]:
        given = {"paycode": paycode, "amount_msat": PAID_MSAT}
        return [str(self.merchant.call("paycode-invoice", **given)["bolt11"]) for _ in range(count)]


def fresh(word: str) -> str:
    return f"{word}-{next(_numbers)}"


def rpc(method: str, params: dict[str, Any]) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": method, "method": method, "params": params})


def reason(error: RpcError) -> str:
    """What a refusal says, in a few words."""
    return str(error.error.get("message", error))
