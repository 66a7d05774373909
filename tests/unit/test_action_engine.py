"""The engine on a real sidecar: actions go on where they left off, and none takes another with it.

Each test runs as well with every step run twice (`make test-twice`): the steps here may be.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from backend import DEADLINE_S, eventually
from cln_paycodes.core.actions import (
    ActionKind,
    ActionState,
    Checkpoint,
    Done,
    Failed,
    Next,
    Outcome,
    Park,
    backoff_s,
)
from cln_paycodes.errors import ActionUnderWay, NodeRefused, NodeUnknown, SidecarUnavailable
from cln_paycodes.services.actions import _RUN_TWICE, Engine, Step, problems
from cln_paycodes.store import actions, cursors
from cln_paycodes.store.store import Store
from cln_paycodes.store.writer import Transaction
from samples import NOW

pytestmark = pytest.mark.actions

SETTLE, CANCEL = ActionKind.SETTLE, ActionKind.CANCEL
ASKED, REGISTERED, RELEASED = ActionState
HOUR = 3600
OTHER = "ef" * 32


def hash_of(number: int) -> str:
    return f"{number:064x}"


ID = hash_of(1)


class Desk:
    """An engine under a clock that the test sets, with machines that the test changes as it goes."""

    def __init__(self, directory: Path, *, run_twice: bool = _RUN_TWICE) -> None:
        self.now = NOW
        self.store = Store(directory / "paycodes.sqlite3")
        self.differences: list[str] = []
        self.ended: list[tuple[str, Done | Failed]] = []
        #: (id, state) of each run of a step, in order
        self.runs: list[tuple[str, ActionState]] = []
        self.steps: dict[tuple[ActionKind, ActionState], Step] = {
            (SETTLE, ASKED): lambda _: Next(REGISTERED),
            (SETTLE, REGISTERED): lambda _: Next(RELEASED),
            (SETTLE, RELEASED): lambda _: Done(),
            (CANCEL, ASKED): lambda _: Done(),
        }
        self.on_rejection: Callable[[Checkpoint, NodeRefused], Outcome] = lambda _, error: Failed(error.message)
        self.engine = Engine(
            self.store,
            clock=lambda: self.now,
            chance=lambda: 0.0,
            run_twice=run_twice,
            differ=self.differences.append,
        )
        for kind in ActionKind:
            states = [state for of, state in self.steps if of is kind]
            self.engine.machine(
                kind,
                {state: partial(self._step, kind, state) for state in states},
                on_rejection=lambda checkpoint, error: self.on_rejection(checkpoint, error),
                ended=lambda checkpoint, outcome: self.ended.append((checkpoint.action_id, outcome)),
            )

    def _step(self, kind: ActionKind, state: ActionState, checkpoint: Checkpoint) -> Outcome:
        assert (checkpoint.kind, checkpoint.state) == (kind, state)
        self.runs.append((checkpoint.action_id, state))
        return self.steps[kind, state](checkpoint)

    def begin(
        self, action_id: str = ID, kind: ActionKind = SETTLE, payload: Mapping[str, Any] | None = None
    ) -> Checkpoint:
        return self.store.write(lambda tx: self.engine.begin(tx, action_id, kind, payload or {}))

    def look(self, action_id: str = ID) -> Checkpoint | None:
        return self.store.read(partial(actions.get, action_id=action_id))

    def wait_parked(self, action_id: str = ID, attempts: int = 0) -> Checkpoint:
        """The checkpoint once it is stored with so many failures and nobody drives it."""

        def parked() -> Checkpoint | None:
            found = self.look(action_id)
            if found is None or found.due_at <= self.now or found.attempts < attempts:
                return None
            return None if action_id in self.engine._driven else found

        return eventually(parked)

    def wait_ended(self, *action_ids: str) -> None:
        eventually(lambda: {action_id for action_id, _ in self.ended} >= set(action_ids or (ID,)))

    def close(self) -> None:
        self.engine.stop()
        for thread in self.engine._threads:
            thread.join(DEADLINE_S)
        self.store.close()


OpenDesk = Callable[..., Desk]


@pytest.fixture
def open_desk(tmp_path: Path) -> Iterator[OpenDesk]:
    opened: list[Desk] = []

    def open_one(*, start: bool = True, **given: Any) -> Desk:
        """A desk on the test's sidecar, instead of the one before."""
        if opened:
            opened.pop().close()
        opened.append(Desk(tmp_path, **given))
        if start:
            opened[-1].engine.start()
        return opened[-1]

    yield open_one
    for desk in opened:
        desk.close()


