"""A network of one devnode, which is its own payer."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NoReturn

from pyln.client import RpcError

from .background import in_background
from .daemon_node import DaemonNode
from .interface import SPARE_BLOCKS, Answer, ConnectionLost, NotSupported, PaymentFailed

_DEVNODE = Path(__file__).resolve().parent.parent / "devnode"

#: How long a payer waits before it asks again for a node that is down.
_RETRY_S = 0.05


class DevnodeNode(DaemonNode):
    kind = "devnode"

    def command(self) -> list[str]:
        return [sys.executable, str(_DEVNODE), f"--lightning-dir={self.lightning_dir}", "--network=regtest"]


class DevnodeNetwork:
    kind = "devnode"
    supports_faults = True
    payer = None

    def __init__(
        self, directory: Path, plugin_path: Path | None, options: dict[str, Any], beside: Sequence[Path] = ()
    ) -> None:
        self.merchant = DevnodeNode(directory / "merchant", plugin_path, options, beside)
        self._payments_out = 0

    def open(self) -> None:
        self.merchant.start()

    def pay(self, bolt11: str, amount_msat: int | None = None, parts: int = 1, timeout_s: float = 60.0) -> Answer:
        return self._ask("dev-pay", timeout_s, bolt11=bolt11, amount_msat=amount_msat, parts=parts)

    def _ask(self, method: str, timeout_s: float, **asked: Any) -> Answer:
        """The payer's side of a payment, even if the node dies meanwhile and comes back."""
        given = {name: value for name, value in asked.items() if value is not None}
        payment_id = os.urandom(8).hex()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self.merchant.call(method, payment_id=payment_id, **given)
            except ConnectionLost as error:
                # The parts are with the channel partner, as it were: they come back with the node.
                if time.monotonic() > deadline:
                    raise TimeoutError("the merchant's node stays away") from error
                time.sleep(_RETRY_S)
            except RpcError as error:
                raise PaymentFailed(error.error["code"], error.error["message"], error.error.get("data")) from error

    def pay_in_background(
        self, bolt11: str, amount_msat: int | None = None, parts: int = 1, timeout_s: float = 60.0
    ) -> Future[Answer]:
        return in_background(lambda: self.pay(bolt11, amount_msat, parts, timeout_s))

    def send(
        self,
        bolt11: str,
        parts: list[int],
        total_msat: int | None = None,
        payment_secret: str | None = None,
        cltv_extra: int = SPARE_BLOCKS,
        timeout_s: float = 60.0,
    ) -> Future[Answer]:
        asked = {"bolt11": bolt11, "parts": parts, "total_msat": total_msat, "payment_secret": payment_secret}
        return in_background(lambda: self._ask("dev-send", timeout_s, cltv_extra=cltv_extra, **asked))

    def pay_out(self, amount_msat: int = 10_000, fail: bool = False) -> str:
        self._payments_out += 1
        label = f"out/{os.getpid()}/{id(self)}/{self._payments_out}"
        invoice = self.merchant.call("dev-payer-invoice", amount_msat=amount_msat, label=label, known=not fail)
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
        height: int = self.merchant.call("dev-mine", blocks)["blockheight"]
        return height

    def fund(self) -> None:
        """Nothing to do: the payer is as rich as it needs to be."""

    def extend(self) -> NoReturn:
        raise NotSupported("devnode forwards nothing")

    def fault(
        self,
        method: str,
        fault: str,
        count: int = 1,
        seconds: float | None = None,
        code: int | None = None,
        message: str | None = None,
    ) -> None:
        extra = {"seconds": seconds, "code": code, "message": message}
        given = {name: value for name, value in extra.items() if value is not None}
        self.merchant.call("dev-fault", method=method, fault=fault, count=count, **given)

    def clear_faults(self) -> None:
        self.merchant.call("dev-clear-faults")

    def close(self) -> None:
        self.merchant.close()
