"""A network of two lightningd nodes with a channel between them, on a bitcoind of their own."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from pyln.client import RpcError

from .background import in_background
from .bitcoind import Bitcoind
from .daemon import poll_until
from .daemon_node import DaemonNode
from .interface import SPARE_BLOCKS, Answer, ConnectionLost, NotSupported, PaymentFailed
from .sent_parts import Parts
from .template import shared

# pyln-testing reads these when it is imported, and would look for valgrind, postgres and Rust plugins.
os.environ.setdefault("TEST_NETWORK", "regtest")
os.environ.setdefault("VALGRIND", "0")
os.environ.setdefault("SLOW_MACHINE", "1")
os.environ.setdefault("RUST", "0")

from pyln.testing.utils import LightningD, drop_unused_port, reserve_unused_port

_CHANNEL_SAT = 10_000_000
_TIMEOUT_S = 60.0

#: Fixed, as regtest has no market: opening, mutual close, unilateral close, penalty, in sat per kw.
_FEERATES = "15000/11000/7500/3750"

#: Where networks are copies several are open at once, and few of them ever mine: to ask bitcoind every second, as
#: pyln-testing has it, takes a fifth of the processor.
_RELAXED_POLL_S = 3

#: Of nodes that are there to pay and be paid: to log in detail takes them more time than it is worth.
_QUIET = {"log-level": "info"}


class LightningdNode(DaemonNode):
    """lightningd with the options of pyln-testing, in a session of its own."""

    kind = "regtest"

    def __init__(
        self,
        lightning_dir: Path,
        plugin_path: Path | None,
        options: dict[str, Any],
        rpc_port: int,
        beside: Sequence[Path] = (),
    ) -> None:
        super().__init__(lightning_dir, plugin_path, options, beside)
        self.port = reserve_unused_port()
        self._recipe = LightningD(f"{lightning_dir}/", bitcoindproxy=None, port=self.port, random_hsm=True)
        self._recipe.cleanup_files()
        self._recipe.opts |= {
            "bitcoin-rpcport": rpc_port,
            "log-file": str(self._log_path),
            "log-level": "debug",
            "force-feerates": _FEERATES,
            "ignore-fee-limits": "true",
            "autoconnect-seeker-peers": 0,
            "dev-fast-reconnect": None,
        }
        del self._recipe.opts["log-prefix"]

    def command(self) -> list[str]:
        return [str(word) for word in self._recipe.cmd_line]

    def look_for_blocks_every(self, seconds: int) -> None:
        """From the next start on."""
        self._recipe.opts["dev-bitcoind-poll"] = seconds

    def forget_addresses(self) -> None:
        """Of its peers, while it is stopped: at the next start it looks for none of them."""
        with closing(sqlite3.connect(self.network_dir / "lightningd.sqlite3")) as database, database:
            database.execute("UPDATE peers SET last_known_address = NULL")

    def close(self) -> None:
        super().close()
        drop_unused_port(self.port)


class RegtestNetwork:
    kind = "regtest"
    supports_faults = False

    def __init__(
        self, directory: Path, plugin_path: Path | None, options: dict[str, Any], beside: Sequence[Path] = ()
    ) -> None:
        self.bitcoind = Bitcoind(directory / "bitcoind")
        rpc_port = self.bitcoind.rpc_port
        self.merchant = LightningdNode(directory / "merchant", plugin_path, options, rpc_port, beside)
        self.payer = LightningdNode(directory / "payer", None, _QUIET, rpc_port)
        self._behind: LightningdNode | None = None
        self._directory = directory
        self._payments_out = 0
        self._merchant_id = ""

    def open(self) -> None:
        template = shared()
        if template is None:
            self.found()
        else:
            template.copy_into(self._directory, _make_template)
            self._resume()

    def found(self) -> None:
        """With a chain and nodes that are new."""
        self.bitcoind.start()
        # More than the 101 that coins need: now and then lightningd sets a locktime of up to 100 blocks ago, and
        # Bitcoin Knots takes one of exactly 21 for spam. Before the nodes start, so that they need not follow.
        self.bitcoind.mine(130)
        self._start_nodes()
        self.fund()

    def _resume(self) -> None:
        """From where another network stopped."""
        for node in (self.merchant, self.payer):
            node.look_for_blocks_every(_RELAXED_POLL_S)
        self.bitcoind.start()
        self._start_nodes()
        # A node that starts again goes back a block, and is up before it is at the last one again.
        self._wait_for_blocks()
        self.wait_for_channel()

    def _start_nodes(self) -> None:
        for node in (self.merchant, self.payer):
            node.begin_start()
        for node in (self.merchant, self.payer):
            node.finish_start()
        self._merchant_id = self.merchant.call("getinfo")["id"]

    def fund(self, sats: int = _CHANNEL_SAT) -> None:
        """A channel from the payer, half of it on the merchant's side, so that both can pay."""
        self._open_channel(self.payer, self.merchant, sats)
        poll_until(self._is_channel_ready, _TIMEOUT_S, "the channel does not become usable")

    def _open_channel(self, source: LightningdNode, target: LightningdNode, sats: int) -> None:
        self.bitcoind.send(source.call("newaddr", "bech32")["bech32"], sats + 1_000_000)
        self.mine(1)
        poll_until(lambda: _has_coins(source), _TIMEOUT_S, "the coins do not appear")
        target_id = target.call("getinfo")["id"]
        source.call("connect", target_id, "127.0.0.1", target.port)
        opened = source.call("fundchannel", id=target_id, amount=sats, announce=False, push_msat=sats * 500)
        self.bitcoind.wait_for_transaction(opened["txid"])
        self.mine(1)

    def extend(self) -> LightningdNode:
        if self._behind is None:
            node = self._behind = LightningdNode(self._directory / "behind", None, _QUIET, self.bitcoind.rpc_port)
            node.start()
            self._open_channel(self.merchant, node, _CHANNEL_SAT)
            poll_until(lambda: _is_usable(node), _TIMEOUT_S, "the channel behind does not become usable")
        return self._behind

    def _is_channel_ready(self) -> bool:
        """Both sides up: right after a restart they are not."""
        try:
            return all(_is_usable(node) for node in (self.payer, self.merchant))
        except ConnectionLost:
            return False

    def wait_for_channel(self, timeout_s: float = _TIMEOUT_S) -> None:
        poll_until(self._reconnect, timeout_s, "the channel does not come back")

    def _reconnect(self) -> bool:
        """Whether the channel is ready; by itself the payer looks for a merchant that went away seconds later."""
        if self._is_channel_ready():
            return True
        # Whichever of them is down: it is asked again.
        with suppress(RpcError):
            self.merchant.call("getinfo")
            self.payer.call("connect", self._merchant_id, "127.0.0.1", self.merchant.port)
        return False

    def pay(self, bolt11: str, amount_msat: int | None = None, parts: int = 1, timeout_s: float = 60.0) -> Answer:
        if amount_msat is not None or parts > 1:
            return self._pay_in_parts(bolt11, amount_msat, parts, timeout_s)
        self.wait_for_channel(timeout_s)
        try:
            return self.payer.call("xpay", invstring=bolt11, retry_for=int(timeout_s))
        except RpcError as error:
            raise PaymentFailed(error.error["code"], error.error["message"], error.error.get("data")) from error

    def _pay_in_parts(self, bolt11: str, amount_msat: int | None, parts: int, timeout_s: float) -> Answer:
        total = amount_msat or self.payer.call("decode", bolt11)["amount_msat"]
        amounts = [total // parts + (1 if place < total % parts else 0) for place in range(parts)]
        ended = self._send(Parts(bolt11, amounts, total, None, SPARE_BLOCKS), timeout_s)["parts"]
        for part in ended:
            if part["status"] == "failed":
                error = part["error"]
                raise PaymentFailed(error["code"], error["message"], error.get("data"))
        preimage = ended[0]["payment_preimage"]
        return {"payment_preimage": preimage, "status": "complete", "amount_msat": total}

    def send(
        self,
        bolt11: str,
        parts: list[int],
        total_msat: int | None = None,
        payment_secret: str | None = None,
        cltv_extra: int = SPARE_BLOCKS,
        timeout_s: float = _TIMEOUT_S,
    ) -> Future[Answer]:
        asked = Parts(bolt11, parts, total_msat, payment_secret, cltv_extra)
        return in_background(lambda: self._send(asked, timeout_s))

    def _send(self, asked: Parts, timeout_s: float) -> Answer:
        self.wait_for_channel(timeout_s)
        return {"parts": asked.send(self.payer, self._merchant_id, timeout_s)}

    def pay_in_background(
        self, bolt11: str, amount_msat: int | None = None, parts: int = 1, timeout_s: float = 60.0
    ) -> Future[Answer]:
        return in_background(lambda: self.pay(bolt11, amount_msat, parts, timeout_s))

    def pay_out(self, amount_msat: int = 10_000, fail: bool = False) -> str:
        self.wait_for_channel()
        self._payments_out += 1
        label = f"out/{self._payments_out}/{threading.get_ident()}/{time.monotonic_ns()}"
        invoice = self.payer.call("invoice", amount_msat, label, "out")
        if fail:
            self.payer.call("delinvoice", label, "unpaid")
        try:
            self.merchant.call("xpay", invoice["bolt11"])
        except ConnectionLost:
            raise
        except RpcError as error:
            if not fail:
                raise PaymentFailed(error.error["code"], error.error["message"]) from error
        payment_hash: str = invoice["payment_hash"]
        return payment_hash

    def mine(self, blocks: int = 1) -> int:
        self.bitcoind.mine(blocks)
        return self._wait_for_blocks()

    def _wait_for_blocks(self) -> int:
        """Both nodes have seen the last one, whose height this is."""
        height = self.bitcoind.height()
        for node in (self.merchant, self.payer):
            poll_until(
                lambda node=node: _has_seen(node, height),  # type: ignore[misc]
                _TIMEOUT_S,
                f"{node.lightning_dir} does not see block {height}",
            )
        return height

    def fault(self, *_args: Any, **_options: Any) -> None:
        raise NotSupported("a real node does not fail on demand")

    def clear_faults(self) -> None:
        raise NotSupported("a real node does not fail on demand")

    def stop(self) -> None:
        """Leave the directory so that it can be copied."""
        for node in (self.merchant, self.payer):
            node.stop()
            # A copy has its nodes elsewhere, and somebody else's may be where these were.
            node.forget_addresses()
        self.bitcoind.stop()

    def close(self) -> None:
        self.merchant.close()
        self.payer.close()
        if self._behind is not None:
            self._behind.close()
        self.bitcoind.close()


def _make_template(directory: Path) -> None:
    """Without a plugin, so that the first start of one in a copy is its first."""
    network = RegtestNetwork(directory, None, {})
    try:
        network.found()
        network.stop()
    finally:
        network.close()


def _has_seen(node: DaemonNode, height: int) -> bool:
    """For good: a node that catches up says a height, then 0 for a moment (CLN v26.06, gossip_notify_new_block)."""
    info = node.call("getinfo")
    return info["blockheight"] >= height and not {"warning_bitcoind_sync", "warning_lightningd_sync"} & info.keys()


def _has_coins(node: DaemonNode) -> bool:
    return any(output["status"] == "confirmed" for output in node.call("listfunds")["outputs"])


def _is_usable(node: DaemonNode) -> bool:
    """All channels of the node are."""
    channels = node.call("listpeerchannels")["channels"]
    return bool(channels) and all(c["state"] == "CHANNELD_NORMAL" and c["peer_connected"] for c in channels)
