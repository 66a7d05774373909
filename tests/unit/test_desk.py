"""The desk with invoices that the node has: who is asked before a part goes on, and who is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backend import eventually
from cln_paycodes.core.htlcs import Htlc, IncomingHtlc, Key
from cln_paycodes.core.keys import payment_secret_of
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.records import Invoice
from cln_paycodes.errors import SidecarUnavailable
from cln_paycodes.services import desk
from cln_paycodes.services.desk import Desk
from cln_paycodes.services.registration import Registration
from cln_paycodes.store import invoices
from holding import AMOUNT, TIP, Node, S, Shop
from samples import NOW

FAILED = "fail"
HALF = AMOUNT // 2


class AskedNode(Node):
    """Counts how often it was asked for its HTLCs."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def incoming_htlcs(self) -> list[IncomingHtlc]:
        self.asked += 1
        return super().incoming_htlcs()


class NothingLost:
    def may_have(self, _: bytes) -> bool:
        return False

    def adopt(self, _: Htlc) -> None:
        return None


class Counter:
    """A desk, and what it answered; what it hands over to another thread is done at once, and counted."""

    def __init__(self, directory: Path) -> None:
        self.shop = Shop(directory)
        plugin = self.shop.plugin
        self.node = AskedNode()
        self.rows = plugin.store.write(lambda tx: [self._insert(tx, index) for index in range(2, 6)])
        self.handed_over = 0
        self.answers: list[tuple[Key, str]] = []
        self.desk = Desk(
            plugin.store,
            self.node,  # type: ignore[arg-type]  # it has what is called here
            plugin.books,
            Registration(plugin.store, None, clock=lambda: NOW),  # type: ignore[arg-type]
            plugin.holds,
            NothingLost(),  # type: ignore[arg-type]
            clock=lambda: NOW,
            submit=self._submit,
        )
        self.desk.start()

    def _insert(self, tx: Any, index: int) -> Invoice:
        slot = Slot(self.shop.root.paycode_id, index)
        return invoices.insert(
            tx,
            slot,
            payment_hash=self.shop.root.invoice(index).payment_hash.hex(),
            status=S.ISSUED,
            amount_msat=AMOUNT,
            created_at=NOW,
            expires_at=NOW + 3600,
            moved_at=NOW,
        )

    def _submit(self, job: Callable[..., None], *arguments: Any) -> None:
        self.handed_over += 1
        job(*arguments)

    def close(self) -> None:
        self.desk.stop()
        self.shop.plugin.close()

    def offer(
        self,
        row: Invoice,
        number: int,
        amount_msat: int = AMOUNT,
        *,
        secret: str | None = None,
        skimmed_msat: int = 0,
        skimmed_blocks: int = 0,
    ) -> None:
        """The hook's call for one part of a payment, which is in the node's channel from then on."""
        keys = self.shop.root.invoice(row.index)
        htlc = Htlc(
            key=("1x1x1", number),
            payment_hash=row.payment_hash,
            amount_msat=amount_msat,
            cltv_expiry=TIP + 40,
            blocks_left=40,
            total_msat=AMOUNT,
            payment_secret=secret or payment_secret_of(keys.preimage).hex(),
            has_metadata=False,
            is_skimmed=bool(skimmed_msat or skimmed_blocks),
        )
        self.node.htlcs[htlc.key] = htlc
        params = {
            "htlc": {
                "short_channel_id": htlc.key[0],
                "id": htlc.key[1],
                "payment_hash": htlc.payment_hash,
                "amount_msat": htlc.amount_msat,
                "cltv_expiry": htlc.cltv_expiry,
                "cltv_expiry_relative": htlc.blocks_left,
            },
            "onion": {
                "payment_secret": htlc.payment_secret,
                "total_msat": htlc.total_msat,
                "forward_msat": htlc.amount_msat + skimmed_msat,
                "outgoing_cltv_value": htlc.cltv_expiry + skimmed_blocks,
            },
        }
        self.desk.take(params, lambda said: self.answers.append((htlc.key, said["result"])))

    def results(self, count: int) -> list[str]:
        """What became of the parts, in the order of their numbers, once there are so many answers."""
        eventually(lambda: len(self.answers) == count)
        return [result for _, result in sorted(self.answers)]


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    opened = Counter(tmp_path)
    yield opened
    opened.close()


