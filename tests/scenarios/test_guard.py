"""Protection against duplicate payments: a node with paycodes takes one payment of each invoice, and lives.

`make guard` runs each shape of `racing.py` a hundred times.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import racing
from network import DEFAULT_PLUGIN, KINDS, Network
from network.daemon import poll_until
from pyln.client import RpcError
from racing import AMOUNT_MSAT, Race, Shape
from recording import Recorded, create, error_of, listed, opened_network, recorder_in

#: How often each shape is tried on a node that lives, and how often where something is killed.
TRIES = int(os.environ.get("GUARD_TRIES", "5"))
KILLS = int(os.environ.get("GUARD_TRIES", "1"))

#: Long enough for a duplicate to arrive while the first payment is in invoice_payment.
SLOW_MS = 200

UNKNOWN_DETAILS = "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS"

ISSUES = ("eager", "lazy")
CODES = (*ISSUES, "held")


@pytest.fixture(scope="module", params=KINDS)
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """paycodes, and beside it a recorder that is slow in invoice_payment."""
    directory: Path = tmp_path_factory.mktemp(f"guarded-{request.param}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECORDER_SLOW_MS", str(SLOW_MS))
        with opened_network(request.param, directory, DEFAULT_PLUGIN, {}, [recorder_in(directory)]) as network:
            network.merchant.call("paycode-create", label="eager")
            network.merchant.call("paycode-create", label="lazy", issue="lazy")
            network.merchant.call("paycode-create", label="held", hold=True)
            # A second channel, whose HTLCs have the same numbers.
            network.fund()
            yield Recorded(network)


def issued(network: Network, code: str) -> dict[str, Any]:
    invoice: dict[str, Any] = network.merchant.call("paycode-invoice", code, AMOUNT_MSAT)
    return invoice


@contextmanager
def settled_when_held(guarded: Recorded, invoice: dict[str, Any]) -> Iterator[None]:
    """An operator who settles whatever is held at once."""
    over = threading.Event()

    def settle() -> None:
        while not over.is_set():
            # Not held yet, settled already, or the node is away.
            with suppress(RpcError):
                guarded.node.call("hold-settle", invoice["payment_hash"])
            over.wait(0.02)

    operator = threading.Thread(target=settle)
    operator.start()
    try:
        yield
    finally:
        over.set()
        operator.join()


def outcome(guarded: Recorded, shape: Shape, code: str) -> tuple[Race, list[dict[str, Any]]]:
    """A race for a new invoice of a code, and its parts once all have ended."""
    race = Race(guarded, issued(guarded.network, code))
    with settled_when_held(guarded, race.invoice) if code == "held" else nullcontext():
        return race, parts_of(shape(race))


def parts_of(sent: racing.Sent) -> list[dict[str, Any]]:
    return [part for each in sent for part in each.result(120)["parts"]]


def settled_msat(parts: list[dict[str, Any]]) -> list[int]:
    return [part["amount_msat"] for part in parts if part["status"] == "complete"]


def check_one_payment(race: Race, parts: list[dict[str, Any]]) -> None:
    """Exactly what one payment needs was settled, the rest went back, and node and books say so."""
    node, invoice = race.recorded.node, race.invoice
    settled = settled_msat(parts)
    entry = listed(node, invoice["label"])
    told = race.recorded.wait_for("notification", "invoice_payment", invoice["label"])

    def status() -> str:
        (row,) = node.call("listpaycodeinvoices", payment_hash=invoice["payment_hash"])["invoices"]
        return str(row["status"])

    assert node.is_running()
    assert entry["status"] == "paid"
    assert entry["amount_received_msat"] == sum(settled) >= AMOUNT_MSAT
    assert sum(settled) - max(settled) < AMOUNT_MSAT, "more was taken than the payment needed"
    assert len(told) == 1
    poll_until(lambda: status() == "paid", 30.0, "the books do not hear of it")


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("shape", racing.LIVE, ids=lambda shape: shape.__name__)
def test_one_of_several_payments_is_settled(guarded: Recorded, shape: Shape, code: str) -> None:
    """Whatever arrives beyond it goes back to the payer, and the node stays up."""
    pid = guarded.node.pid()
    failed = []
    for _ in range(TRIES):
        race, parts = outcome(guarded, shape, code)
        check_one_payment(race, parts)
        failed += [part["failcodename"] for part in parts if part["status"] == "failed"]

    assert guarded.node.pid() == pid
    # A payer that is too late hears of the first payment, and sends nothing: not all of them may be.
    assert UNKNOWN_DETAILS in failed


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("shape", racing.KILLED, ids=lambda shape: shape.__name__)
def test_one_of_several_payments_is_settled_after_a_crash(guarded: Recorded, shape: Shape, code: str) -> None:
    """What was let through before the crash counts: the node offers it all again."""
    failed = []
    for _ in range(KILLS):
        race, parts = outcome(guarded, shape, code)
        check_one_payment(race, parts)
        failed += [part["failcodename"] for part in parts if part["status"] == "failed"]

    assert UNKNOWN_DETAILS in failed


@pytest.mark.parametrize("code", ISSUES)
@pytest.mark.parametrize(
    ("parts", "total"),
    [
        ([90_000], None),
        ([30_000, 30_000, 30_000], None),
        ([9_000] * 10, None),
        ([180_000], 180_000),
        ([60_000, 60_000, 60_000], 180_000),
        ([89_999, 89_999], None),
        ([35_000, 35_000, 35_000], None),
    ],
    ids=["whole", "three", "ten", "twice", "twice-in-three", "overshooting", "overshooting-in-three"],
)
def test_honest_payment_is_taken_whole(guarded: Recorded, parts: list[int], total: int | None, code: str) -> None:
    """In parts, and up to twice the amount: none of it is surplus."""
    invoice = issued(guarded.network, code)
    sent = guarded.network.send(invoice["bolt11"], parts, total_msat=total).result(60)

    assert settled_msat(sent["parts"]) == parts
    assert listed(guarded.node, invoice["label"])["amount_received_msat"] == sum(parts)


@pytest.mark.parametrize("code", ISSUES)
def test_honest_payment_survives_a_crash_of_the_node(guarded: Recorded, code: str) -> None:
    """All its parts are offered again, and all are settled."""
    race = Race(guarded, issued(guarded.network, code))
    sent = race.send(20_000, 30_000, 40_000)
    race.wait_for_hook()
    guarded.node.kill()
    guarded.node.start()

    assert settled_msat(parts_of([sent])) == [20_000, 30_000, 40_000]


@pytest.mark.parametrize("code", ISSUES)
def test_payment_that_failed_may_be_tried_again(guarded: Recorded, code: str) -> None:
    """What was let through counts only as long as the node has it."""
    race = Race(guarded, issued(guarded.network, code))
    guarded.behave("invoice_payment", {"result": "reject"})
    first = parts_of([race.send(45_000, 45_000)])
    second = parts_of([race.send(45_000, 45_000)])

    assert settled_msat(first) == []
    assert settled_msat(second) == [45_000, 45_000]


def test_held_payment_that_another_plugin_refuses_is_canceled(guarded: Recorded) -> None:
    """The operator settled it, and is told that nothing came of that; the node forgets the invoice."""
    node, race = guarded.node, Race(guarded, issued(guarded.network, "held"))
    payment_hash = race.invoice["payment_hash"]
    guarded.behave("invoice_payment", {"result": "reject"})
    sent = race.send(45_000, 45_000)
    poll_until(lambda: bool(node.call("listholds", payment_hash)["holds"]), 30.0, "it is not held")
    error = error_of(node, "hold-settle", payment_hash)
    (hold,) = node.call("listholds", payment_hash)["holds"]
    told = [event["type"] for event in node.call("listoutbox", type="hold.canceled", limit=1000)["events"]
            if event["data"]["payment_hash"] == payment_hash]  # fmt: skip

    assert settled_msat(parts_of([sent])) == []
    assert error["code"] == 3108
    assert "refused" in error["message"]
    assert hold["status"] == "canceled"
    assert told == ["hold.canceled"]
    assert node.call("listinvoices", race.invoice["label"])["invoices"] == []


@pytest.mark.parametrize("code", ISSUES)
def test_strangers_part_does_not_keep_a_payment_away(guarded: Recorded, code: str) -> None:
    """A part that the node refuses, for its secret or its expiry, is not counted as one that was let through."""
    race = Race(guarded, issued(guarded.network, code))
    wrong = [race.send(AMOUNT_MSAT, payment_secret="5e" * 32), race.send(AMOUNT_MSAT, cltv_extra=-1)]
    honest = race.send(45_000, 45_000)

    assert settled_msat(parts_of([honest])) == [45_000, 45_000]
    assert settled_msat(parts_of(wrong)) == []


def test_invoices_of_others_are_left_to_the_node(guarded: Recorded, unique: str) -> None:
    """Only codes are guarded: another invoice of the node is paid as ever."""
    create(guarded.node, unique, 90_000)
    bolt11 = listed(guarded.node, unique)["bolt11"]
    sent = guarded.network.send(bolt11, [45_000, 45_000]).result(60)

    assert settled_msat(sent["parts"]) == [45_000, 45_000]


@pytest.mark.parametrize(
    ("method", "fault", "count", "code"),
    [
        ("invoice", "drop_after", 1, "lazy"),
        ("invoice", "drop_after", 3, "lazy"),
        ("listpeerchannels", "refuse", 1, "eager"),
        ("listpeerchannels", "refuse", 20, "eager"),
        ("listpeerchannels", "drop_before", 20, "eager"),
    ],
)
def test_node_lives_though_it_does_not_answer_the_plugin(
    guarded: Recorded, method: str, fault: str, count: int, code: str
) -> None:
    """What may have been let through counts, and what cannot be looked up is failed rather than let through."""
    if not guarded.network.supports_faults:
        pytest.skip("a real node does not fail on demand")
    # A new process has yet to ask what there is.
    guarded.node.kill_plugin()
    guarded.node.start_plugin()
    race = Race(guarded, issued(guarded.network, code))
    guarded.network.fault(method, fault, count=count)
    try:
        sent = racing.crowd(race)
        wait(sent, timeout=60)
    finally:
        guarded.network.clear_faults()
    parts = parts_of(sent)

    assert len(settled_msat(parts)) <= 1
    assert guarded.node.is_running()


def test_payment_of_the_node_to_itself_is_the_one_that_counts(guarded: Recorded) -> None:
    """Nobody sees HTLCs of it; what arrives while it is being settled goes back to its payer."""
    if guarded.node.kind != "regtest":
        pytest.skip("the stand-in for the node does not pay itself")
    race = Race(guarded, issued(guarded.network, "eager"))
    guarded.behave("invoice_payment", "hold")
    with ThreadPoolExecutor(1) as pool:
        itself = pool.submit(guarded.node.call, "xpay", race.invoice["bolt11"])
        race.wait_for_hook()
        late = race.send(AMOUNT_MSAT)
        (part,) = parts_of([late])
        guarded.node.call("recorder-release", hook="invoice_payment", answer={"result": "continue"})
        paid = itself.result(60)

    assert part["failcodename"] == UNKNOWN_DETAILS
    assert paid["payment_preimage"]
    assert listed(guarded.node, race.invoice["label"])["amount_received_msat"] == AMOUNT_MSAT
    assert guarded.node.is_running()
