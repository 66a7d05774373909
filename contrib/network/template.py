"""A stopped network that is made once, for many to be opened as copies of it.

It is for one session of tests, whose processes share it: the next one may have other versions of the daemons, and to
bitcoind a chain whose last block is a day old looks out of date.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: What belongs to one run of a daemon.
_OF_A_RUN = shutil.ignore_patterns("bitcoin.conf", "debug.log", "log", "output", "errlog", "lightning-rpc", "*.pid")


@dataclass(frozen=True)
class Template:
    #: Does not exist until the template is complete.
    path: Path

    def copy_into(self, directory: Path, make: Callable[[Path], None]) -> None:
        """``make`` leaves a stopped network in the directory that it is given, if nobody has made one yet."""
        self._ensure(make)
        shutil.copytree(self.path, directory, ignore=_OF_A_RUN, dirs_exist_ok=True)

    def _ensure(self, make: Callable[[Path], None]) -> None:
        """Made aside and renamed, so that what was interrupted is never taken for a template."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists():
                return
            with tempfile.TemporaryDirectory(prefix="making-", dir=self.path.parent) as aside:
                made = Path(aside) / "network"
                make(made)
                made.rename(self.path)


_shared: Template | None = None


def share(path: Path) -> None:
    """The regtest networks that this process opens from now on are copies of the one that is kept there."""
    global _shared
    _shared = Template(path)


def shared() -> Template | None:
    return _shared
