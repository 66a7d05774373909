"""What tests, the demo and benchmarks may rely on, whichever kind of network they run on."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from pyln.client import RpcError

Answer = dict[str, Any]

#: Blocks beyond what an invoice asks for, so that a block mined meanwhile does not spoil a payment.
SPARE_BLOCKS = 2


class NetworkUnavailable(Exception):
    """This kind of network cannot run on this machine."""


class NotSupported(Exception):
    """This kind of network cannot do that; ask ``supports_faults`` first."""


class StartFailed(Exception):
    """A daemon did not come up; the end of its log is in the message."""


class ConnectionLost(RpcError):  # type: ignore[misc]  # pyln-client has no type marker
    """No answer, or the node cannot be reached: what became of the call is unknown."""

    def __init__(self, method: str, payload: Any, reason: str) -> None:
        super().__init__(method, payload, {"code": None, "message": reason})


class PaymentFailed(Exception):
    """The payer got its money back, or never sent any."""

    def __init__(self, code: int | None, message: str, data: Any = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data


class Node(Protocol):
    """A node and the plugin it runs."""

    @property
    def kind(self) -> str: ...

    @property
    def network_dir(self) -> Path:
        """Where the node keeps its files, and the plugin its database: ``<lightning-dir>/<network>``."""
        ...

    @property
    def rpc_path(self) -> Path: ...

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Answer:
        """Raises pyln.client.RpcError, and ConnectionLost, which is one, when there is no answer."""
        ...

    def pid(self) -> int: ...

    def plugin_pid(self) -> int: ...

    def kill_plugin(self) -> None:
        """SIGKILL; returns once the process is gone and the node has noticed."""
        ...

    def start_plugin(self, **options: Any) -> None:
        """``plugin start``; ``paycodes_db=x`` is the option ``paycodes-db``."""
        ...

    def stop_plugin(self) -> None:
        """``plugin stop``."""
        ...

    def kill(self) -> None:
        """SIGKILL to the node; returns once node and plugin are gone."""
        ...

    def stop(self) -> None:
        """The RPC method ``stop``; returns once the process is gone."""
        ...

    def start(self, **options: Any) -> None:
        """With the options of the last start, changed by ``options``; None takes one away."""
        ...

    def restart(self) -> None: ...

    def is_running(self) -> bool: ...

    def wait_for_exit(self, timeout_s: float = 30.0) -> None:
        """After a fault that makes the node crash; raises TimeoutError."""
        ...

    def log(self) -> str: ...

    def wait_for_log(self, regex: str, timeout_s: float = 30.0, since: int = 0) -> str:
        """The first line that matches, from position ``since`` of ``log()`` on; raises TimeoutError."""
        ...


class Network(Protocol):
    """A merchant's node, which runs the plugin, and someone who pays it."""

    @property
    def kind(self) -> str: ...

    @property
    def supports_faults(self) -> bool: ...

    @property
    def merchant(self) -> Node: ...

    @property
    def payer(self) -> Node | None:
        """The payer's node, where the payer is one."""
        ...

    def pay(self, bolt11: str, amount_msat: int | None = None, parts: int = 1, timeout_s: float = 60.0) -> Answer:
        """``payment_preimage`` and more, even if the merchant's node dies meanwhile and comes back.

        Without ``amount_msat`` and ``parts`` the way a wallet pays; with them exactly what is asked for goes
        out. Raises PaymentFailed.
        """
        ...

    def pay_in_background(
        self, bolt11: str, amount_msat: int | None = None, parts: int = 1, timeout_s: float = 60.0
    ) -> Future[Answer]: ...

    def send(
        self,
        bolt11: str,
        parts: list[int],
        total_msat: int | None = None,
        payment_secret: str | None = None,
        cltv_extra: int = SPARE_BLOCKS,
        timeout_s: float = 60.0,
    ) -> Future[Answer]:
        """Exactly these parts, beside whatever else is paying the same invoice: also what no wallet would send.

        Each part says that the whole is ``total_msat`` and expires ``cltv_extra`` blocks after the soonest that
        the invoice takes. The answer has ``parts``: of each ``amount_msat``, ``status`` (complete or failed) and
        ``payment_preimage`` or ``failcodename``, once all have ended; a failure is no exception.
        """
        ...

    def pay_out(self, amount_msat: int = 10_000, fail: bool = False) -> str:
        """The merchant pays an invoice of the payer, or one the payer no longer knows: the payment hash."""
        ...

    def fund(self) -> None:
        """More liquidity in both directions, where that is a matter at all."""
        ...

    def extend(self) -> Node:
        """A further node, with a channel from the merchant, so that the merchant can forward to it; the same one at
        each call. Raises NotSupported on devnode.
        """
        ...

    def mine(self, blocks: int = 1) -> int:
        """Returns once the merchant's node has seen them: the new block height."""
        ...

    def fault(
        self,
        method: str,
        fault: str,
        count: int = 1,
        seconds: float | None = None,
        code: int | None = None,
        message: str | None = None,
    ) -> None:
        """Have the merchant's next calls go wrong; raises NotSupported on a real node."""
        ...

    def clear_faults(self) -> None: ...

    def close(self) -> None:
        """End every process; nothing is left running, whatever happened before."""
        ...
