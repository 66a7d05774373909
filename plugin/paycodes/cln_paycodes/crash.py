"""Named points at which a test lets the process die, as `kill -9` would.

Each lies between an intent, a call or an outcome. They do nothing unless PAYCODES_CRASH_AT names one of them in
the environment; a test runs the plugin once for every name in `POINTS`. With PAYCODES_CRASH_ONCE, the path of a file
that does not exist yet, only the first process that gets there dies: the next one goes on where it left off. With
PAYCODES_CRASH_SKIP, a number, it lets so many passes by first; with PAYCODES_CRASH_NODE=1 it takes lightningd with it.
"""

from __future__ import annotations

import itertools
import os
import signal

POINTS = frozenset(
    {
        "create:recorded",  # the paycode is in the sidecar, its definition not yet in the node's datastore
        "create:mirrored",  # the definition is in the datastore, the sidecar does not know
        "issue:reserved",  # the index is taken, the node has not been called
        "issue:signed",  # the string of a lazy or held invoice is made, it is not recorded
        "issue:called",  # the node has the invoice, its answer is not recorded
        "issue:issued",  # recorded, the caller has no answer
        "hold:accepted",  # all HTLCs of a held payment are here and that is durable, nothing was sent
        "settle:released",  # the HTLCs of a held payment were let go to the node, its word is not known
        "cancel:failed",  # the HTLCs of a canceled payment were failed, that is not recorded
        "register:marked",  # a lazy or held invoice is about to be told to the node
        "register:called",  # the node has it, its HTLCs still wait for their answer
        "hook:intent",  # the hook's intent is durable, the hook is not answered
        "hook:answered",  # the hook is answered, the node's word is not known
        "paid:asked",  # the node said paid, nothing is recorded
        "paid:recorded",  # state and event are durable, nothing was sent
        "announce:start",  # an event is about to be told inside the node
        "announce:emitted",  # it was told, that is not recorded
        "announce:recorded",  # that it was told is written down
        "reconcile:definitions",  # definitions are taken over and mirrored, nothing else was looked at
        "reconcile:written",  # findings are written, the cursors are not
        "reconcile:walked",  # a walk is through, the cursors are not stored
        "reconcile:reissued",  # the node lists an invoice again, the books do not know
        "reconcile:cursors",  # the cursors of invoices are durable, outgoing payments were not looked at
        "reconcile:payments",  # everything is durable, the caller has no answer
        "action:begun",  # its first checkpoint is durable, no step was run
        "action:stepped",  # a step did its work, its outcome is not stored
        "action:stored",  # a step's outcome is durable, the next step was not run
        "action:ended",  # its end is durable, nobody was told
        "send:start",  # a delivery is about to be sent
        "send:answered",  # the receiver acknowledged, that is not recorded
        "send:recorded",  # the acknowledgement is durable
    }
)

_ARMED = os.environ.get("PAYCODES_CRASH_AT")
if _ARMED is not None and _ARMED not in POINTS:
    raise ValueError(f"PAYCODES_CRASH_AT names no crash point: {_ARMED}")


_passes = itertools.count()
_SKIPPED = int(os.environ.get("PAYCODES_CRASH_SKIP", "0"))


def point(name: str) -> None:
    """Die here when the test says so."""
    if name == _ARMED and next(_passes) >= _SKIPPED and _first():
        if os.environ.get("PAYCODES_CRASH_NODE") == "1":
            os.kill(os.getppid(), signal.SIGKILL)  # before us, or it would see its plugin die and act on it
        os.kill(os.getpid(), signal.SIGKILL)


def _first() -> bool:
    mark = os.environ.get("PAYCODES_CRASH_ONCE")
    if mark is None:
        return True
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
