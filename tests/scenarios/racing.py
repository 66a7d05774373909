"""Duplicate payments: ways in which more arrives for one invoice than its payment needs, all at about the same time.

A payer's wallet that retries too early, or two people who scan the same code, is enough for it. Each shape here sends,
and returns what is under way; whoever calls it says what must come of it. They want a recorder beside paycodes that
takes its time in invoice_payment (RECORDER_SLOW_MS), so that a duplicate arrives in time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from network.daemon import poll_until
from recording import Recorded

#: What each shape pays.
AMOUNT_MSAT = 90_000

Sent = list[Future[dict[str, Any]]]


@dataclass(frozen=True)
class Race:
    recorded: Recorded
    #: ``bolt11``, ``label`` and ``payment_hash`` of an invoice over AMOUNT_MSAT.
    invoice: dict[str, Any]

    def send(self, *parts: int, **terms: Any) -> Future[dict[str, Any]]:
        return self.recorded.network.send(self.invoice["bolt11"], list(parts), **terms)

    def wait_for_parts(self, count: int) -> None:
        """Until the node lists that many HTLCs of the payment."""
        node, wanted = self.recorded.node, self.invoice["payment_hash"]

        def listed() -> int:
            channels = node.call("listpeerchannels")["channels"]
            return sum(htlc["payment_hash"] == wanted for channel in channels for htlc in channel["htlcs"])

        poll_until(lambda: listed() >= count, 30.0, f"{count} HTLCs do not arrive")

    def wait_for_hook(self, times: int = 1) -> None:
        """Until invoice_payment has been asked about it, and asked again."""
        self.recorded.wait_for("hook", "invoice_payment", self.invoice["label"], times)

    def late(self, first: Sent, *late: Future[dict[str, Any]]) -> Sent:
        """The hook has been told to hold: it is released once what came late has ended."""
        wait(late, timeout=60)
        self.recorded.node.call("recorder-release", hook="invoice_payment", answer={"result": "continue"})
        return [*first, *late]


def twins(race: Race) -> Sent:
    """Two payments in one part each, sent together."""
    return [race.send(AMOUNT_MSAT), race.send(AMOUNT_MSAT)]


def twins_in_parts(race: Race) -> Sent:
    """Two payments in three parts each, which mingle on their way."""
    part = AMOUNT_MSAT // 3
    return [race.send(part, part, part), race.send(part, part, part)]


def unequal_twins(race: Race) -> Sent:
    """One payment in one part and one in four."""
    part = AMOUNT_MSAT // 9
    return [race.send(AMOUNT_MSAT), race.send(part, part, part, AMOUNT_MSAT - 3 * part)]


def latecomer(race: Race) -> Sent:
    """A second payment that begins once the first is complete."""
    race.recorded.behave("invoice_payment", "hold")
    first = race.send(AMOUNT_MSAT)
    race.wait_for_hook()
    return race.late([first], race.send(AMOUNT_MSAT))


def stray_part(race: Race) -> Sent:
    """A part that arrives when the payment is complete already."""
    race.recorded.behave("invoice_payment", "hold")
    first = race.send(AMOUNT_MSAT // 2, AMOUNT_MSAT // 2)
    race.wait_for_hook()
    return race.late([first], race.send(AMOUNT_MSAT // 3))


def generous_twins(race: Race) -> Sent:
    """Two payments that give half as much again: each says so in its total."""
    half = AMOUNT_MSAT * 3 // 4
    return [race.send(half, half, total_msat=2 * half), race.send(half, half, total_msat=2 * half)]


def overshooting_twins(race: Race) -> Sent:
    """Two payments whose last part is larger than it need be."""
    part = AMOUNT_MSAT * 2 // 3
    return [race.send(part, part), race.send(part, part)]


def crowd(race: Race) -> Sent:
    """Eight payments at once."""
    return [race.send(AMOUNT_MSAT) for _ in range(8)]


def disagreeing_twins(race: Race) -> Sent:
    """Two payments, each of them in order, that say different totals."""
    return [race.send(AMOUNT_MSAT), race.send(AMOUNT_MSAT + 1000, total_msat=AMOUNT_MSAT + 1000)]


def killed_with_twins(race: Race) -> Sent:
    """Two payments are there, one of them in invoice_payment at the least, when the node dies and comes back."""
    sent = twins(race)
    race.wait_for_hook()
    return _restarted(race, sent)


def killed_before_latecomer(race: Race) -> Sent:
    """The node dies while the payment is in invoice_payment; the second one arrives during the replay of the first."""
    race.recorded.behave("invoice_payment", "hold")
    first = race.send(AMOUNT_MSAT // 2, AMOUNT_MSAT // 2)
    race.wait_for_hook()
    race.recorded.node.kill()
    race.recorded.behave_from_the_start("invoice_payment", "hold")
    race.recorded.node.start()
    race.wait_for_hook(2)
    return race.late([first], race.send(AMOUNT_MSAT), race.send(AMOUNT_MSAT // 2))


def killed_half_way(race: Race) -> Sent:
    """A part of one payment waits for the rest when the node dies; then two payments are sent."""
    part = AMOUNT_MSAT // 3
    first = race.send(part)
    race.wait_for_parts(1)
    return [*_restarted(race, [first]), race.send(part, part, part), race.send(part, part, part)]


def plugin_killed_before_latecomer(race: Race) -> Sent:
    """A new plugin process knows nothing of the payment that is in invoice_payment when the second one arrives."""
    node = race.recorded.node
    race.recorded.behave("invoice_payment", "hold")
    first = race.send(AMOUNT_MSAT // 2, AMOUNT_MSAT // 2)
    race.wait_for_hook()
    node.kill_plugin()
    node.start_plugin()
    return race.late([first], race.send(AMOUNT_MSAT), race.send(AMOUNT_MSAT // 2))


def _restarted(race: Race, sent: Sent) -> Sent:
    race.recorded.node.kill()
    race.recorded.node.start()
    return sent


Shape = Callable[[Race], Sent]

#: The node stays up meanwhile.
LIVE: tuple[Shape, ...] = (
    twins,
    twins_in_parts,
    unequal_twins,
    latecomer,
    stray_part,
    generous_twins,
    overshooting_twins,
    crowd,
    disagreeing_twins,
)
#: The node, or the plugin, is killed and started in the middle.
KILLED: tuple[Shape, ...] = (
    killed_with_twins,
    killed_before_latecomer,
    killed_half_way,
    plugin_killed_before_latecomer,
)
