"""bitcoind on regtest, with the options of pyln-testing, in a session of its own."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

from .daemon import Daemon, environment, poll_until

os.environ.setdefault("TEST_NETWORK", "regtest")

from bitcoin.rpc import JSONRPCError  # type: ignore[import-untyped]  # it has no type marker
from pyln.testing.utils import BitcoinD  # it reads TEST_NETWORK when it is imported

_TIMEOUT_S = 60.0

_WALLET = "network"

#: Deriving a thousand keys takes longer than all else of a start, and a file of blocks is 16 MB from the first one on.
_SMALL = ("-keypool=1", "-fastprune")


class Bitcoind:
    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._recipe = BitcoinD(str(directory))
        self._recipe.cleanup_files()
        self.rpc_port: int = self._recipe.rpcport
        self._daemon = Daemon(directory / "output")
        self._address = ""

    def start(self) -> None:
        self._daemon.spawn([*self._recipe.cmd_line, *_SMALL], environment())
        poll_until(self._is_up, _TIMEOUT_S, "bitcoind did not start")
        if self._has_wallet():
            self._recipe.rpc.loadwallet(_WALLET)
        else:
            self._recipe.rpc.createwallet(_WALLET)
        self._address = self._recipe.rpc.getnewaddress()

    def _is_up(self) -> bool:
        self._daemon.check()
        try:
            self.height()
        except (OSError, JSONRPCError):
            return False
        return True

    def _has_wallet(self) -> bool:
        return any(wallet["name"] == _WALLET for wallet in self._recipe.rpc.listwalletdir()["wallets"])

    def mine(self, blocks: int) -> None:
        self._recipe.rpc.generatetoaddress(blocks, self._address)

    def height(self) -> int:
        return int(self._recipe.rpc.getblockcount())

    def send(self, address: str, sats: int) -> None:
        self._recipe.rpc.sendtoaddress(address, str(Decimal(sats) / 10**8))

    def wait_for_transaction(self, txid: str) -> None:
        poll_until(lambda: txid in self._recipe.rpc.getrawmempool(), _TIMEOUT_S, f"{txid} is not in the mempool")

    def stop(self) -> None:
        """Returns once everything is on disk."""
        self._recipe.rpc.stop()
        self._daemon.wait(_TIMEOUT_S)

    def close(self) -> None:
        self._daemon.end()