def test_only_the_first_part_since_the_start_waits_for_the_node(counter: Counter) -> None:
    """It asks what was let through before; the parts of later payments need nobody."""
    counter.offer(counter.rows[0], 1)
    counter.results(1)
    after_first = (counter.handed_over, counter.node.asked)
    for number, row in enumerate(counter.rows[1:], start=2):
        counter.offer(row, number)

    assert counter.results(4) == ["continue"] * 4
    assert after_first == (1, 1)
    assert (counter.handed_over, counter.node.asked) == (1, 1)


def test_honest_parts_go_on_and_one_too_many_is_failed_after_a_look_at_the_node(counter: Counter) -> None:
    """Two halves are a payment; a third half is surplus, which only the node's channels can prove."""
    counter.offer(counter.rows[0], 1)
    counter.results(1)
    counter.offer(counter.rows[1], 2, HALF)
    counter.offer(counter.rows[1], 3, HALF)
    counter.results(3)
    asked = counter.node.asked
    counter.offer(counter.rows[1], 4, HALF)

    assert counter.results(4) == ["continue", "continue", "continue", FAILED]
    assert asked == 1
    assert counter.node.asked == 2


def test_part_takes_the_place_of_one_that_failed_meanwhile(counter: Counter) -> None:
    """What the node's channels no longer have does not count: a payment may be tried again."""
    counter.offer(counter.rows[0], 1)
    counter.offer(counter.rows[1], 2)
    counter.results(2)
    del counter.node.htlcs["1x1x1", 2]
    counter.offer(counter.rows[1], 3)

    assert counter.results(3) == ["continue"] * 3


@pytest.mark.parametrize("wrong", [{"secret": "00" * 32}, {"skimmed_msat": 1}, {"skimmed_blocks": 1}], ids=str)
def test_part_that_the_node_refuses_does_not_count(counter: Counter, wrong: dict[str, Any]) -> None:
    """Its secret is wrong, or someone on the way took from it; the honest payment that follows goes on."""
    counter.offer(counter.rows[0], 1)
    counter.results(1)
    counter.offer(counter.rows[1], 2, **wrong)
    counter.results(2)
    counter.offer(counter.rows[1], 3)

    assert counter.results(3) == ["continue"] * 3
    assert counter.node.asked == 1


def test_desk_goes_on_after_an_error(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that cannot be decided is left to the node, and so is one when the sidecar cannot be read."""
    counter.offer(counter.rows[0], 1)
    counter.results(1)
    with monkeypatch.context() as broken:
        broken.setattr(counter.shop.plugin.books, "keys", lambda _: 1 / 0)
        counter.offer(counter.rows[1], 2)
        counter.results(2)
    with monkeypatch.context() as broken:
        broken.setattr(counter.shop.plugin.store, "read", _refuse)
        counter.offer(counter.rows[2], 3)
        counter.results(3)
    counter.offer(counter.rows[3], 4)

    assert counter.results(4) == ["continue"] * 4


def test_part_that_was_left_to_the_node_counts(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sidecar could not be read when it came: the node may have taken it, and is not to see a second payment."""
    counter.offer(counter.rows[0], 1)
    counter.results(1)
    with monkeypatch.context() as broken:
        broken.setattr(counter.shop.plugin.store, "read", _refuse)
        counter.offer(counter.rows[1], 2)
        counter.results(2)
    counter.offer(counter.rows[1], 3)

    assert counter.results(3) == ["continue", "continue", "fail"]


def test_parts_that_are_tried_out_are_not_remembered_for_ever(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has an invoice may send them by the million, and none costs him anything."""
    monkeypatch.setattr(desk, "MOST_OFFERED", 10)
    for number in range(30):
        counter.offer(counter.rows[0], number, secret="00" * 32)
    counter.results(30)
    (payment,) = counter.desk._payments.values()

    assert len(payment.offered) == 10


def test_row_that_makes_no_sense_stops_no_other_part(counter: Counter) -> None:
    """Its parts are left to the node; those that are looked up with them or after them are decided as ever."""
    counter.shop.plugin.store.write(
        lambda tx: tx.execute("UPDATE invoices SET status = 'odd' WHERE idx = ?", (counter.rows[1].index,))
    )
    for number, row in enumerate(counter.rows[:3], start=1):
        counter.offer(row, number)
    counter.results(3)
    counter.offer(counter.rows[3], 4)
    counter.offer(counter.rows[3], 5)

    assert counter.results(5) == ["continue"] * 4 + [FAILED]


def _refuse(_: object) -> None:
    raise SidecarUnavailable("the sidecar cannot be read")
