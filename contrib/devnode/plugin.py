"""One plugin: its process, and the JSON-RPC spoken with it over its standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import VERSION
from .errors import Code
from .framing import JsonStream, MalformedJson, encode
from .journal import Journal, is_level
from .manifest import Manifest

Message = dict[str, Any]
#: Told of what a call's handler says while it works (``message`` and ``progress``).
OnProgress = Callable[[Message], None]

_READ_BYTES = 1 << 20

TERMINATED = {
    "error": {
        "code": int(Code.PLUGIN_TERMINATED),
        "message": "Plugin terminated before replying to RPC call.",
    }
}


class PluginProcess:
    """The child. It is dead as soon as its standard output ends, whatever the process still does."""

    _ids = itertools.count()

    def __init__(self, path: Path, journal: Journal, on_notification: Callable[[PluginProcess, Message], None]) -> None:
        self.path = path
        self.name = path.name
        self.manifest: Manifest | None = None
        #: Answered ``init``: gets notifications and hooks from now on.
        self.active = False
        self.died = asyncio.Event()
        self._journal = journal
        self._on_notification = on_notification
        self._pending: dict[str, tuple[asyncio.Future[Message], OnProgress | None]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def source(self) -> str:
        return f"plugin-{self.name}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def spawn(self, directory: Path) -> None:
        environment = os.environ | {"LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": VERSION}
        self._process = await asyncio.create_subprocess_exec(
            str(self.path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=directory,
            env=environment,
        )
        self._journal.debug(f"started({self._process.pid}) {self.path}")
        self._reader = asyncio.create_task(self._read(), name=f"read {self.name}")

    async def call(
        self, method: str, params: Any, prefix: str | None = None, on_progress: OnProgress | None = None
    ) -> Message:
        """The whole answer, with ``result`` or ``error``; error -4 if the plugin dies first."""
        number = f"cln:{method}#{next(self._ids)}"
        request_id = f"{prefix}/{number}" if prefix else number
        request = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        return await self.forward(request, on_progress)

    async def forward(self, request: Message, on_progress: OnProgress | None = None) -> Message:
        """Send a request as it is; its id must be one that is not in use."""
        if self.died.is_set():
            return dict(TERMINATED)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[request["id"]] = (answer, on_progress)
        try:
            self._send(request)
            return await answer
        finally:
            self._pending.pop(request["id"], None)

    def next_id(self, prefix: str, method: str) -> str:
        return f"{prefix}/cln:{method}#{next(self._ids)}"

    def notify(self, method: str, params: Message, origin: str | None = None) -> None:
        """``origin`` names the plugin that a custom notification comes from; lightningd's own have none."""
        sender = {} if origin is None else {"origin": origin}
        self._send({"jsonrpc": "2.0", "method": method, **sender, "params": params})

    def _send(self, message: Message) -> None:
        if self._process is None or self._process.stdin is None or self.died.is_set():
            return
        # A plugin that is on its way out no longer reads; its death is noticed by the reader.
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(encode(message))

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        stream = JsonStream()
        while chunk := await self._process.stdout.read(_READ_BYTES):
            try:
                for message in stream.feed(chunk):
                    self._take(message)
            except MalformedJson as error:
                self.kill(f"Plugin sent bad JSON: {error}")
                break
        self._end()

    def _take(self, message: Any) -> None:
        if "id" not in message:
            self._on_notification(self, message)
            return
        pending = self._pending.get(message["id"]) if isinstance(message["id"], str) else None
        if pending is not None and not pending[0].done():
            pending[0].set_result(message)

    def log(self, params: Message) -> None:
        """The plugin's own ``log`` notification; an unknown level gets it killed, as lightningd does."""
        level = params.get("level", "info")
        if not is_level(level):
            self.kill(f'Unknown log-level {level}, valid values are "trace", "debug", "info", "warn", or "error".')
            return
        self._journal.write(level, self.source, str(params.get("message")))

    def progress(self, message: Message) -> None:
        pending = self._pending.get(message["params"].get("id"))
        if pending is not None and pending[1] is not None:
            pending[1](message)

    def kill(self, reason: str, unusual: bool = True) -> None:
        self._journal.write("unusual" if unusual else "info", self.source, f"Killing plugin: {reason}")
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
        self._end()

    def _end(self) -> None:
        if self.died.is_set():
            return
        self.active = False
        self.died.set()
        for answer, _ in list(self._pending.values()):
            if not answer.done():
                answer.set_result(dict(TERMINATED))
        self._pending.clear()
        if self._process is not None and self._process.returncode is None:
            # Standard output is closed, so nothing of the plugin can be of use any more.
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
