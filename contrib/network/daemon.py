"""A daemon: a child process in a session of its own, that is certain to end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import reaper
from .interface import StartFailed

_POLL_S = 0.01


def environment() -> dict[str, str]:
    """Ours, with the interpreter that runs us first on PATH, so that ``env python3`` finds the same packages."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path}


def poll_until(done: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Raises TimeoutError, naming ``what`` did not happen."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout_s:g} s: {what}")
        time.sleep(_POLL_S)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie, which only waits for its parent, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return not Path("/proc/self").exists()
    return status.rpartition(")")[2].split()[0] != "Z"


class Daemon:
    def __init__(self, output: Path) -> None:
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ProcessLookupError("the daemon was never started")
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(variables),
                start_new_session=True,
            )
        reaper.watch(self._process.pid)

    def wait(self, timeout_s: float) -> int:
        """The exit status; raises subprocess.TimeoutExpired."""
        if self._process is None:
            return 0
        status = self._process.wait(timeout_s)
        self.sweep()
        return status

    def kill(self) -> None:
        """SIGKILL to the daemon alone: its children see it die, as after a real crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def sweep(self) -> None:
        """Kill whatever is left of the daemon's session."""
        if self._process is not None:
            reaper.kill_group(self._process.pid)
            reaper.release(self._process.pid)

    def end(self) -> None:
        self.kill()
        self.sweep()

    def check(self) -> None:
        """Raises StartFailed if the daemon has ended."""
        if self._process is not None and self._process.poll() is not None:
            tail = "\n".join(self._output.read_text(errors="replace").splitlines()[-20:])
            raise StartFailed(f"exit status {self._process.returncode}\n{tail}")
