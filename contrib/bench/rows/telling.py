"""From the node's word that an invoice is paid to the answer of a webhook's receiver, beside a script that posts.

The script runs in both cases, to write down when the node told of the payment; it posts in its own turns alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from network.daemon import poll_until

from ..load import load, quantile
from ..receiver import receiving
from ..stage import Stage
from ..suite import Measurement, Round, Row, take_turns

NOTIFY_PLUGIN = Path(__file__).resolve().parents[1] / "notify_plugin.py"

COUNT = 100
#: Payers at a time: each payment is told alone, most of the time.
PAYERS = 2


def measure(stage: Stage) -> Iterator[Round]:
    paycode = stage.paycode()
    stage.merchant.call("plugin", "start", str(NOTIFY_PLUGIN))
    with tempfile.NamedTemporaryFile("r") as file, receiving(file.name) as url:

        def ours() -> list[float]:
            endpoint = stage.merchant.call("webhook-add", url)["endpoint"]
            seen = _told(stage, paycode, Path(file.name))
            stage.merchant.call("webhook-remove", endpoint)
            return seen

        def reference() -> list[float]:
            stage.merchant.call("bench-post", url)
            seen = _told(stage, paycode, Path(file.name))
            stage.merchant.call("bench-post", "")
            return seen

        for number in range(stage.rounds):
            seen = take_turns(number, ours=ours, reference=reference)
            yield {
                name: (quantile(seen["ours"], share) * 1000, quantile(seen["reference"], share) * 1000)
                for name, share in (("webhook-p50", 0.5), ("webhook-p99", 0.99))
            }
    stage.merchant.call("plugin", "stop", str(NOTIFY_PLUGIN))


def _told(stage: Stage, paycode: str, acknowledged: Path) -> list[float]:
    """Seconds from told to acknowledged, of each payment."""
    told = stage.merchant.network_dir / "told.txt"
    before = set(_times(acknowledged))
    paid = len(load(stage.payments(stage.paycode_strings(paycode, COUNT), PAYERS)).times)
    poll_until(lambda: len(_times(acknowledged)) >= len(before) + paid, 30, "not every payment was told")
    poll_until(lambda: _times(acknowledged).keys() <= _times(told).keys(), 30, "not every payment was noted")
    began = _times(told)
    return [at - began[label] for label, at in _times(acknowledged).items() if label not in before]


def _times(file: Path) -> dict[str, float]:
    """The first of each label."""
    times: dict[str, float] = {}
    lines = file.read_text().splitlines() if file.exists() else []
    for label, at in (line.split() for line in lines if line.count(" ") == 1):
        times.setdefault(label, float(at))
    return times


_WHAT = "told of a payment to webhook acknowledged"
_REFERENCE = "a script that posts the notification"

MEASUREMENTS = (
    Measurement(
        rows=(
            Row(name="webhook-p50", what=f"{_WHAT}, p50", reference=_REFERENCE, unit="ms"),
            Row(name="webhook-p99", what=f"{_WHAT}, p99", reference=_REFERENCE, unit="ms"),
        ),
        rounds=measure,
        grows=True,
    ),
)
