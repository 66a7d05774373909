"""All plugins: starting and stopping them, and passing methods, hooks and notifications to them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import manifest as manifests
from .errors import Code, InvalidParams, NodeAbort, RpcError, StartupError
from .features import FEATURES, OFFER_FEATURES
from .manifest import BadManifest, Manifest
from .plugin import Message, OnProgress, PluginProcess

if TYPE_CHECKING:
    from .node import Node

#: lightningd gives ``getmanifest`` and ``init`` two minutes each.
_STARTUP_TIMEOUT_S = 120.0
#: A plugin that subscribes to ``shutdown`` has this long to exit by itself.
_SHUTDOWN_TIMEOUT_S = 30.0


class Plugins:
    def __init__(self, node: Node) -> None:
        self._node = node
        self.running: list[PluginProcess] = []
        #: The node is shutting down.
        self._stopping = False

    async def start(self, path: Path, given: dict[str, list[Any]] | None, startup: bool) -> PluginProcess:
        """Spawn, ask for the manifest, initialise.

        ``given`` holds the options for this plugin; None takes those of the node's command line that it
        declares. Raises RpcError (-3), as ``plugin start`` does, and StartupError for an option of the command line.
        """
        plugin = PluginProcess(path, self._node.journal, self._on_notification)
        self.running.append(plugin)
        try:
            await plugin.spawn(self._node.network_dir)
        except OSError as error:
            self.running.remove(plugin)
            raise RpcError(Code.PLUGIN_ERROR, f"{path}: opening pipe: {error.strerror}") from error
        self._node.spawn(self._forget(plugin))
        try:
            await self._introduce(plugin, given, startup)
        except BadManifest as error:
            plugin.kill(str(error))
            raise RpcError(Code.PLUGIN_ERROR, f"{path}: {error}") from error
        return plugin

    async def _introduce(self, plugin: PluginProcess, given: dict[str, list[Any]] | None, startup: bool) -> None:
        answer = await self._startup_call(plugin, "getmanifest", {"allow-deprecated-apis": False})
        manifest = manifests.parse(answer.get("result"))
        if manifest.disabled is not None:
            raise BadManifest(f"disabled itself: {manifest.disabled}")
        self._check_methods(manifest)
        plugin.manifest = self._with_options(manifest, given)
        if not startup and not manifest.dynamic:
            raise BadManifest("Not a dynamic plugin")
        answer = await self._startup_call(
            plugin,
            "init",
            {
                "options": manifests.option_values(plugin.manifest),
                "configuration": self._configuration(startup),
            },
        )
        result = answer.get("result")
        if isinstance(result, dict) and "disable" in result:
            raise BadManifest(f"disabled itself at init: {result['disable']}")
        plugin.active = True

    async def _startup_call(self, plugin: PluginProcess, method: str, params: Message) -> Message:
        try:
            answer = await asyncio.wait_for(plugin.call(method, params), _STARTUP_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise BadManifest(f"timed out before replying to {method}") from None
        if plugin.died.is_set():
            raise BadManifest(f"exited before replying to {method}")
        return answer

    def _check_methods(self, manifest: Manifest) -> None:
        for name in manifest.methods:
            owner = self.owner_of(name)
            if owner is not None or name in self._node.commands:
                taken_by = "lightningd" if owner is None else str(owner.path)
                raise BadManifest(
                    f'Could not register method "{name}", a method with that name is already registered'
                    f" by plugin {taken_by}"
                )

    def _with_options(self, manifest: Manifest, given: dict[str, list[Any]] | None) -> Manifest:
        if given is None:
            mine = {name: values for name, values in self._node.given_options.items() if name in manifest.options}
            return _of_command_line(dataclasses.replace(manifest, given=mine))
        unknown = [name for name in given if name not in manifest.options]
        if unknown:
            raise BadManifest(f"unknown parameter {unknown[0]}")
        return dataclasses.replace(manifest, given=given)

    def _configuration(self, startup: bool) -> Message:
        return {
            "lightning-dir": str(self._node.network_dir),
            "rpc-file": self._node.rpc_path.name,
            "startup": startup,
            "network": self._node.network,
            "feature_set": FEATURES | OFFER_FEATURES,
        }

    async def _forget(self, plugin: PluginProcess) -> None:
        await plugin.died.wait()
        if plugin in self.running:
            self.running.remove(plugin)

    def owner_of(self, method: str) -> PluginProcess | None:
        for plugin in self.running:
            if plugin.manifest is not None and method in plugin.manifest.methods:
                return plugin
        return None

    def undeclared_options(self) -> list[str]:
        """Options of the command line that no plugin declares."""
        declared = {name for p in self.running if p.manifest is not None for name in p.manifest.options}
        return [name for name in self._node.given_options if name not in declared]

    async def call_method(
        self, plugin: PluginProcess, request: Message, check: bool, on_progress: OnProgress
    ) -> Message:
        """Pass a request on as it came but for its id (``plugin_rpcmethod_dispatch``)."""
        manifest = plugin.manifest
        assert manifest is not None
        if check and not manifest.can_check:
            params = request["params"]
            name = params["command_to_check"] if isinstance(params, dict) else params[0]
            self._node.journal.unusual(
                f"Plugin does not support check command for {name} (id {request['id']})", plugin.source
            )
            return {"result": {"command_to_check": name}}
        prefix = request["id"] if isinstance(request["id"], str) else str(request["id"])
        method = request["method"]
        return await plugin.forward(request | {"id": plugin.next_id(prefix, method)}, on_progress)

    async def call_hook(
        self, name: str, payload: Message, asking: Callable[[str], None] | None = None
    ) -> list[Message]:
        """Every answer in turn, until one is not ``continue``; no answer if a plugin dies while it thinks.

        ``asking`` is told the name of each plugin before it is asked.

        Raises NodeAbort where lightningd calls ``fatal()``: an error, or a result that is no object with
        ``result``.
        """
        answers = []
        for plugin in [p for p in self.running if p.active and p.manifest and name in p.manifest.hooks]:
            if asking is not None:
                asking(plugin.name)
            answer = await plugin.call(name, payload)
            if answer.get("error", {}).get("code") == Code.PLUGIN_TERMINATED:
                if self._stopping:
                    # lightningd's shutdown frees a hook without going on: its HTLC waits for the next start.
                    await asyncio.get_running_loop().create_future()
                self._node.journal.debug(f"Plugin died from {name} hook call")
                continue
            if "result" not in answer:
                raise NodeAbort(f"Plugin {plugin.name} for {name} returned non-result response {answer}")
            result = answer["result"]
            if not isinstance(result, dict) or "result" not in result:
                raise NodeAbort(f"Invalid {name} hook result: {result}")
            answers.append(result)
            if result["result"] != "continue":
                break
        return answers

    def notify(self, topic: str, params: Message, origin: str | None = None) -> None:
        for plugin in self.running:
            self._notify_one(plugin, topic, params, origin)

    @staticmethod
    def _notify_one(plugin: PluginProcess, topic: str, params: Message, origin: str | None = None) -> bool:
        if not plugin.active or plugin.manifest is None:
            return False
        subscriptions = plugin.manifest.subscriptions
        if topic not in subscriptions and "*" not in subscriptions:
            return False
        plugin.notify(topic, params, origin)
        return True

    def _on_notification(self, plugin: PluginProcess, message: Message) -> None:
        method = message.get("method")
        if not isinstance(method, str) or "params" not in message:
            plugin.kill(f'Malformed JSON-RPC notification missing "method" or "params": {message}')
        elif method == "log":
            plugin.log(message["params"])
        elif method in ("message", "progress"):
            plugin.progress(message)
        elif plugin.manifest is None or method not in plugin.manifest.topics:
            self._node.journal.unusual(
                f'Plugin attempted to send a notification to topic "{method}" it hasn\'t declared in its'
                " manifest, not forwarding to subscribers.",
                plugin.source,
            )
        else:
            self.notify(method, message["params"], origin=plugin.name)

    async def stop(self, plugin: PluginProcess) -> None:
        """As ``plugin stop``: at once, or within 30 s for one that asked to be told."""
        if self._notify_one(plugin, "shutdown", {"shutdown": {}}):
            try:
                await asyncio.wait_for(plugin.died.wait(), _SHUTDOWN_TIMEOUT_S)
                return
            except asyncio.TimeoutError:
                self._node.journal.unusual("Timeout on shutdown: killing anyway", plugin.source)
        plugin.kill("stopped by lightningd via RPC", unusual=False)

    async def stop_all(self) -> None:
        self._stopping = True
        await asyncio.gather(*(self.stop(plugin) for plugin in list(self.running)))

    def find(self, name: str) -> PluginProcess:
        """By path or by the end of it; raises InvalidParams."""
        for plugin in self.running:
            if name == str(plugin.path) or str(plugin.path).endswith(os.sep + name):
                return plugin
        raise InvalidParams(f"Could not find plugin {name}")


def _of_command_line(manifest: Manifest) -> Manifest:
    """Raises StartupError for an option of the wrong type: lightningd does not start with it."""
    try:
        manifests.option_values(manifest)
    except BadManifest as error:
        raise StartupError(str(error)) from error
    return manifest
