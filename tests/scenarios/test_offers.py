"""BOLT 12: offers of paycodes, made by the node, in step with their codes, their payments in the books."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from network import Network, Node
from network.daemon import poll_until
from pyln.client import RpcError
from serving import Shop, opened_shop
from test_reconcile_many import reconciled_here


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Only a real node makes offers."""
    with opened_shop("regtest", tmp_path_factory.mktemp("offers")) as opened:
        yield opened


def offer_of(shop: Shop, label: str) -> str:
    """The code's offer, made when it is first asked for."""
    return str(shop.call("paycode-qr", label, "bolt12")["code"]).lower()


#: CLN's code for an onion message without an answer: more than four a second from one peer are dropped.
_NO_ANSWER = 1005
_TRIES = 5


def fetched(payer: Node, **wanted: Any) -> str:
    for _ in range(_TRIES):
        try:
            return str(payer.call("fetchinvoice", timeout=5, **wanted)["invoice"])
        except RpcError as error:
            if error.error["code"] != _NO_ANSWER:
                raise
    raise TimeoutError("the merchant's node does not answer invoice requests")


def pay_offer(network: Network, bolt12: str, amount_msat: int | None, note: str | None = None) -> None:
    payer = network.payer
    assert payer is not None
    wanted: dict[str, Any] = {"offer": bolt12}
    if amount_msat is not None:
        wanted["amount_msat"] = amount_msat
    if note is not None:
        wanted["payer_note"] = note
    network.wait_for_channel()  # type: ignore[attr-defined]
    payer.call("xpay", invstring=fetched(payer, **wanted))


def payments(shop: Shop, label: str, count: int) -> list[dict[str, Any]]:
    """The payments of the code, once there are so many."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = shop.call("listpaycodeinvoices", label)["invoices"]
        return len(found) >= count

    poll_until(look, 30.0, f"not {count} payments of {label}")
    return found


def node_offer(shop: Shop, bolt12: str) -> dict[str, Any]:
    (found,) = [offer for offer in shop.call("listoffers")["offers"] if offer["bolt12"] == bolt12]
    return dict(found)


def test_an_offer_is_paid_and_told_like_the_rest(shop: Shop, unique: str) -> None:
    """One payment: a row, an event with the payer's note as comment, the sums of the code, books that agree."""
    shop.create(unique, description='Tea "for" two 🍵')
    bolt12 = offer_of(shop, unique)
    pay_offer(shop.network, bolt12, 21_000, note="no sugar 🍬")
    (payment,) = payments(shop, unique, 1)
    event = shop.wait_for_event(payment["payment_hash"])
    (paycode,) = shop.call("listpaycodes", unique)["paycodes"]
    report = shop.call("reconcile", full=True)

    assert shop.call("decode", bolt12)["offer_description"] == 'Tea "for" two 🍵'
    assert payment["status"] == "paid"
    assert payment["offer_id"] == node_offer(shop, bolt12)["offer_id"]
    assert payment["bolt12"].startswith("lni1")
    assert {"index", "label", "bolt11"}.isdisjoint(payment)
    assert (event["comment"], event["received_msat"]) == ("no sugar 🍬", 21_000)
    assert event["paycode_id"] == paycode["paycode_id"]
    assert (paycode["bolt12"], paycode["paid"], paycode["received_msat"]) == (bolt12, 1, 21_000)
    assert report["agree"] is True
    assert report["events"] == 0


def test_asking_again_gives_the_same_offer(shop: Shop, unique: str) -> None:
    """It is made once, however often it is asked for, and only when it is."""
    before = len(shop.call("listoffers")["offers"])
    created = shop.create(unique)
    first, second = offer_of(shop, unique), offer_of(shop, unique)

    assert "bolt12" not in created
    assert first == second
    assert len(shop.call("listoffers")["offers"]) == before + 1


def test_two_codes_with_the_same_words_have_two_offers(shop: Shop, unique: str) -> None:
    """The node would give both the same offer; each payment belongs to its own code all the same."""
    labels = [f"{unique}-a", f"{unique}-b"]
    for label in labels:
        shop.create(label, description=unique)
    first, second = (offer_of(shop, label) for label in labels)
    pay_offer(shop.network, second, 1000)

    assert first != second
    assert len(payments(shop, labels[1], 1)) == 1
    assert shop.call("listpaycodeinvoices", labels[0])["invoices"] == []


def test_an_offer_is_disabled_and_enabled_with_its_code(shop: Shop, unique: str) -> None:
    """A disabled code gives no invoices by its offer either."""
    shop.create(unique)
    bolt12 = offer_of(shop, unique)
    shop.call("paycode-disable", unique)
    disabled = node_offer(shop, bolt12)["active"]
    with pytest.raises(RpcError):
        pay_offer(shop.network, bolt12, 1000)
    shop.call("paycode-enable", unique)
    pay_offer(shop.network, bolt12, 1000)

    assert disabled is False
    assert len(payments(shop, unique, 1)) == 1


def test_a_disabled_code_gets_no_first_offer(shop: Shop, unique: str) -> None:
    """3103, and nothing is made."""
    shop.create(unique)
    shop.call("paycode-disable", unique)
    with pytest.raises(RpcError) as raised:
        offer_of(shop, unique)

    assert raised.value.error["code"] == 3103


def test_another_price_makes_another_offer(shop: Shop, unique: str) -> None:
    """The offer with the old price is disabled, and comes back when the price does."""
    shop.create(unique, min_msat=5000, max_msat=5000)
    old = offer_of(shop, unique)
    new = shop.call("paycode-update", paycode=unique, min_msat=6000, max_msat=6000)["bolt12"]
    states = [node_offer(shop, offer)["active"] for offer in (old, new)]
    back = shop.call("paycode-update", paycode=unique, min_msat=5000, max_msat=5000)["bolt12"]
    pay_offer(shop.network, old, None)

    assert states == [False, True]
    assert back == old
    assert [node_offer(shop, offer)["active"] for offer in (old, new)] == [True, False]
    assert payments(shop, unique, 1)[0]["received_msat"] == 5000


