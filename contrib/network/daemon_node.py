"""A node that is a daemon of ours: all that devnode and lightningd have in common."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyln.client import LightningRpc, RpcError

from .daemon import Daemon, environment, is_alive, poll_until
from .interface import Answer, ConnectionLost, StartFailed

#: Generous: machines that run tests are busy.
_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 60.0
_KILL_TIMEOUT_S = 15.0

_STARTED = "Server started with public key"


class DaemonNode:
    """Subclasses say how the command line looks."""

    kind = ""

    def __init__(
        self, lightning_dir: Path, plugin_path: Path | None, options: dict[str, Any], beside: Sequence[Path] = ()
    ) -> None:
        lightning_dir.mkdir(parents=True, exist_ok=True)
        self.lightning_dir = lightning_dir
        self.network_dir = lightning_dir / "regtest"
        self.rpc_path = self.network_dir / "lightning-rpc"
        self.plugin_path = plugin_path
        #: Plugins that come after it in every chain of hooks.
        self._beside = tuple(beside)
        self._options = dict(options)
        self._log_path = lightning_dir / "log"
        self._daemon = Daemon(lightning_dir / "output")

    def command(self) -> list[str]:
        """The command line without the options of the plugin."""
        raise NotImplementedError

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Answer:
        if args and kwargs:
            raise TypeError(f"{method}: JSON-RPC takes parameters by position or by name, not both")
        payload: Any = list(args) if args else kwargs
        try:
            answer: Answer = LightningRpc(str(self.rpc_path)).call(method, payload)
        except OSError as error:
            raise ConnectionLost(method, payload, str(error)) from error
        except RpcError as error:
            if isinstance(error.error, str):
                raise ConnectionLost(method, payload, error.error) from error
            raise
        return answer

    def pid(self) -> int:
        return self._daemon.pid

    def is_running(self) -> bool:
        return self._daemon.is_running()

    def start(self, **options: Any) -> None:
        for name, value in options.items():
            self._options[name] = value
        self._options = {name: value for name, value in self._options.items() if value is not None}
        self.begin_start()
        self.finish_start()

    def begin_start(self) -> None:
        """Spawn and return at once, so that several nodes can come up side by side."""
        if self.is_running():
            raise StartFailed("already running")
        self._since = len(self.log())
        command = self.command()
        if self.plugin_path is not None:
            command.append(f"--plugin={self.plugin_path}")
        command += [f"--plugin={path}" for path in self._beside]
        command += _spelled(self._options)
        self._daemon.spawn(command, environment())

    def finish_start(self) -> None:
        def ready() -> bool:
            self._daemon.check()
            return _STARTED in self.log()[self._since :]

        try:
            poll_until(ready, _START_TIMEOUT_S, f"{self.lightning_dir} did not start")
        except BaseException:
            self._daemon.end()
            raise

    def stop(self) -> None:
        with contextlib.suppress(RpcError):
            self.call("stop")
        try:
            self._daemon.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._daemon.end()

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        plugin = self._find_plugin_pid()
        self._daemon.kill()
        if plugin is not None:
            with contextlib.suppress(TimeoutError):
                poll_until(lambda: not is_alive(plugin), _KILL_TIMEOUT_S, "the plugin outlives its node")
        self._daemon.sweep()

    def wait_for_exit(self, timeout_s: float = 30.0) -> None:
        try:
            self._daemon.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"after {timeout_s:g} s: the node still runs") from None

    def close(self) -> None:
        """End without asking."""
        self._daemon.end()

    def plugin_pid(self) -> int:
        pid = self._find_plugin_pid()
        if pid is None:
            raise ProcessLookupError("the plugin is not running")
        return pid

    def _find_plugin_pid(self) -> int | None:
        """Both kinds of node log the process of each plugin they start; the last counts, if alive."""
        if self.plugin_path is None:
            return None
        path = re.escape(str(self.plugin_path.resolve()))
        pids = re.findall(rf"started\((\d+)\) {path}$", self.log(), re.MULTILINE)
        if not pids or not is_alive(int(pids[-1])):
            return None
        return int(pids[-1])

    def kill_plugin(self) -> None:
        pid = self.plugin_pid()
        os.kill(pid, signal.SIGKILL)
        poll_until(
            lambda: not is_alive(pid) and not self._lists_plugin(),
            _KILL_TIMEOUT_S,
            "the node has not noticed that its plugin died",
        )

    def _lists_plugin(self) -> bool:
        path = str(self._plugin().resolve())
        return any(plugin["name"] == path for plugin in self.call("plugin", "list")["plugins"])

    def start_plugin(self, **options: Any) -> None:
        """With the node's options: a plugin that is started later does not get them by itself."""
        given = {name.replace("_", "-"): value for name, value in (self._options | options).items()}
        self.call("plugin", subcommand="start", plugin=str(self._plugin()), **given)

    def stop_plugin(self) -> None:
        self.call("plugin", "stop", str(self._plugin()))

    def _plugin(self) -> Path:
        if self.plugin_path is None:
            raise ProcessLookupError("the node has no plugin")
        return self.plugin_path

    def log(self) -> str:
        try:
            return self._log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_for_log(self, regex: str, timeout_s: float = 30.0, since: int = 0) -> str:
        pattern = re.compile(f"^.*(?:{regex}).*$", re.MULTILINE)
        found: list[str] = []

        def look() -> bool:
            match = pattern.search(self.log(), since)
            if match:
                found.append(match.group())
            return bool(match)

        poll_until(look, timeout_s, f"no line in the log matches {regex!r}")
        return found[0]


def _spelled(options: dict[str, Any]) -> list[str]:
    """``paycodes_db="x"`` as ``--paycodes-db=x``; True is a flag."""
    words = []
    for name, value in options.items():
        word = "--" + name.replace("_", "-")
        for each in value if isinstance(value, list) else [value]:
            words.append(word if each is True else f"{word}={each}")
    return words
