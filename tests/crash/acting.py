"""A process that does one action on a sidecar, for a test that kills it: `acting.py <directory> begin|resume|sloppy`.

Each step leaves a file as its work at the node's side, and counts what it wrote in the sidecar.
"""

from __future__ import annotations

import random
import sys
import time
from functools import partial
from pathlib import Path

from cln_paycodes.core.actions import ActionKind, ActionState, Checkpoint, Done, Failed, Next, Outcome
from cln_paycodes.services.actions import Engine
from cln_paycodes.store import actions, cursors
from cln_paycodes.store.store import Sql, Store

ID = "ab" * 32
DEADLINE_S = 30.0
_OUTCOME = {
    ActionState.ASKED: partial(Next, ActionState.REGISTERED),
    ActionState.REGISTERED: partial(Next, ActionState.RELEASED),
    ActionState.RELEASED: Done,
}


def count(sql: Sql, name: str) -> None:
    cursors.put(sql, name, (cursors.get(sql, name) or 0) + 1)


def step(checkpoint: Checkpoint, *, directory: Path, sloppy: bool) -> Outcome:
    """The work is there when it was done before; a sloppy step takes that for somebody else's."""
    work = directory / checkpoint.state
    found = work.exists()
    work.touch()
    with (directory / "runs").open("a") as runs:
        runs.write(f"{checkpoint.state}\n")
    if found and sloppy:
        return Failed("somebody did it already")
    return _OUTCOME[checkpoint.state](write=partial(count, name=str(checkpoint.state)))


def main(directory: Path, task: str) -> None:
    store = Store(directory / "paycodes.sqlite3")
    engine = Engine(store, clock=lambda: int(time.time()), chance=random.random)
    engine.machine(
        ActionKind.SETTLE,
        dict.fromkeys(_OUTCOME, partial(step, directory=directory, sloppy=task == "sloppy")),
        on_rejection=lambda _, error: Failed(error.message),
        ended=lambda *_: (directory / "told").touch(),
    )
    engine.start()
    if task != "resume":
        store.write(lambda tx: engine.begin(tx, ID, ActionKind.SETTLE, {}))
    deadline = time.monotonic() + DEADLINE_S
    while store.read(actions.every_id) or engine._driven:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    engine.stop()
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