@pytest.fixture
def desk(open_desk: OpenDesk) -> Iterator[Desk]:
    """One that is started; every step of the test may be run twice."""
    opened = open_desk()
    yield opened

    assert opened.differences == []


def once(runs: list[Any]) -> list[Any]:
    """Without the repetitions of a step that is run twice."""
    return [run for before, run in zip([None, *runs], runs, strict=False) if run != before]


def insert_raw(store: Store, action_id: str, **given: Any) -> None:
    """A row as a damaged sidecar, or another version, may have it."""
    row = {"kind": "settle", "state": "asked", "payload": "{}", **given}
    values = (action_id, row["kind"], row["state"], row["payload"], 0, NOW, None, NOW, NOW)
    columns = "action_id, kind, state, payload, attempts, due_at, last_error, created_at, updated_at"
    store.write(lambda tx: tx.execute(f"INSERT INTO actions ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values))


# --- steps ---


def test_action_runs_through_its_steps(desk: Desk) -> None:
    """Each step runs after the one before it is stored, the row is gone at the end, and who wants to is told."""
    stored: list[ActionState] = []
    for place, outcome in (((SETTLE, REGISTERED), Next(RELEASED)), ((SETTLE, RELEASED), Done())):

        def step(checkpoint: Checkpoint, outcome: Outcome = outcome) -> Outcome:
            on_disk = desk.look(checkpoint.action_id)
            assert on_disk is not None
            stored.append(on_disk.state)
            return outcome

        desk.steps[place] = step

    desk.begin()
    desk.wait_ended()

    assert once(desk.runs) == [(ID, ASKED), (ID, REGISTERED), (ID, RELEASED)]
    assert once(stored) == [REGISTERED, RELEASED]
    assert desk.look() is None
    assert desk.ended == [(ID, Done())]


def test_payload_goes_from_step_to_step_as_a_restart_would_read_it(desk: Desk) -> None:
    """A step gets what the one before it left, as JSON has it."""
    seen: list[Any] = []
    desk.steps[SETTLE, ASKED] = lambda checkpoint: Next(REGISTERED, {**checkpoint.payload, "parts": (1, 2)})

    def registered(checkpoint: Checkpoint) -> Outcome:
        seen.append(dict(checkpoint.payload))
        return Next(RELEASED)

    desk.steps[SETTLE, REGISTERED] = registered

    desk.begin(payload={"height": 800_000})
    desk.wait_ended()

    assert once(seen) == [{"height": 800_000, "parts": [1, 2]}]


def test_what_an_outcome_writes_is_one_commit_with_its_checkpoint(desk: Desk) -> None:
    """When the write fails the checkpoint does not move either; the failure is on record, the step is run again."""
    fail = [True]

    def write(tx: Transaction) -> None:
        cursors.put_fact(tx, "written", "yes")
        if fail[0]:
            raise ValueError("a secret")

    desk.steps[SETTLE, ASKED] = lambda _: Next(REGISTERED, write=write)
    desk.steps[SETTLE, REGISTERED] = lambda _: Park(wake_after_s=HOUR)
    desk.begin()
    failed = desk.wait_parked(attempts=1)
    before = desk.store.read(lambda sql: cursors.fact(sql, "written"))
    fail[0] = False
    desk.engine.wake(ID)
    eventually(lambda: desk.store.read(lambda sql: cursors.fact(sql, "written")) == "yes")

    assert (failed.state, before) == (ASKED, None)
    assert failed.last_error is not None
    assert failed.last_error.startswith("ValueError at ")
    moved = desk.look()
    assert moved is not None
    assert moved.state is REGISTERED


def test_end_may_begin_another_kind_in_its_own_commit(desk: Desk) -> None:
    """What could not be settled is canceled, and there is no moment in which neither is under way."""
    desk.steps[SETTLE, ASKED] = lambda _: Failed(
        "too late", write=lambda tx: desk.engine.begin(tx, ID, CANCEL, {"why": "too late"})
    )

    desk.begin()
    eventually(lambda: len(desk.ended) == 2)

    assert desk.ended == [(ID, Failed("too late")), (ID, Done())]


def test_rejection_of_the_node_is_judged_by_the_kind(desk: Desk) -> None:
    """A refusal is an answer, not a failure: the kind says what it means."""

    def refused(_: Checkpoint) -> Outcome:
        raise NodeRefused("invoice", 900, "Duplicate label")

    desk.steps[SETTLE, ASKED] = refused
    desk.on_rejection = lambda _, error: Failed(f"it said {error.node_code}")

    desk.begin()
    desk.wait_ended()

    assert desk.ended == [(ID, Failed("it said 900"))]


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (NodeUnknown("the node did not answer"), "the node did not answer"),
        (ValueError("a secret"), "ValueError at unknown place"),
    ],
    ids=["known", "unexpected"],
)
def test_step_that_raises_is_tried_again_later(
    desk: Desk, caplog: pytest.LogCaptureFixture, error: Exception, kept: str
) -> None:
    """Attempts, error and due time are on disk, each wait longer than the one before; nothing secret is told."""
    waits = []

    def fail(_: Checkpoint) -> Outcome:
        raise error

    desk.steps[SETTLE, ASKED] = fail
    with caplog.at_level(logging.INFO):
        desk.begin()
        for attempts in (1, 2, 3):
            parked = desk.wait_parked(attempts=attempts)
            waits.append((parked.attempts, parked.due_at - desk.now))
            desk.now = parked.due_at
            desk.engine.wake(ID)
        parked = desk.wait_parked(attempts=4)

    assert waits == [(attempts, backoff_s(attempts, 0)) for attempts in (1, 2, 3)]
    assert parked.last_error is not None
    assert parked.last_error.startswith(kept.partition(" at ")[0])
    assert "a secret" not in caplog.text + parked.last_error
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "outcome", [Next(RELEASED), Done(), Next(REGISTERED, {"key": object()})], ids=["move", "end", "payload"]
)
def test_outcome_that_cannot_be_stored_is_a_failure(desk: Desk, outcome: Outcome) -> None:
    """A move that the table lacks, or a payload that is no JSON, moves nothing and is on record."""
    desk.steps[SETTLE, ASKED] = lambda _: outcome

    desk.begin()
    parked = desk.wait_parked(attempts=1)

    assert parked.state is ASKED
    assert parked.last_error is not None
    assert parked.last_error.startswith(("IllegalMove at ", "TypeError at "))


