"""What a flood of callbacks from one address, with the default limit, costs everyone else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

from .. import REPOSITORY
from ..load import start_load
from ..stage import Stage
from ..suite import Measurement, NotAvailable, Round, Row, Setting, take_turns
from .callbacks import callbacks, resolve

#: The plugin with a clock around its hook.
TIMED_PLUGIN = REPOSITORY / "contrib" / "bench" / "timed_plugin.py"
TIMED = Setting(plugin=TIMED_PLUGIN, options=(("paycodes_listen", "127.0.0.1:0"),))

CONNECTIONS = 100
#: More, and longer, than others are measured.
CALLBACKS, FLOOD_S = 200_000, 120.0
PAYMENTS = 20


def measure(stage: Stage) -> Iterator[Round]:
    paycode = stage.paycode()
    callback, _ = resolve(stage, paycode)
    flood = replace(callbacks(callback, CALLBACKS, CONNECTIONS, wanted="{"), limit_s=FLOOD_S)

    def ours() -> dict[str, float]:
        process = start_load(flood)
        try:
            seen = others(stage, paycode)
            if process.poll() is not None:
                raise NotAvailable("the flood was over before the measurements were")
        finally:
            process.kill()
            process.wait()
        return seen

    for number in range(stage.rounds):
        seen = take_turns(number, ours=ours, reference=lambda: others(stage, paycode))
        yield {f"flood-{name}": (seen["ours"][name], seen["reference"][name]) for name in seen["ours"]}


def others(stage: Stage, paycode: str) -> dict[str, float]:
    """Median milliseconds that everyone else waits for."""
    hooks = stage.merchant.network_dir / "hooks.txt"
    hooks.unlink(missing_ok=True)
    getinfo: list[float] = []
    payments: list[float] = []
    for bolt11 in stage.paycode_strings(paycode, PAYMENTS):
        began = time.perf_counter()
        stage.merchant.call("getinfo")
        getinfo.append(time.perf_counter() - began)
        began = time.perf_counter()
        stage.network.pay(bolt11)
        payments.append(time.perf_counter() - began)
    times = {"getinfo": getinfo, "hook": [float(line) for line in hooks.read_text().split()], "payment": payments}
    return {name: statistics.median(each) * 1000 for name, each in times.items()}


def _row(name: str, what: str) -> Row:
    return Row(name=f"flood-{name}", what=f"{what} during a flood of callbacks", reference="without it", unit="ms")


MEASUREMENTS = (
    Measurement(
        rows=(_row("getinfo", "getinfo"), _row("hook", "invoice_payment hook"), _row("payment", "payment")),
        rounds=measure,
        setting=TIMED,
    ),
)