def test_a_new_description_leaves_printed_offers_payable(shop: Shop, unique: str) -> None:
    """A code is printed once: the words may change, the old one goes on working beside the new one."""
    shop.create(unique, description="Tea")
    printed = offer_of(shop, unique)
    new = shop.call("paycode-update", paycode=unique, description="Green tea")["bolt12"]
    pay_offer(shop.network, printed, 1000)
    pay_offer(shop.network, new, 2000)

    assert new != printed
    assert sorted(payment["received_msat"] for payment in payments(shop, unique, 2)) == [1000, 2000]


def test_what_comes_in_while_the_plugin_is_away_is_found(shop: Shop, unique: str) -> None:
    """The payment is in the books and told after the next start, without a hook or notification."""
    shop.create(unique)
    bolt12 = offer_of(shop, unique)
    shop.network.merchant.kill_plugin()
    pay_offer(shop.network, bolt12, 3000, note="anyone there?")
    shop.network.merchant.start_plugin()
    (payment,) = payments(shop, unique, 1)

    assert payment["comment"] == "anyone there?"
    assert shop.wait_for_event(payment["payment_hash"])["received_msat"] == 3000


def test_a_dry_run_counts_a_payment_once(shop: Shop, unique: str) -> None:
    """Its invoice was made and paid since the last look: the node lists it among the new and among the changed."""
    shop.create(unique)
    bolt12 = offer_of(shop, unique)
    shop.call("paycode-invoice", unique, 1000)
    shop.call("reconcile")
    shop.network.merchant.stop_plugin()
    pay_offer(shop.network, bolt12, 5000)
    dry, _ = reconciled_here(shop.network, dry_run=True)
    wet, _ = reconciled_here(shop.network)
    shop.network.merchant.start_plugin()

    assert dry["full"] is wet["full"] is False
    assert (dry["adopted"], dry["events"]) == (wet["adopted"], wet["events"]) == (1, 1)


def test_a_lost_sidecar_finds_offers_and_their_payments_again(shop: Shop, unique: str) -> None:
    """The same rows and the same event ids, from the node alone."""
    shop.create(unique)
    bolt12 = offer_of(shop, unique)
    pay_offer(shop.network, bolt12, 4000, note="first")
    payments(shop, unique, 1)
    merchant = shop.network.merchant
    before = {event["id"] for event in shop.call("listoutbox", limit=1000)["events"]}
    merchant.kill_plugin()
    for path in merchant.network_dir.glob("paycodes.sqlite3*"):
        path.unlink()
    merchant.start_plugin()
    report = shop.call("reconcile", full=True)
    (payment,) = payments(shop, unique, 1)
    (paycode,) = shop.call("listpaycodes", unique)["paycodes"]

    assert report["agree"] is True
    assert (payment["comment"], payment["received_msat"]) == ("first", 4000)
    assert (paycode["bolt12"], paycode["paid"], paycode["received_msat"]) == (bolt12, 1, 4000)
    assert {event["id"] for event in shop.call("listoutbox", limit=1000)["events"]} == before


def test_the_dns_record_to_publish(shop: Shop, unique: str) -> None:
    """BIP 353: a name and a TXT value for a code with a user and an offer."""
    before = shop.create(unique, user=unique)
    bolt12 = offer_of(shop, unique)
    (paycode,) = shop.call("listpaycodes", unique)["paycodes"]

    assert "bip353" not in before
    assert paycode["bip353"] == {
        "name": f"{unique}.user._bitcoin-payment.127.0.0.1.",
        "txt": f"bitcoin:?lno={bolt12}",
    }


def test_codes_for_the_terminal_can_be_scanned(shop: Shop, unique: str) -> None:
    """`paycode-qr` draws what a camera reads, of either kind."""
    shop.create(unique, user=unique)
    rows = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
    for kind in ("lnurl", "bolt12"):
        answer = shop.call("paycode-qr", unique, kind)
        lines = answer["content"].splitlines()
        pixels = np.array([[rows[c][half] for c in line] for line in lines for half in (0, 1)], dtype=np.uint8)
        image = cv2.resize(pixels, None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST)

        assert cv2.QRCodeDetectorAruco().detectAndDecode(image)[0] == answer["code"]
        assert shop.call("paycode-qr", unique, kind, "svg")["content"].startswith("<svg")


def test_code_that_holds_has_no_offer(shop: Shop, unique: str) -> None:
    """The node settles a payment by an offer at once: none is made, one that was there is off and not shown."""
    shop.call("paycode-create", label=unique, min_msat=unique_amount(unique), max_msat=unique_amount(unique))
    before = offer_of(shop, unique)
    held = shop.call("paycode-update", paycode=unique, user=f"u{unique}", hold=True)
    (offer,) = [entry for entry in shop.call("listoffers")["offers"] if entry["bolt12"] == before]
    with pytest.raises(RpcError, match="holds its payments") as refused:
        shop.call("paycode-qr", unique, "bolt12")

    assert offer["active"] is False
    assert refused.value.error["code"] == 3108
    assert not {"bolt12", "bip353"} & set(held)
    assert shop.call("paycode-update", paycode=unique, hold=False)["bolt12"] == before


def unique_amount(unique: str) -> int:
    """An amount for this test alone, so that no other code has the same offer."""
    return 1_000_000 + int(unique, 16) % 1_000_000
