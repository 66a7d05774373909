"""The RPC server: connections on the unix socket, and the way of one request to its answer."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from .command import CheckPassed, Command
from .errors import Code, InvalidParams, NodeAbort, RpcError
from .faults import Fault, crash
from .framing import JsonStream, MalformedJson, encode

if TYPE_CHECKING:
    from .node import Node

Message = dict[str, Any]

_READ_BYTES = 1 << 20


class _Dropped(Exception):
    """The connection was closed on purpose: nobody gets an answer."""


class Connection:
    """One client. Requests are started in the order in which they come and answered as they finish."""

    def __init__(self, node: Node, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._node = node
        self._reader = reader
        self._writer = writer
        self._notifications = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        stream = JsonStream()
        try:
            while chunk := await self._reader.read(_READ_BYTES):
                for request in stream.feed(chunk):
                    task = self._node.spawn(self._answer(request))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            if self._tasks:
                # The caller may close its writing half and still wait for answers.
                await asyncio.wait(self._tasks)
        except MalformedJson as error:
            self._send(
                {
                    "jsonrpc": "2.0",
                    "id": None,
                    "error": {"code": int(Code.INVALID_REQUEST), "message": str(error)},
                }
            )
        except ConnectionError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        self._writer.close()

    def _send(self, message: Message) -> None:
        with contextlib.suppress(ConnectionError):
            if not self._writer.is_closing():
                self._writer.write(encode(message))

    async def _answer(self, request: Any) -> None:
        if not isinstance(request, dict):
            return self._malformed("Expected {} for json command")
        if "id" not in request:
            return self._malformed("No id")
        if isinstance(request["id"], (dict, list)):
            return self._malformed("Expected string/primitive for id")
        if "jsonrpc" not in request:
            return self._malformed(f'JSON-RPC message does not contain "jsonrpc" field: {request}')
        if request["jsonrpc"] != "2.0":
            return self._malformed('jsonrpc: "2.0" must be specified in the request')
        try:
            outcome = await self._outcome(request)
        except RpcError as error:
            outcome = {"error": error.to_json()}
        except _Dropped:
            return None
        self._send({"jsonrpc": "2.0", "id": request["id"]} | outcome)
        return None

    def _malformed(self, message: str) -> None:
        self._send({"jsonrpc": "2.0", "id": None, "error": {"code": int(Code.INVALID_REQUEST), "message": message}})
        self.close()

    async def _outcome(self, request: Message) -> Message:
        method = request.get("method")
        if method is None or "params" not in request:
            raise RpcError(Code.INVALID_REQUEST, "No method" if method is None else "No params")
        if not isinstance(method, str):
            raise RpcError(Code.INVALID_REQUEST, "Expected string for method")
        fault = self._node.faults.take(method)
        if fault is not None:
            await self._before(fault)
        if method == "notifications":
            outcome = self._set_notifications(request["params"])
        elif method == "check":
            outcome = await self._check(request)
        else:
            outcome = await self._run(method, request)
        if fault is not None:
            self._after(fault)
        return outcome

    async def _before(self, fault: Fault) -> None:
        if fault.kind == "slow":
            await fault.delay()
        elif fault.kind == "refuse":
            raise fault.refusal()
        elif fault.kind == "hang":
            await asyncio.get_running_loop().create_future()
        elif fault.kind == "crash_before":
            crash()
        elif fault.kind == "drop_before":
            self.close()
            raise _Dropped

    def _after(self, fault: Fault) -> None:
        if fault.kind == "crash_after":
            crash()
        elif fault.kind == "drop_after":
            self.close()
            raise _Dropped

    def _set_notifications(self, params: Any) -> Message:
        enable = params.get("enable") if isinstance(params, dict) else next(iter(params), None)
        if not isinstance(enable, bool):
            raise InvalidParams("missing required parameter: enable")
        self._notifications = enable
        return {"result": {}}

    async def _run(self, method: str, request: Message) -> Message:
        command = self._node.commands.get(method)
        if command is not None:
            return {"result": await run(self._node, command, request["params"])}
        return await self._pass_on(method, request)

    async def _pass_on(self, method: str, request: Message) -> Message:
        """A plugin's method: the whole answer comes back as the plugin gave it, but for the id."""
        plugin = self._node.plugins.owner_of(method)
        if plugin is None:
            raise RpcError(Code.METHOD_NOT_FOUND, f"Unknown command '{method}'")
        caller_id = request["id"]

        def forward(notification: Message) -> None:
            if self._notifications:
                self._send(notification | {"params": notification["params"] | {"id": caller_id}})

        is_check = request["method"] == "check"
        answer = await self._node.plugins.call_method(plugin, request, is_check, forward)
        return {name: value for name, value in answer.items() if name not in ("jsonrpc", "id")}

    async def _check(self, request: Message) -> Message:
        """``check``: as far as the command goes without effect."""
        params = request["params"]
        named = isinstance(params, dict)
        name = params.get("command_to_check") if named else next(iter(params), None)
        if name is None:
            raise InvalidParams("missing required parameter: command_to_check")
        command = self._node.commands.get(name)
        if command is None:
            return await self._pass_on(name, request)
        rest = {k: v for k, v in params.items() if k != "command_to_check"} if named else params[1:]
        await run(self._node, command, rest, check_only=True)
        return {"result": {"command_to_check": name}}


async def run(node: Node, command: Command, params: Any, check_only: bool = False) -> Message:
    """One of devnode's own methods; what it changes is committed when this returns."""
    if not isinstance(params, (list, dict)):
        raise InvalidParams("Expected array or object for params")
    call = command.call(params, check_only)
    try:
        if inspect.iscoroutinefunction(command.run):
            result: Message = await command.run(node, call)
            return result
        with node.store.transaction():
            done = command.run(node, call)
            assert isinstance(done, dict)
            return done
    except CheckPassed:
        return {}


class Server:
    """Listens for connections until closed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        path = self._node.rpc_path
        path.unlink(missing_ok=True)
        # A socket's path has at most 107 bytes; a name relative to where the node works always fits.
        self._server = await asyncio.start_unix_server(self._connected, path.name)
        path.chmod(0o600)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Connection(self._node, reader, writer).serve()
        except NodeAbort as error:
            self._node.abort(error)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
