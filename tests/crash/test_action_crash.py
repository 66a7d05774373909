"""A process that drives an action dies at every named point; the action comes to its one end all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cln_paycodes
import pytest
from cln_paycodes import crash
from cln_paycodes.core.actions import MACHINES, ActionKind
from cln_paycodes.services.actions import _RUN_TWICE
from cln_paycodes.store import actions, cursors
from cln_paycodes.store.store import Store

pytestmark = pytest.mark.actions

POINTS = ("action:begun", "action:stepped", "action:stored", "action:ended")
STATES = [str(state) for state in MACHINES[ActionKind.SETTLE]]
DIED = -signal.SIGKILL

#: Runs of each step in a life without a crash.
ONCE = 2 if _RUN_TWICE else 1

Act = Callable[..., int]


@pytest.fixture
def act(tmp_path: Path) -> Act:
    """Run the process to its end, give its exit code."""
    package = Path(cln_paycodes.__file__).parents[1]

    def run(task: str, **environment: str) -> int:
        command = [sys.executable, str(Path(__file__).with_name("acting.py")), str(tmp_path), task]
        environment = {**os.environ, "PYTHONPATH": str(package), **environment}
        return subprocess.run(command, env=environment, timeout=60, capture_output=True).returncode

    return run


def runs(directory: Path) -> list[str]:
    path = directory / "runs"
    return path.read_text().split() if path.exists() else []


def written(directory: Path) -> dict[str, int]:
    """How often each step's write came to the sidecar."""
    with closing(Store(directory / "paycodes.sqlite3")) as store:
        assert store.read(actions.every_id) == []
        return store.read(cursors.every)


def test_every_point_of_actions_is_killed_at() -> None:
    """No crash point of actions is left out here."""
    assert set(POINTS) == {name for name in crash.POINTS if name.startswith("action:")}


@pytest.mark.parametrize("point", POINTS)
def test_action_survives_death_at_any_point(act: Act, tmp_path: Path, point: str) -> None:
    """A later process finishes it: each step's work is done, and what it writes is written exactly once."""
    codes = [act("begin", PAYCODES_CRASH_AT=point), act("resume")]

    assert codes == [DIED, 0]
    assert written(tmp_path) == dict.fromkeys(STATES, 1)
    again = ["asked"] * ONCE if point == "action:stepped" else []
    assert runs(tmp_path) == again + [state for state in STATES for _ in range(ONCE)]
    assert (tmp_path / "told").exists() is (point != "action:ended")


def test_action_that_dies_after_every_step_comes_to_its_end(act: Act, tmp_path: Path) -> None:
    """A process that lives for one step only still brings it one step further, every time."""
    codes = [act(task, PAYCODES_CRASH_AT="action:stored") for task in ("begin", "resume", "resume")]

    assert codes == [DIED, DIED, 0]
    assert written(tmp_path) == dict.fromkeys(STATES, 1)
    assert runs(tmp_path) == [state for state in STATES for _ in range(ONCE)]


def test_process_ends_when_a_step_cannot_be_repeated(act: Act) -> None:
    """With every step run twice, a test that meets such a step fails, whatever else it looks at."""
    assert act("sloppy", PAYCODES_RUN_TWICE="1") == 70
    assert act("resume", PAYCODES_RUN_TWICE="0") == 0
