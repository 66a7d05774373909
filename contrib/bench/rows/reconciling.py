"""What `reconcile` costs, beside a bare walk over the node's invoices, and what others notice of it."""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from cln_paycodes.app import Services
from cln_paycodes.node.connection import Connection
from cln_paycodes.node.lightningd import Lightningd
from cln_paycodes.rpc import PaycodesPlugin
from cln_paycodes.rpc import _settings as settings_of
from network import Node

from ..load import quantile
from ..stage import Stage
from ..suite import Goal, Measurement, Round, Row, Setting, take_turns

#: What a node with a past looks like; nothing but the measurement starts a run.
MANY = Setting(options=(("paycodes_reconcile_interval", 86_400),), invoices=50_000)

IDLE_RUNS = 20
WALK_PAGE = 1000
PROBE_PAUSE_S = 0.002
REST_S = 5
IDLE_CALLS = (("invoices", "created"), ("invoices", "updated"), ("invoices", "deleted"), ("sendpays", "updated"))


def measure_full(stage: Stage) -> Iterator[Round]:
    merchant = stage.merchant
    stage.without_plugin()
    connection = Connection(str(merchant.rpc_path))
    for _ in range(stage.rounds):
        at_rest = [seconds for _, seconds in _probed(merchant, lambda: time.sleep(REST_S))]
        walk_s = walk(connection)
        _lose_sidecar(merchant)
        # What a start is followed by is the rebuild; asking for a run waits for it.
        stage.with_plugin()
        rebuild_s = _rebuild_duration(merchant)
        stage.without_plugin()
        # Once more for the probes: neither the walk nor the rebuild beside it has to share the machine with them.
        _lose_sidecar(merchant)
        probes = _probed(merchant, stage.with_plugin)
        run_began = time.monotonic() - _rebuild_duration(merchant)
        busy = [seconds for began, seconds in probes if began >= run_began]
        again = merchant.call("reconcile", full=True)
        if not again["agree"]:
            raise SystemExit(f"books and node do not agree: {again}")
        memory_mb = peak_mb(merchant.plugin_pid())
        stage.without_plugin()
        yield {
            "rebuild": (rebuild_s, walk_s),
            "reconcile-full": (again["duration_ms"] / 1000, walk_s),
            "reconcile-getinfo": (quantile(busy, 0.99) * 1000, quantile(at_rest, 0.99) * 1000),
            "reconcile-memory": (memory_mb, None),
        }
    connection.close()
    stage.with_plugin()


def measure_idle(stage: Stage) -> Iterator[Round]:
    merchant = stage.merchant
    merchant.call("reconcile")
    connection = Connection(str(merchant.rpc_path))
    for number in range(stage.rounds):
        seen = take_turns(
            number,
            ours=lambda: _median_ms(lambda: connection.call("reconcile", {}, timeout_s=60)),
            reference=lambda: _median_ms(lambda: _idle_calls(connection)),
        )
        yield {"reconcile-idle": (seen["ours"], seen["reference"])}
    connection.close()


def walk(connection: Connection) -> float:
    """Seconds of the bare paginated walk: every row fetched and decoded, nothing done with it."""
    began, start = time.monotonic(), 1
    while True:
        page = connection.call("listinvoices", {"index": "created", "start": start, "limit": WALK_PAGE}, timeout_s=60)
        if not page["invoices"]:
            return time.monotonic() - began
        start = page["invoices"][-1]["created_index"] + 1


def _lose_sidecar(merchant: Node) -> None:
    for path in merchant.network_dir.glob("paycodes.sqlite3*"):
        path.unlink()


def _rebuild_duration(merchant: Node) -> float:
    """Seconds of the run at start, from the plugin's log."""
    return int(re.findall(r"reconcile found \d+ adopted.* in (\d+) ms", merchant.log())[-1]) / 1000


def _idle_calls(connection: Connection) -> None:
    for subsystem, index in IDLE_CALLS:
        params = {"subsystem": subsystem, "indexname": index, "nextvalue": 0}
        connection.call("wait", params, timeout_s=60)


def _timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _median_ms(action: Callable[[], object]) -> float:
    return statistics.median(_timed(action) for _ in range(IDLE_RUNS)) * 1000


def _probed(merchant: Node, action: Callable[[], object]) -> list[tuple[float, float]]:
    """When each `getinfo` was called, on a socket of its own and all the time while something else happens, and how
    many seconds it took.
    """
    connection = Connection(str(merchant.rpc_path))
    ended = threading.Event()
    times: list[tuple[float, float]] = []

    def probe() -> None:
        while not ended.wait(PROBE_PAUSE_S):
            times.append((time.monotonic(), _timed(lambda: connection.call("getinfo", {}, timeout_s=60))))

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        action()
    finally:
        ended.set()
        thread.join()
        connection.close()
    return times


def peak_mb(pid: int) -> float:
    """The largest resident size of a process so far."""
    return memory_mb(pid, "VmHWM")


def memory_mb(pid: int, name: str) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024


class _CountingNode(Lightningd):
    calls = 0

    def _call(self, method: str, **params: Any) -> Any:
        self.calls += 1
        return super()._call(method, **params)


def measure_calls(stage: Stage) -> Iterator[Round]:
    """The services in this process, on the sidecar that the plugin has left."""
    merchant = stage.merchant
    stage.without_plugin()
    counted = _CountingNode(str(merchant.rpc_path))
    options = {name: option.default for name, option in PaycodesPlugin().options.items()}
    settings = settings_of(options, merchant.network_dir)
    services = Services(settings, counted, lambda _topic, _content: None, lambda _job, *_arguments: None)
    services.reconciler.run()
    for _ in range(stage.rounds):
        counted.calls = 0
        services.reconciler.run()
        yield {"reconcile-calls": (counted.calls, len(IDLE_CALLS))}
    services.stop()
    stage.with_plugin()


def _many(name: str, what: str, reference: str | None, unit: str, goal: Goal | None = None) -> Row:
    return Row(name=name, what=f"{what}, {MANY.invoices:,} invoices", reference=reference, unit=unit, goal=goal)


_WALK = "bare walk of listinvoices"
_FULL = (
    _many("rebuild", "rebuild of a lost sidecar", _WALK, "s", Goal("<=", 1.5)),
    _many("reconcile-full", "full reconcile, nothing changed", _WALK, "s"),
    _many("reconcile-getinfo", "getinfo during a rebuild, p99", "at rest", "ms", Goal("<=", 3)),
    _many("reconcile-memory", "largest resident memory in a full reconcile", None, "MB", Goal("<=", 150, of="ours")),
)
_IDLE = Row(
    name="reconcile-idle",
    what="idle reconcile",
    reference="the calls to the node that it takes, alone",
    unit="ms",
)
_CALLS = Row(
    name="reconcile-calls",
    what="calls to the node in an idle reconcile",
    reference="indexes that are looked at",
    unit="calls",
)

MEASUREMENTS = (
    Measurement(rows=(_IDLE,), rounds=measure_idle, grows=True),
    Measurement(rows=(_CALLS,), rounds=measure_calls),
    Measurement(rows=_FULL, rounds=measure_full, setting=MANY),
)
