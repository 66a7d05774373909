"""The reaper: a process that outlives its parent by a moment, to kill what the parent left running.

Daemons run in sessions of their own, so that Ctrl-C in a terminal reaches the harness and not them. When the
harness ends without cleaning up, even by SIGKILL, the pipe to the reaper closes, and the reaper kills the
daemons.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading

_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


def watch(leader: int) -> None:
    """Kill the process group of ``leader`` when this process ends."""
    _tell(f"+{leader}\n")


def release(leader: int) -> None:
    """The process group is gone; its number may be somebody else's soon."""
    _tell(f"-{leader}\n")


def kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _tell(line: str) -> None:
    global _process
    with _lock:
        if _process is None or _process.poll() is not None:
            _process = subprocess.Popen(
                [sys.executable, "-S", "-E", __file__], stdin=subprocess.PIPE, start_new_session=True
            )
            atexit.register(_close, _process)
        assert _process.stdin is not None
        _process.stdin.write(line.encode())
        _process.stdin.flush()


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.wait(timeout=10)


def main() -> None:
    leaders: set[int] = set()
    for line in sys.stdin:
        leader = int(line[1:])
        if line.startswith("+"):
            leaders.add(leader)
        else:
            leaders.discard(leader)
    for leader in leaders:
        kill_group(leader)


if __name__ == "__main__":
    main()