def test_step_needs_its_place_in_the_table(open_desk: OpenDesk) -> None:
    """A machine with a step too few or too many is refused when it is made."""
    desk = open_desk(start=False)

    for states in ((), (ASKED, REGISTERED)):
        with pytest.raises(ValueError, match="a step for each of its states"):
            desk.engine.machine(
                CANCEL,
                {state: lambda _: Done() for state in states},
                on_rejection=lambda _, error: Failed(error.message),
                ended=lambda *_: None,
            )


# --- one at a time ---


def test_kinds_exclude_each_other(desk: Desk) -> None:
    """While one kind is under way for an id the other cannot begin; what its caller wrote is undone with it."""
    desk.steps[SETTLE, ASKED] = lambda _: Park(wake_after_s=HOUR)
    desk.begin()

    def also_cancel(tx: Transaction) -> None:
        cursors.put_fact(tx, "canceled", "yes")
        desk.engine.begin(tx, ID, CANCEL, {})

    with pytest.raises(ActionUnderWay, match="too late to cancel, to settle it is under way"):
        desk.store.write(also_cancel)

    assert desk.store.read(lambda sql: cursors.fact(sql, "canceled")) is None
    desk.begin(OTHER, CANCEL)
    desk.wait_ended(OTHER)


def test_beginning_twice_is_beginning_once(desk: Desk) -> None:
    """The same kind again gives the action that is under way, payload and all, and wakes it."""
    ready = threading.Event()
    desk.steps[SETTLE, ASKED] = lambda _: Next(REGISTERED) if ready.is_set() else Park(wake_after_s=HOUR)
    first = desk.begin(payload={"height": 1})
    desk.wait_parked()
    ready.set()
    again = desk.begin(payload={"height": 2})
    desk.wait_ended()

    assert (first.payload, again.payload) == ({"height": 1}, {"height": 1})
    assert desk.ended == [(ID, Done())]


