"""What it takes until the plugin answers, and the memory it needs, beside a pyln plugin that does nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from ..load import load
from ..stage import Stage
from ..suite import Measurement, Round, Row, take_turns
from .issuing import NOOP_PLUGIN
from .reconciling import MANY, memory_mb, peak_mb

CALLS = 1000
CALLERS = 32


def measure(stage: Stage) -> Iterator[Round]:
    paycode = stage.paycode()
    for number in range(stage.rounds):
        seen = take_turns(number, ours=lambda: _ours(stage, paycode), reference=lambda: _noop(stage))
        yield {
            name: (ours, reference)
            for name, ours, reference in zip(_NAMES, seen["ours"], seen["reference"], strict=True)
        }


def _ours(stage: Stage, paycode: str) -> tuple[float, float, float]:
    stage.without_plugin()
    began = time.monotonic()
    stage.merchant.start_plugin()
    stage.merchant.call("listpaycodes", paycode)
    answered_s = time.monotonic() - began
    stage.resume()
    pid = stage.merchant.plugin_pid()
    resident_mb = memory_mb(pid, "VmRSS")
    _forget_peak(pid)
    load(stage.paycode_invoices(paycode, CALLS, CALLERS))
    return answered_s, resident_mb, peak_mb(pid)


def _noop(stage: Stage) -> tuple[float, float, float]:
    began = time.monotonic()
    stage.merchant.call("plugin", "start", str(NOOP_PLUGIN))
    pid = stage.merchant.call("bench-noop")["pid"]
    answered_s = time.monotonic() - began
    resident_mb = memory_mb(pid, "VmRSS")
    _forget_peak(pid)
    load(stage.job((("bench-noop", {}) for _ in range(CALLS)), CALLERS))
    peak = peak_mb(pid)
    stage.merchant.call("plugin", "stop", str(NOOP_PLUGIN))
    return answered_s, resident_mb, peak


def _forget_peak(pid: int) -> None:
    """The largest resident size counts from now on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


_NAMES = ("start", "memory-rest", "memory-load")
_REFERENCE = "a pyln plugin that does nothing"

MEASUREMENTS = (
    Measurement(
        rows=(
            Row(
                name="start",
                what=f"start to first answer, {MANY.invoices:,} invoices in the sidecar",
                reference=_REFERENCE,
                unit="s",
            ),
            Row(name="memory-rest", what="resident memory at rest, after that", reference=_REFERENCE, unit="MB"),
            Row(
                name="memory-load",
                what=f"largest resident memory, {CALLERS} callers",
                reference=_REFERENCE,
                unit="MB",
            ),
        ),
        rounds=measure,
        setting=MANY,
    ),
)
