"""The machine and the versions that figures belong to."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

from cln_paycodes import __version__

_FSYNC_S = 1.0
_BLOCK = bytes(4096)


def described(kind: str, directory: Path) -> dict[str, str]:
    """In words, by what it is; `directory` is where the nodes keep their files."""
    return {
        "node": f"{kind}, {_lightningd()}" if kind == "regtest" else f"{kind}, a stand-in for lightningd",
        "plugin": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cpu": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "disk": f"{_filesystem(directory)}, {fsyncs_per_second(directory):.0f} fdatasync/s of 4 KiB",
        "load": f"{os.getloadavg()[0]:.2f} when it began",
    }


def fsyncs_per_second(directory: Path) -> float:
    path = directory / "fsync"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY)
    count, began = 0, time.perf_counter()
    try:
        while time.perf_counter() - began < _FSYNC_S:
            os.write(handle, _BLOCK)
            os.fdatasync(handle)
            count += 1
    finally:
        os.close(handle)
        path.unlink()
    return count / (time.perf_counter() - began)


def _lightningd() -> str:
    path = shutil.which("lightningd")
    if path is None:
        return "lightningd is not on PATH"
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    return f"lightningd {done.stdout.strip()}"


def _cpu() -> str:
    match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _filesystem(directory: Path) -> str:
    """The type of the file system, and its device."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    over = [mount for mount in mounts if directory.resolve().is_relative_to(mount[1])]
    device, _, kind, *_ = max(over, key=lambda mount: len(mount[1]))
    return f"{kind} on {device}"