def test_action_of_a_transaction_that_fails_was_never_begun(desk: Desk) -> None:
    """Lock and first checkpoint are the caller's commit or nothing."""

    def fail(tx: Transaction) -> None:
        desk.engine.begin(tx, ID, SETTLE, {})
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 (the one above)
        desk.store.write(fail)
    desk.begin(ID, CANCEL)
    desk.wait_ended()

    assert once(desk.runs) == [(ID, ASKED)]


def test_one_action_is_driven_by_one_thread(desk: Desk) -> None:
    """However often it is woken, no two steps of an action run at the same time."""
    inside, most = [0], [0]
    count = threading.Lock()

    def busy(_: Checkpoint) -> Outcome:
        with count:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        desk.store.read(actions.every_id)
        with count:
            inside[0] -= 1
        return Park(wake_after_s=HOUR)

    desk.steps[SETTLE, ASKED] = busy
    desk.begin()
    wakers = [threading.Thread(target=lambda: [desk.engine.wake(ID) for _ in range(200)]) for _ in range(4)]
    for waker in wakers:
        waker.start()
    for waker in wakers:
        waker.join()
    desk.wait_parked()

    assert most == [1]


def test_wake_during_a_step_is_not_lost(desk: Desk) -> None:
    """What happens while a step looks and sees nothing has it look once more."""
    looked, may_end, happened = threading.Event(), threading.Event(), threading.Event()

    def wait_for_it(_: Checkpoint) -> Outcome:
        found = happened.is_set()
        looked.set()
        assert may_end.wait(DEADLINE_S)
        return Next(REGISTERED) if found else Park(wake_after_s=HOUR)

    desk.steps[SETTLE, ASKED] = wait_for_it
    desk.begin()
    assert looked.wait(DEADLINE_S)
    happened.set()
    desk.engine.wake(ID)
    may_end.set()
    desk.wait_ended()

    assert desk.ended == [(ID, Done())]


def test_steps_run_on_threads_of_the_engine(desk: Desk) -> None:
    """Neither who begins, nor the sidecar's writer, nor who looks what is due waits for a step."""
    names: set[str] = set()

    def note(_: Checkpoint) -> Outcome:
        names.add(threading.current_thread().name)
        return Next(REGISTERED)

    desk.steps[SETTLE, ASKED] = note
    desk.begin()
    desk.wait_ended()

    assert all(name.startswith("paycodes-action-") for name in names)
    assert names


def test_step_that_hangs_holds_up_no_other_action(desk: Desk) -> None:
    """An action that waits for a node that is silent leaves the others to go on."""
    release = threading.Event()

    def hang(checkpoint: Checkpoint) -> Outcome:
        if checkpoint.action_id == ID:
            assert release.wait(DEADLINE_S)
        return Next(REGISTERED)

    desk.steps[SETTLE, ASKED] = hang
    desk.begin(ID)
    others = [hash_of(number) for number in range(2, 30)]
    for other in others:
        desk.begin(other)
    desk.wait_ended(*others)

    assert desk.look(ID) is not None
    release.set()
    desk.wait_ended(ID)


# --- later ---


def test_parked_action_is_run_when_it_is_due_though_no_one_wakes_it(desk: Desk) -> None:
    """Hints may be lost: the stored due time has it run."""
    ready = threading.Event()
    desk.steps[SETTLE, ASKED] = lambda _: Next(REGISTERED) if ready.is_set() else Park(wake_after_s=HOUR)
    desk.begin()
    desk.wait_parked()
    ready.set()
    runs_early = len(desk.runs)
    desk.engine._wake.set()
    desk.begin(OTHER)
    desk.wait_ended(OTHER)
    desk.engine._wake.set()
    early = [run for run in desk.runs[runs_early:] if run[0] == ID]
    desk.now += HOUR
    desk.engine._wake.set()
    desk.wait_ended(ID)

    assert early == []


