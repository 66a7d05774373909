"""The engine that drives actions: steps are run one after the other, each outcome on disk before the next step.

What may happen at any moment, and what is done for it:

    dies before a step's outcome is stored    the step is run again, from the checkpoint it had
    dies after that                           the next step is run: every checkpoint is driven at start
    a step raises                             attempt, error and a later due time are stored
    the node refuses                          the kind's `on_rejection` says what that means
    a hint is lost                            the stored due time is the truth, and is looked at
    the sidecar cannot be written             nothing moved: driven again a little later
    a row cannot be understood                it is set aside and reported, and stops nothing else

One action is driven by one thread at a time; who wakes it meanwhile has it driven once more afterwards.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from .. import crash
from ..core.actions import (
    FIRST,
    MACHINES,
    ActionKind,
    ActionState,
    Checkpoint,
    Done,
    Failed,
    Next,
    Outcome,
    Park,
    Payload,
    advance,
    agree,
)
from ..errors import ActionUnderWay, NodeRefused, NodeUnknown, PaycodesError, SidecarUnavailable, describe
from ..store import actions
from ..store.store import Sql, Store
from ..store.writer import Transaction

log = logging.getLogger(__name__)

#: Actions that are driven at the same time: a step that waits for the node holds up few others.
_THREADS = 4

#: Seconds after which it is looked what is due, whatever happens: the clock may have been set, or the sidecar could not
#: be used. One look is two questions that an index answers.
_SLEEP_S = 5

#: A test's switch: each step is run twice, and both runs have to agree.
_RUN_TWICE = os.environ.get("PAYCODES_RUN_TWICE") == "1"

Step = Callable[[Checkpoint], Outcome]


@dataclass(frozen=True, slots=True)
class _Machine:
    steps: Mapping[ActionState, Step]
    on_rejection: Callable[[Checkpoint, NodeRefused], Outcome]
    ended: Callable[[Checkpoint, Done | Failed], None]


class Engine:
    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], int],
        chance: Callable[[], float],
        run_twice: bool = _RUN_TWICE,
        differ: Callable[[str], None] | None = None,
    ) -> None:
        """With `run_twice` every step is run twice, and `differ` is called when the runs do not agree."""
        self._store = store
        self._clock = clock
        self._chance = chance
        self._run_twice = run_twice
        self._differ = differ or _end_process
        self._machines: dict[ActionKind, _Machine] = {}
        self._threads: list[threading.Thread] = []
        self._to_drive: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        #: ids that are being driven or about to be, each with whether it was woken meanwhile
        self._driven: dict[str, bool] = {}
        #: ids whose last drive could not be stored
        self._unstored: set[str] = set()
        #: the clock at the last look
        self._latest: int | None = None
        self._running = False

    def machine(
        self,
        kind: ActionKind,
        steps: Mapping[ActionState, Step],
        *,
        on_rejection: Callable[[Checkpoint, NodeRefused], Outcome],
        ended: Callable[[Checkpoint, Done | Failed], None],
    ) -> None:
        """Say how a kind is done, before `start`: a step for each of its states.

        `on_rejection` gives the outcome of a step that the node refused. `ended` is called after the commit that ends
        an action; a crash may lose that call.
        """
        if set(steps) != set(MACHINES[kind]):
            raise ValueError(f"an action to {kind} needs a step for each of its states and no other")
        self._machines[kind] = _Machine(steps, on_rejection, ended)

    def start(self) -> None:
        """Drive every checkpoint there is, and from now on each when it is due."""
        self._running = True
        self._threads = [
            threading.Thread(target=self._work, name=f"paycodes-action-{number}", daemon=True)
            for number in range(_THREADS)
        ]
        self._threads.append(threading.Thread(target=self._watch, name="paycodes-actions", daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no further step; one that is under way is left to itself, which is no worse than a crash."""
        self._running = False
        self._wake.set()
        for _ in range(_THREADS):
            self._to_drive.put(None)

    def begin(self, tx: Transaction, action_id: str, kind: ActionKind, payload: Payload) -> Checkpoint:
        """Begin an action in the caller's transaction, and drive it once that is on disk.

        When the same kind is under way already, it is woken and its checkpoint is the result. Raises ActionUnderWay
        when another kind is.
        """
        known = _under_way(tx, action_id)
        if known is not None and known.kind is not kind:
            raise ActionUnderWay(f"{action_id}: it is too late to {kind}, to {known.kind} it is under way")
        if known is None:
            now = self._clock()
            known = Checkpoint(
                action_id=action_id,
                kind=kind,
                state=FIRST[kind],
                payload=payload,
                due_at=now,
                created_at=now,
                updated_at=now,
            )
            actions.insert(tx, known)
        tx.after_commit(partial(self._begun, action_id))
        return known

    def _begun(self, action_id: str) -> None:
        crash.point("action:begun")
        self.wake(action_id)

    def wake(self, action_id: str) -> None:
        """Something happened that its step may wait for: drive it now. Any thread may call this, and often."""
        self._hand_over([action_id], woken=True)

    def _hand_over(self, action_ids: list[str], *, woken: bool) -> None:
        """Have each of them driven; those that are being driven once more afterwards, if they were woken."""
        if not self._running:
            return  # all are driven at start
        with self._lock:
            for action_id in action_ids:
                if action_id not in self._driven:
                    self._driven[action_id] = False
                    self._to_drive.put(action_id)
                elif woken:
                    self._driven[action_id] = True

    def under_way(self, action_id: str) -> Checkpoint | None:
        """What is being done about it; ActionUnderWay when nobody can say."""
        return self._store.read(partial(_under_way, action_id=action_id))

    # --- what is due ---

    def _watch(self) -> None:
        while self._running:
            self._wake.clear()
            try:
                self._wake.wait(self._drive_due())
            except Exception as e:
                log.warning("actions wait: %s", _explain(e))
                self._wake.wait(_SLEEP_S)

    def _drive_due(self) -> float:
        """Drive what is due; the seconds until something may be again.

        Everything is due at start, and when the clock was set back: due times by it mean nothing.
        """
        now = self._clock()
        if self._latest is None or now < self._latest - _SLEEP_S:
            due = self._store.read(actions.every_id)
        else:
            due = self._store.read(partial(actions.due, now=now))
        self._latest = now
        with self._lock:
            unstored, self._unstored = self._unstored, set()
        self._hand_over([*unstored, *due], woken=False)
        next_at = self._store.read(partial(actions.next_due_at, now=now))
        return _SLEEP_S if next_at is None else min(_SLEEP_S, next_at - now)

    # --- driving one ---

    def _work(self) -> None:
        while (action_id := self._to_drive.get()) is not None:
            if not self._running:
                return
            self._drive(action_id)

    def _drive(self, action_id: str) -> None:
        """Run steps until the action is parked or over, and again when it was woken meanwhile."""
        while True:
            stored = self._advance_far(action_id)
            with self._lock:
                if not stored:
                    self._unstored.add(action_id)
                if not (stored and self._driven[action_id]):
                    del self._driven[action_id]
                    break
                self._driven[action_id] = False
        if stored:
            self._wake.set()  # to learn when it is due; what could not be stored is not hurried

    def _advance_far(self, action_id: str) -> bool:
        """Run steps until there is none to run; False when the sidecar did not let it."""
        try:
            while self._running and self._advance(action_id):
                pass
        except Exception as e:
            log.warning("action %s goes on later: %s", action_id, _explain(e))
            return False
        return True

    def _advance(self, action_id: str) -> bool:
        """Run one step and store its outcome; True when the next one is to be run."""
        try:
            checkpoint = self._store.read(partial(actions.get, action_id=action_id))
        except actions.Undecodable as e:
            self._set_aside(action_id, str(e))
            return False
        if checkpoint is None:
            return False
        outcome = self._outcome(checkpoint)
        crash.point("action:stepped")
        try:
            self._store.write(partial(self._record, checkpoint=checkpoint, outcome=outcome))
        except SidecarUnavailable:
            raise
        except Exception as e:
            failure = self._failure(checkpoint, e)
            self._store.write(partial(self._record, checkpoint=checkpoint, outcome=failure))
            return False
        if isinstance(outcome, Done | Failed):
            crash.point("action:ended")
            self._tell(checkpoint, outcome)
            return False
        crash.point("action:stored")
        return isinstance(outcome, Next)

    def _outcome(self, checkpoint: Checkpoint) -> Outcome:
        try:
            machine = self._machines[checkpoint.kind]
            try:
                step = machine.steps[checkpoint.state]
                return self._step_twice(step, checkpoint) if self._run_twice else step(checkpoint)
            except NodeRefused as e:
                return machine.on_rejection(checkpoint, e)
        except Exception as e:
            return self._failure(checkpoint, e)

    def _step_twice(self, step: Step, checkpoint: Checkpoint) -> Outcome:
        """As after a crash that lost the first run's outcome: what counts is the second one's."""
        first = step(checkpoint)
        try:
            second = step(checkpoint)
        except (NodeUnknown, SidecarUnavailable):
            raise  # no word on whether it would have agreed
        except Exception as e:
            self._differ(f"{checkpoint.kind} in {checkpoint.state} failed when it was run again: {_explain(e)}")
            raise
        if not agree(first, second):
            outcomes = f"{_name(first)} and then {_name(second)}"
            self._differ(f"{checkpoint.kind} in {checkpoint.state}, run twice, gave {outcomes}")
        return second

    def _record(self, tx: Transaction, checkpoint: Checkpoint, outcome: Outcome) -> None:
        after = advance(checkpoint, outcome, now=self._clock(), chance=self._chance())
        if after is None:
            actions.delete(tx, checkpoint.action_id)
        else:
            actions.update(tx, after)
        if outcome.write is not None:
            outcome.write(tx)  # the id is free by now: an end may begin another kind

    def _failure(self, checkpoint: Checkpoint, error: Exception) -> Park:
        """The outcome of a step that raised: the backoff says when it is run again."""
        why = _explain(error)
        level = logging.INFO if isinstance(error, PaycodesError) else logging.ERROR
        log.log(level, "%s %s in %s is tried again: %s", checkpoint.kind, checkpoint.action_id, checkpoint.state, why)
        return Park(error=why)

    def _tell(self, checkpoint: Checkpoint, outcome: Done | Failed) -> None:
        try:
            self._machines[checkpoint.kind].ended(checkpoint, outcome)
        except Exception as e:
            log.error("what follows %s of %s failed: %s", checkpoint.kind, checkpoint.action_id, _explain(e))

    def _set_aside(self, action_id: str, reason: str) -> None:
        log.warning("action %s was set aside: %s", action_id, reason)
        self._store.write(lambda tx: actions.set_aside(tx, action_id, reason))


def problems(store: Store) -> list[str]:
    """What was set aside, for a person."""
    return [
        f"action {action_id[:80]} was set aside, nothing is done about it: {reason}; a newer version may have begun it:"
        " upgrade, else finish it by hand"
        for action_id, reason in store.read(actions.every_set_aside).items()
    ]


def _under_way(sql: Sql, action_id: str) -> Checkpoint | None:
    try:
        return actions.get(sql, action_id)
    except actions.Undecodable as e:
        raise ActionUnderWay(f"{action_id}: something is under way that cannot be read: {e}") from e


def _explain(error: Exception) -> str:
    return error.message if isinstance(error, PaycodesError) else describe(error)


def _name(outcome: Outcome) -> str:
    """Without payload and error, which nobody has judged fit for a log."""
    state = outcome.state if isinstance(outcome, Next | Park) else None
    return type(outcome).__name__ + ("" if state is None else f" {state}")


def _end_process(difference: str) -> None:
    """A test that relies on it fails, whatever else it looks at."""
    log.error("a step cannot be repeated: %s", difference)
    os._exit(70)
