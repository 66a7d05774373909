"""What becomes of the HTLCs of a held invoice, whatever comes first: parts, time, blocks, the operator, a death."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from backend import eventually
from cln_paycodes.core.actions import ActionKind
from cln_paycodes.core.holds import FINAL_CLTV_BLOCKS, MARGIN_BLOCKS, claim_deadline_height, margin_blocks
from cln_paycodes.core.states import InvoiceStatus
from cln_paycodes.errors import ActionUnderWay, IllegalState, SidecarUnavailable
from cln_paycodes.services.decisions import LOOK_S
from cln_paycodes.services.holds import INCOMPLETE_S
from cln_paycodes.store import invoices
from holding import AMOUNT, TIP, UNKNOWN_DETAILS, Shop
from samples import NOW

pytestmark = pytest.mark.actions

S = InvoiceStatus
SETTLE, CANCEL = ActionKind.SETTLE, ActionKind.CANCEL
MPP_TIMEOUT, TEMPORARY_FAILURE, WRONG_TOTAL = "0017", "2002", "0013"
HALF = AMOUNT // 2
DEADLINE = TIP + FINAL_CLTV_BLOCKS - MARGIN_BLOCKS - 1


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    opened = Shop(tmp_path)
    yield opened
    opened.plugin.close()


@pytest.mark.parametrize(
    ("cltv_delta", "cltv_final", "margin"), [(34, 10, 18), (34, 18, 19), (6, 5, 18), (80, 18, 41), (34, 60, 61)]
)
def test_deadline_leaves_the_node_the_blocks_it_asks_for(cltv_delta: int, cltv_final: int, margin: int) -> None:
    """Neither closes it the channel after settling so late, nor does it refuse what is let go to it."""
    assert margin_blocks(cltv_delta=cltv_delta, cltv_final=cltv_final) == margin
    assert claim_deadline_height([700, 650], margin=margin) == 650 - margin


def test_parts_that_are_not_all_there_go_back_after_a_minute(shop: Shop) -> None:
    """The invoice is as good as before."""
    shop.offer(1, HALF)
    shop.plugin.timer.pass_time(INCOMPLETE_S)
    gone = shop.ends()
    shop.offer(2, HALF)
    shop.offer(3, HALF)
    shop.plugin.timer.pass_time(INCOMPLETE_S)

    assert gone == [MPP_TIMEOUT]
    assert shop.ends() == [MPP_TIMEOUT, "held", "held"]
    assert shop.status() is S.ACCEPTED
    assert (len(shop.hold().parts), shop.hold().amount_msat, shop.hold().claim_deadline_height) == (2, AMOUNT, DEADLINE)


@pytest.mark.parametrize(("late", "ends"), [(False, [MPP_TIMEOUT]), (True, [UNKNOWN_DETAILS, UNKNOWN_DETAILS])])
def test_parts_go_back_when_their_invoice_expires_before_the_rest_is_there(
    shop: Shop, late: bool, ends: list[str]
) -> None:
    """Whether the rest comes late or never: an HTLC that is kept for ever costs the channel."""
    shop.offer(1, HALF)
    shop.plugin.store.write(lambda tx: shop.plugin.books.change(tx, shop.row.slot, S.EXPIRED))
    if late:
        shop.offer(2, HALF)
    shop.plugin.timer.pass_time(INCOMPLETE_S)

    assert shop.ends() == ends
    assert shop.status() is S.EXPIRED


def test_all_parts_go_back_when_the_hold_cannot_be_written(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the last one alone."""

    def fail(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(shop.plugin.holds, "_record_accepted", fail)
    shop.offer(1, HALF)
    shop.offer(2, HALF)

    assert shop.ends() == [TEMPORARY_FAILURE, TEMPORARY_FAILURE]
    assert shop.status() is S.ISSUED


def test_parts_that_disagree_about_their_total_go_back(shop: Shop) -> None:
    """As the node has it, and the next try is a new one."""
    shop.offer(1, HALF)
    shop.offer(2, HALF, total_msat=AMOUNT + 1)
    shop.offer(3, AMOUNT)

    assert shop.ends() == [WRONG_TOTAL, WRONG_TOTAL, "held"]
    assert shop.status() is S.ACCEPTED


def test_part_beyond_a_held_payment_goes_back(shop: Shop) -> None:
    """The hold stays as it is."""
    shop.offer(1, AMOUNT)
    shop.offer(2, HALF)

    assert shop.ends() == ["held", UNKNOWN_DETAILS]
    assert len(shop.hold().parts) == 1


@pytest.mark.parametrize(
    ("amounts", "ends"),
    [
        ([1, AMOUNT], [UNKNOWN_DETAILS, "held"]),
        ([HALF, 10_000, AMOUNT], [UNKNOWN_DETAILS, UNKNOWN_DETAILS, "held"]),
        ([HALF, 5_000, HALF], ["held", UNKNOWN_DETAILS, "held"]),
        ([AMOUNT - 1, AMOUNT - 1], ["held", "held"]),
    ],
)
def test_part_without_which_a_payment_is_complete_is_not_held(shop: Shop, amounts: list[int], ends: list[str]) -> None:
    """Let go to the node in another order, it would come while the node settles the others, and end it."""
    for number, amount_msat in enumerate(amounts):
        shop.offer(number, amount_msat)

    assert shop.ends() == ends
    assert len(shop.hold().parts) == ends.count("held")
    assert shop.hold().amount_msat == sum(a for a, end in zip(amounts, ends, strict=True) if end == "held")


def test_part_that_is_too_near_its_expiry_goes_back(shop: Shop) -> None:
    """There is no time for anyone to decide; the others wait for one that is as good."""
    shop.offer(1, HALF)
    shop.offer(2, HALF, blocks=MARGIN_BLOCKS + 1)
    shop.offer(3, HALF, blocks=MARGIN_BLOCKS + 2)

    assert shop.ends() == ["held", UNKNOWN_DETAILS, "held"]
    assert shop.hold().claim_deadline_height == TIP + 1


@pytest.mark.parametrize(
    ("kind", "status", "end", "told"),
    [
        (SETTLE, S.PAID, "settled", ["hold.settled", "invoice.paid"]),
        (CANCEL, S.CANCELED, UNKNOWN_DETAILS, ["hold.canceled"]),
    ],
)
def test_neither_decision_can_be_undone(
    shop: Shop, kind: ActionKind, status: InvoiceStatus, end: str, told: list[str]
) -> None:
    """Before it is carried out and afterwards; the same again changes nothing."""
    shop.offer(1, AMOUNT)
    shop.decide(kind)
    shop.decide(kind)
    other = CANCEL if kind is SETTLE else SETTLE
    with pytest.raises(IllegalState):
        shop.decide(other)
    shop.finish()
    with pytest.raises((IllegalState, ActionUnderWay)):
        shop.decide(other)
    shop.decide(kind)

    assert shop.status() is status
    assert shop.ends() == [end]
    assert shop.told() == ["hold.accepted", *told]


@pytest.mark.parametrize("with_node", [False, True])
def test_decision_to_settle_survives_a_death_with_the_node_and_not_without(shop: Shop, with_node: bool) -> None:
    """Without the node the payer has it back before the invoice is known there."""
    shop.offer(1, AMOUNT)
    shop.decide(SETTLE)
    shop.restart(with_node=with_node)
    if with_node:
        shop.ask(("1x1x1", 1))
    shop.finish()

    assert shop.status() is (S.PAID if with_node else S.CANCELED)
    assert shop.ends() == ["settled" if with_node else UNKNOWN_DETAILS]
    assert [invoice.status for invoice in shop.node.listed.values()] == (["paid"] if with_node else [])


def registered(shop: Shop) -> None:
    """The node is told, and then the plugin dies with that."""
    shop.offer(1, AMOUNT)
    shop.decide(SETTLE)
    shop.plugin.decisions._registration.ensure(shop.row, expiry_s=3600)


def test_what_the_node_settled_while_the_plugin_was_dead_is_paid(shop: Shop) -> None:
    """It is not called lost, although its HTLCs are gone."""
    registered(shop)
    shop.restart(with_node=False)
    shop.finish()

    assert shop.status() is S.PAID
    assert shop.ends() == ["settled"]
    assert shop.told() == ["hold.accepted", "hold.settled", "invoice.paid"]


def test_what_was_paid_and_deleted_while_the_plugin_was_dead_is_paid(shop: Shop) -> None:
    """The node lists it no more; its bookkeeper has the money, and nobody is told that the payer has it back."""
    registered(shop)
    shop.restart(with_node=False)
    shop.node.listed.clear()
    shop.plugin.engine.start()
    eventually(lambda: shop.status() is not S.ACCEPTED)

    assert shop.status() is S.PAID
    assert shop.told() == ["hold.accepted", "hold.settled", "invoice.paid"]


def test_payment_that_the_node_refuses_after_it_was_let_go_is_canceled(shop: Shop) -> None:
    """Nobody else ends it: the payer has it back, and the operator is told."""
    shop.node.refuses = True
    shop.offer(1, HALF)
    shop.offer(2, HALF)
    shop.decide(SETTLE)
    shop.finish()

    assert shop.status() is S.CANCELED
    assert "refused" in (shop.hold().reason or "")
    assert shop.ends() == [UNKNOWN_DETAILS, UNKNOWN_DETAILS]
    assert shop.told() == ["hold.accepted", "hold.canceled"]
    assert shop.node.listed == {}


def test_node_forgets_an_invoice_before_its_payment_is_given_up(shop: Shop) -> None:
    """HTLCs that it offers late would be settled by a node that was told of the invoice."""
    registered(shop)
    shop.restart(with_node=True)
    shop.node.tip = DEADLINE
    shop.finish()
    known = list(shop.node.listed)
    shop.ask(("1x1x1", 1))

    assert known == []
    assert shop.status() is S.CANCELED
    assert shop.ends() == [UNKNOWN_DETAILS]
    assert shop.told() == ["hold.accepted", "hold.canceled"]


def test_hold_that_nobody_decides_is_canceled_at_its_deadline(shop: Shop) -> None:
    """One block before it is not, and from then on settling is refused."""
    shop.offer(1, AMOUNT)
    shop.plugin.decisions.on_block(DEADLINE - 1)
    before = shop.status()
    shop.plugin.decisions.on_block(DEADLINE)
    shop.finish()

    assert before is S.ACCEPTED
    assert shop.status() is S.CANCELED
    assert shop.ends() == [UNKNOWN_DETAILS]
    with pytest.raises(IllegalState):
        shop.decide(SETTLE)


def test_sidecar_that_cannot_be_read_delays_the_look_at_holds(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that nobody looks at would cost the channel: the next look is a second later, not a block."""
    shop.offer(1, AMOUNT)
    with monkeypatch.context() as broken:
        broken.setattr(shop.plugin.store, "read", unreadable)
        shop.plugin.decisions.on_block(DEADLINE)
    before = shop.status()
    shop.plugin.timer.pass_time(LOOK_S)
    shop.finish()

    assert before is S.ACCEPTED
    assert shop.status() is S.CANCELED
    assert shop.ends() == [UNKNOWN_DETAILS]


def unreadable(_: object) -> None:
    raise SidecarUnavailable("the sidecar cannot be read")


def test_node_that_catches_up_settles_nothing(shop: Shop) -> None:
    """It does not know yet how late it is; the decision is kept, and is carried out or given up by the tip."""
    shop.offer(1, AMOUNT)
    shop.node.tip = None
    shop.decide(SETTLE)
    shop.plugin.engine.start()
    eventually(lambda: not shop.plugin.engine._driven)
    meanwhile = (shop.status(), shop.ends(), list(shop.node.listed))
    shop.node.tip = DEADLINE
    shop.plugin.engine.wake(shop.row.payment_hash)
    eventually(lambda: shop.status() is not S.ACCEPTED)

    assert meanwhile == (S.ACCEPTED, ["held"], [])
    assert shop.status() is S.CANCELED


def test_settling_is_refused_from_the_deadline_on(shop: Shop) -> None:
    """Also when the block came so fast that nothing was canceled yet."""
    shop.offer(1, AMOUNT)
    shop.plugin.holds.height = DEADLINE
    with pytest.raises(IllegalState, match="too late"):
        shop.decide(SETTLE)

    assert shop.status() is S.ACCEPTED
    assert shop.ends() == ["held"]


def test_incomplete_payment_cannot_be_settled(shop: Shop) -> None:
    """There is nothing to take."""
    shop.offer(1, HALF)

    with pytest.raises(IllegalState, match="nothing is held"):
        shop.decide(SETTLE)


def test_incomplete_payment_can_be_canceled(shop: Shop) -> None:
    """What has come goes back, and what comes later is left to the node, which does not know the invoice."""
    shop.offer(1, HALF)
    shop.decide(CANCEL)
    shop.finish()
    eventually(lambda: shop.ends() != ["held"])
    shop.offer(2, HALF)

    assert shop.ends() == [UNKNOWN_DETAILS, UNKNOWN_DETAILS]
    assert shop.status() is S.CANCELED
    assert shop.told() == ["hold.canceled"]
    assert shop.node.listed == {}


def test_invoice_that_is_over_is_not_canceled(shop: Shop) -> None:
    """Its end stays what it was."""
    shop.plugin.store.write(lambda tx: invoices.change(tx, shop.row.slot, S.EXPIRED, now=NOW))

    with pytest.raises(IllegalState, match="expired"):
        shop.decide(CANCEL)
    assert shop.status() is S.EXPIRED
    assert shop.told() == []