def test_clock_that_was_set_back_delays_nothing(desk: Desk) -> None:
    """A due time by a clock that was a day ahead does not park an action for a day."""
    ready = threading.Event()
    desk.steps[SETTLE, ASKED] = lambda _: Next(REGISTERED) if ready.is_set() else Park(wake_after_s=HOUR)
    desk.begin()
    desk.wait_parked()
    ready.set()
    desk.now -= 24 * HOUR
    desk.engine._wake.set()
    desk.wait_ended()

    assert desk.ended == [(ID, Done())]


# --- restarts ---


def test_every_checkpoint_is_driven_at_start(open_desk: OpenDesk) -> None:
    """Due or not, begun or half way: each goes on from the state it had."""
    before = open_desk()
    for place in ((SETTLE, ASKED), (SETTLE, REGISTERED)):
        before.steps[place] = lambda _: Park(wake_after_s=HOUR)
    before.begin(hash_of(1))
    before.wait_parked(hash_of(1))
    before.steps[SETTLE, ASKED] = lambda _: Next(REGISTERED, {"kept": True})
    before.begin(hash_of(2))
    before.wait_parked(hash_of(2))
    after = open_desk()
    after.wait_ended(hash_of(1), hash_of(2))

    runs = {action_id: once([run for run in after.runs if run[0] == action_id]) for action_id, _ in after.runs}
    assert runs[hash_of(1)] == [(hash_of(1), state) for state in (ASKED, REGISTERED, RELEASED)]
    assert runs[hash_of(2)] == [(hash_of(2), state) for state in (REGISTERED, RELEASED)]


def test_what_was_begun_before_the_start_waits_for_it(open_desk: OpenDesk) -> None:
    """Nothing runs before the engine is started, and nothing is forgotten."""
    desk = open_desk(start=False)
    desk.begin()
    desk.engine.wake(ID)
    runs = list(desk.runs)
    desk.engine.start()
    desk.wait_ended()

    assert runs == []


def test_one_that_fails_at_start_stops_no_other(open_desk: OpenDesk, caplog: pytest.LogCaptureFixture) -> None:
    """Errors stay with the action they belong to."""
    before = open_desk(start=False)
    for number in range(1, 20):
        before.begin(hash_of(number))
    after = open_desk(start=False)

    def fail_some(checkpoint: Checkpoint) -> Outcome:
        if int(checkpoint.action_id, 16) % 2:
            raise RuntimeError
        return Next(REGISTERED)

    after.steps[SETTLE, ASKED] = fail_some
    with caplog.at_level(logging.CRITICAL):
        after.engine.start()
        after.wait_ended(*(hash_of(number) for number in range(2, 20, 2)))
        failed = [after.wait_parked(hash_of(number), attempts=1) for number in range(1, 20, 2)]

    assert all(checkpoint.state is ASKED for checkpoint in failed)


