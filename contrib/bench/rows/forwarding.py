"""Payments through the node with the plugin, to a node behind it, beside the same while the plugin is away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from network import Node, NotSupported

from ..load import Job
from ..pace import AT_ONCE, CALLERS, ONE_BY_ONE, Turn, rounds, turn
from ..stage import DESCRIPTION, PAID_MSAT, Stage, fresh, rpc
from ..suite import Goal, Measurement, NotAvailable, Round, Row

#: Blocks that the node in the middle may want, and to spare for the last.
_MIDDLE_BLOCKS, _SPARE_BLOCKS = 50, 10


class Line:
    """Three nodes in a row; the route is given, so that finding one is not measured."""

    def __init__(self, stage: Stage) -> None:
        payer = stage.network.payer
        try:
            self._last = stage.network.extend()
        except NotSupported as error:
            raise NotAvailable(str(error)) from error
        assert payer is not None
        self._payer = payer
        self._hops = [_hop(payer, stage.merchant), _hop(stage.merchant, self._last)]
        stage.merchant.call("setchannel", id=self._hops[1]["id"], feebase=0, feeppm=0)

    def forwards(self, count: int, clients: int) -> Job:
        return Job(str(self._payer.rpc_path), [self._forward() for _ in range(count)], clients, '"payment_hash"')

    def _forward(self) -> list[str]:
        label = fresh("forward")
        invoice = self._last.call("invoice", amount_msat=PAID_MSAT, label=label, description=DESCRIPTION)
        last_blocks = 18 + _SPARE_BLOCKS
        delays = (last_blocks + _MIDDLE_BLOCKS, last_blocks)
        route = [
            hop | {"amount_msat": PAID_MSAT, "delay": delay} for hop, delay in zip(self._hops, delays, strict=True)
        ]
        named = {name: invoice[name] for name in ("payment_hash", "payment_secret")}
        return [
            rpc("sendpay", {"route": route, **named}),
            rpc("waitsendpay", {"payment_hash": invoice["payment_hash"], "timeout": 60}),
        ]


def _hop(source: Node, target: Node) -> dict[str, Any]:
    node_id = target.call("getinfo")["id"]
    channel = source.call("listpeerchannels", node_id)["channels"][0]
    return {"id": node_id, "channel": channel["short_channel_id"]}


def measure(stage: Stage) -> Iterator[Round]:
    line = Line(stage)

    def forward() -> Turn:
        return turn(line.forwards(ONE_BY_ONE, 1), line.forwards(AT_ONCE, CALLERS))

    def ours() -> Turn:
        stage.with_plugin()
        return forward()

    def reference() -> Turn:
        stage.without_plugin()
        return forward()

    forward()  # the first payments over a channel are slower
    yield from rounds(stage.rounds, "forward", ours, reference)
    stage.with_plugin()


_LATENCY = Row(
    name="forward-1",
    what="forward through the node, sent to settled",
    reference="without the plugin",
    unit="ms",
    goal=Goal("<=", 1.03),
)
_RATE = Row(
    name="forward-32",
    what=f"forwards, {CALLERS} at once",
    reference="without the plugin",
    unit="/s",
    goal=Goal(">=", 0.97),
)

MEASUREMENTS = (Measurement(rows=(_LATENCY, _RATE), rounds=measure),)
