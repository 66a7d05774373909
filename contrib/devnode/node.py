"""The node: everything put together, and its life from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from . import VERSION, channel, datastore, invoice_commands, keys, node_commands, outgoing_commands, payer
from .command import Command
from .errors import NodeAbort, RpcError, StartupError
from .faults import Faults
from .incoming import Incoming
from .indexes import Indexes
from .invoice_string import CURRENCIES
from .invoices import Invoices
from .journal import Journal
from .outgoing import Outgoing
from .plugins import Plugins
from .server import Server
from .store import Store

T = TypeVar("T")

#: Everything but ``hsm_secret``; a copy taken while the node is stopped is a backup.
STATE_FILE = "devnode.sqlite3"

_FIRST_BLOCKHEIGHT = 108

#: The exit status after ``abort()``, as a shell reports SIGABRT.
_ABORT_STATUS = 134


class Node:
    def __init__(self, lightning_dir: Path, network: str, given_options: dict[str, list[Any]]) -> None:
        self.network = network
        self.currency = CURRENCIES[network]
        self.cltv = channel.default_cltv(network)
        self.network_dir = lightning_dir / network
        self.network_dir.mkdir(parents=True, exist_ok=True)
        self.rpc_path = self.network_dir / "lightning-rpc"
        #: Options of the command line that are for plugins.
        self.given_options = given_options
        self.journal = Journal(lightning_dir / "log")
        self.keys = keys.load(self.network_dir / "hsm_secret")
        self.payer_id = keys.public_key(self.keys.payer_secret())
        self.store = Store(self.network_dir / STATE_FILE)
        self.indexes = Indexes(self.store)
        self.invoices = Invoices(self.store, self.indexes)
        self.outgoing = Outgoing(self)
        self.incoming = Incoming(self)
        self.plugins = Plugins(self)
        self.faults = Faults()
        self.commands: dict[str, Command] = {}
        modules = (node_commands, channel, datastore, invoice_commands, outgoing_commands, payer)
        for module in modules:
            self.commands |= {command.name: command for command in module.COMMANDS}
        self._server = Server(self)
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def blockheight(self) -> int:
        return self.store.var("blockheight", _FIRST_BLOCKHEIGHT)

    async def start(self, plugin_paths: list[Path]) -> None:
        """Returns once every plugin is initialised and what a crash interrupted is on its way again.

        Raises StartupError.
        """
        os.chdir(self.network_dir)
        await self._server.listen()
        for path in plugin_paths:
            # A plugin that does not come up is in the log; lightningd goes on without it.
            with contextlib.suppress(RpcError):
                await self.plugins.start(path, None, startup=True)
        unknown = self.plugins.undeclared_options()
        if unknown:
            raise StartupError(f"--{unknown[0]}: unrecognized option")
        self.invoices.expire()
        self.incoming.replay()
        self.journal.info(
            f"Server started with public key {self.keys.node_id}, alias DEVNODE"
            f" (color #{self.keys.node_id[2:8]}) and lightningd {VERSION}"
        )

    async def shut_down(self) -> None:
        """``stop``: let the plugins go first. What asks in the meantime gets no answer."""
        self._server.close()
        await self.plugins.stop_all()
        # The caller's answer is written by the task that called this; let it.
        asyncio.get_running_loop().call_later(0.05, self._stopped.set)

    async def until_stopped(self) -> None:
        await self._stopped.wait()
        self.store.close()
        self.rpc_path.unlink(missing_ok=True)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run in the background; what would make lightningd abort makes devnode abort."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.abort(error)

    def abort(self, error: BaseException) -> None:
        """Die at once, as lightningd's ``fatal()`` does, leaving the state as it was committed."""
        reason = str(error) if isinstance(error, NodeAbort) else f"devnode failed: {error!r}"
        self.journal.broken(f"FATAL SIGNAL 6 {reason}")
        os._exit(_ABORT_STATUS)