def test_action_goes_on_once_the_sidecar_can_be_written_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step whose outcome could not be stored is run again, though no one wakes it and it is not due."""
    ready = threading.Event()
    desk.steps[SETTLE, ASKED] = lambda _: Next(REGISTERED) if ready.is_set() else Park(wake_after_s=HOUR)
    desk.begin()
    desk.wait_parked()
    write = desk.store.write
    refused: list[None] = []

    def refuse_first(job: Any) -> Any:
        if not refused:
            refused.append(None)
            raise SidecarUnavailable("the disk is full")
        return write(job)

    monkeypatch.setattr(desk.store, "write", refuse_first)
    ready.set()
    desk.engine.wake(ID)
    eventually(lambda: desk.engine._wake.set() or desk.ended)

    assert once(desk.runs) == [(ID, ASKED), (ID, REGISTERED), (ID, RELEASED)]


# --- rows that cannot be understood ---

UNDECODABLE = [
    ({"payload": "{"}, "its payload is not JSON"),
    ({"payload": "[1]"}, "its payload is not a JSON object"),
    ({"kind": "refund"}, "unknown kind 'refund'"),
    ({"state": "dancing"}, "unknown state 'dancing' of kind settle"),
    ({"kind": "cancel", "state": "released"}, "unknown state 'released' of kind cancel"),
]


@pytest.mark.parametrize(("broken", "reason"), UNDECODABLE, ids=[reason for _, reason in UNDECODABLE])
def test_row_that_cannot_be_understood_is_set_aside(
    open_desk: OpenDesk, broken: dict[str, str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported with its reason, stops no other action, and nothing else may be begun about the same thing."""
    desk = open_desk(start=False)
    insert_raw(desk.store, ID, **broken)
    insert_raw(desk.store, OTHER)
    with caplog.at_level(logging.WARNING):
        desk.engine.start()
        desk.wait_ended(OTHER)
        (problem,) = eventually(lambda: problems(desk.store))

    assert ID in problem
    assert reason in problem
    assert desk.store.read(partial(actions.due, now=NOW + HOUR)) == []
    with pytest.raises(ActionUnderWay, match="cannot be read"):
        desk.begin()
    assert [run for run in desk.runs if run[0] == ID] == []


def test_row_that_was_set_aside_is_tried_at_the_next_start(open_desk: OpenDesk) -> None:
    """What an older version could not read, the newer one that wrote it goes on with."""
    desk = open_desk(start=False)
    insert_raw(desk.store, ID, kind="refund")
    desk.engine.start()
    eventually(lambda: problems(desk.store))
    desk.store.write(lambda tx: tx.execute("UPDATE actions SET kind = 'settle'"))
    again = open_desk(start=False)
    again.steps[SETTLE, ASKED] = lambda _: Park(wake_after_s=HOUR)
    again.engine.start()
    again.wait_parked()

    assert problems(again.store) == []


# --- every step twice ---


def test_step_that_cannot_be_repeated_is_caught(open_desk: OpenDesk) -> None:
    """Run twice, a step whose second run finds its own first one in the way is told."""
    desk = open_desk(run_twice=True)
    made: list[str] = []

    def make(checkpoint: Checkpoint) -> Outcome:
        if checkpoint.action_id in made:
            return Failed("it is there already")
        made.append(checkpoint.action_id)
        return Next(REGISTERED)

    desk.steps[SETTLE, ASKED] = make
    desk.begin()
    desk.wait_ended()

    assert desk.differences == ["settle in asked, run twice, gave Next registered and then Failed"]


def test_step_that_is_refused_the_second_time_is_caught(open_desk: OpenDesk) -> None:
    """A node that refuses what it has just done is a step that cannot be repeated."""
    desk = open_desk(run_twice=True)
    made: list[str] = []

    def make(checkpoint: Checkpoint) -> Outcome:
        if checkpoint.action_id in made:
            raise NodeRefused("invoice", 900, "Duplicate label")
        made.append(checkpoint.action_id)
        return Next(REGISTERED)

    desk.steps[SETTLE, ASKED] = make
    desk.begin()
    desk.wait_ended()

    (difference,) = desk.differences
    assert difference.startswith("settle in asked failed when it was run again: the node refused invoice")


def test_steps_are_run_twice_before_their_checkpoint_moves(open_desk: OpenDesk) -> None:
    """The second run begins after the first one's work, from the same checkpoint; one end is told."""
    desk = open_desk(run_twice=True)
    seen: list[tuple[ActionState, ActionState]] = []

    def registered(checkpoint: Checkpoint) -> Outcome:
        on_disk = desk.look()
        assert on_disk is not None
        seen.append((checkpoint.state, on_disk.state))
        return Next(RELEASED)

    desk.steps[SETTLE, REGISTERED] = registered
    desk.begin()
    desk.wait_ended()

    assert seen == [(REGISTERED, REGISTERED)] * 2
    assert [state for _, state in desk.runs] == [ASKED, ASKED, REGISTERED, REGISTERED, RELEASED, RELEASED]
    assert desk.ended == [(ID, Done())]
    assert desk.differences == []
