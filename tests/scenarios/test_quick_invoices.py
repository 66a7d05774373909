"""Invoices that are made quickly are the node's own, and no way of making them so harms the node."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from cln_paycodes.core.keys import SEED_LABEL, RootKey
from network import ConnectionLost, Network
from network.daemon import poll_until
from pyln.client import RpcError

CALLERS = 16

#: Quick are many callers at a time, and one that asks again and again.
each_number_of_callers = pytest.mark.parametrize("callers", [1, CALLERS])

#: What two invoices of one code differ in.
_OWN = {"payment_hash", "payment_secret", "signature", "created_at", "expiry", "routes"}


def issue(network: Network, count: int, callers: int) -> list[dict[str, Any]]:
    """Invoices of so many callers at the same time."""
    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(lambda _: network.merchant.call("paycode-invoice", "coffee", 21000), range(count)))


def outline(network: Network, bolt11: str) -> dict[str, Any]:
    """What an invoice says beside what is its own."""
    return {name: value for name, value in network.merchant.call("decode", bolt11).items() if name not in _OWN}


def warm_up(network: Network, callers: int) -> None:
    """Have the plugin make some invoices in a row, after which it makes them the quick way."""
    issue(network, 8, callers)


def take_by_hand(network: Network, root: RootKey, index: int) -> None:
    """Put an index of a code into the node under a label that is not the plugin's."""
    network.merchant.call(
        "invoice",
        amount_msat=5000,
        label=f"by-hand-{index}",
        description="by hand",
        preimage=root.invoice(index).preimage.hex(),
    )


@each_number_of_callers
def test_quick_invoices_say_what_the_node_would_say(network: Network, callers: int) -> None:
    """Each is listed, says what the node's own `invoice` says, has its own index and hash, and can be paid."""
    merchant = network.merchant
    merchant.call("paycode-create", label="coffee", description="One coffee", expiry=1234)
    warm_up(network, callers)
    made = issue(network, 60, callers)
    own = merchant.call("invoice", 21000, "own", "One coffee", 1234)
    listed = {entry["label"]: entry for entry in merchant.call("listinvoices")["invoices"]}
    network.pay(made[-1]["bolt11"])
    paid = merchant.call("paycode-wait", "coffee", made[-1]["index"], "paid", 30)

    assert sorted(invoice["index"] for invoice in made) == list(range(9, 69))
    assert {tuple(outline(network, invoice["bolt11"]).items()).__repr__() for invoice in made} == {
        tuple(outline(network, own["bolt11"]).items()).__repr__()
    }
    for invoice in made:
        entry = listed[invoice["label"]]
        assert (entry["bolt11"], entry["payment_hash"]) == (invoice["bolt11"], invoice["payment_hash"])
        assert (entry["description"], entry["amount_msat"]) == ("One coffee", 21000)
        said = merchant.call("decode", invoice["bolt11"])
        assert (invoice["created_at"], invoice["expires_at"]) == (said["created_at"], entry["expires_at"])
        # The time runs from the moment at which the index was taken.
        assert 1234 - 60 < said["expiry"] <= 1234
    assert paid["status"] == "paid"
    assert merchant.call("reconcile", full=True)["agree"] is True


@each_number_of_callers
def test_preimage_under_a_foreign_label_costs_an_index_and_not_the_node(network: Network, callers: int) -> None:
    """Someone derived preimages of a code by hand and used some: the node lives on, their indexes are passed over."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee", "One coffee")
    root = RootKey.derive(bytes.fromhex(merchant.call("makesecret", string=SEED_LABEL)["secret"]), 0)
    for index in (1, 3, 11, 12, 40):
        take_by_hand(network, root, index)
    warm_up(network, callers)
    made = issue(network, 60, callers)

    assert {1, 3, 11, 12, 40}.isdisjoint(invoice["index"] for invoice in made)
    assert len({invoice["payment_hash"] for invoice in made}) == 60
    assert merchant.call("reconcile", full=True)["agree"] is True


@each_number_of_callers
def test_imported_code_beside_software_that_shares_its_key_does_not_harm_the_node(
    network: Network, callers: int
) -> None:
    """The other software takes the same hashes at the same time, under labels of its own: the node lives on."""
    merchant = network.merchant
    root = RootKey(bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"))
    merchant.call("paycode-create", label="coffee", root_key=root.secret_bytes.hex())
    warm_up(network, callers)

    def take(index: int) -> None:
        with suppress(RpcError):  # the plugin was there first
            take_by_hand(network, root, index)

    with ThreadPoolExecutor(4) as others:
        taking = [others.submit(take, index) for index in range(9, 90)]
        made = issue(network, 40, callers)
    for future in taking:
        future.result()

    assert len({invoice["payment_hash"] for invoice in made}) == 40
    assert merchant.call("reconcile", full=True)["agree"] is True


@each_number_of_callers
def test_answered_invoices_survive_the_death_of_the_node(network: Network, callers: int) -> None:
    """The node is killed while callers get invoices: every one that was answered is in its list afterwards."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee", "One coffee")
    warm_up(network, callers)
    answered: list[dict[str, Any]] = []

    def ask(_: int) -> None:
        try:
            answered.append(merchant.call("paycode-invoice", "coffee", 21000))
        except (RpcError, ConnectionLost, OSError, ValueError):
            return

    with ThreadPoolExecutor(callers) as pool:
        asking = [pool.submit(ask, number) for number in range(400)]
        poll_until(lambda: len(answered) > 60, 60.0, "no invoices are made")
        merchant.kill()
    for future in asking:
        future.result()
    merchant.start()
    listed = {entry["label"]: entry["bolt11"] for entry in merchant.call("listinvoices")["invoices"]}
    network.pay(answered[-1]["bolt11"])

    assert [invoice["label"] for invoice in answered if listed.get(invoice["label"]) != invoice["bolt11"]] == []
    assert merchant.call("reconcile", full=True)["agree"] is True


@each_number_of_callers
def test_node_that_refuses_the_quick_way_makes_invoices_one_by_one(network: Network, callers: int) -> None:
    """A refusal there is no refusal to a caller: the same index gets its invoice by the node's own command."""
    if not network.supports_faults:
        pytest.skip("a real node does not refuse")
    merchant = network.merchant
    merchant.call("paycode-create", "coffee", "One coffee")
    warm_up(network, callers)
    network.fault("createinvoice", "refuse", count=1)
    made = issue(network, 20, callers)
    merchant.wait_for_log("invoices are made one by one")

    assert sorted(invoice["index"] for invoice in made) == list(range(9, 29))
    assert merchant.call("reconcile", full=True)["agree"] is True


@each_number_of_callers
def test_answer_lost_on_the_quick_way_is_asked_for_again(network: Network, callers: int) -> None:
    """The invoice is made, its answer is lost with the connection: the caller gets that invoice, nothing is doubled."""
    if not network.supports_faults:
        pytest.skip("a real node loses no answer on demand")
    merchant = network.merchant
    merchant.call("paycode-create", "coffee", "One coffee")
    warm_up(network, callers)
    network.fault("createinvoice", "drop_after", count=1)
    made = issue(network, 20, callers)

    assert sorted(invoice["index"] for invoice in made) == list(range(9, 29))
    assert len(merchant.call("listinvoices")["invoices"]) == 28
    assert merchant.call("reconcile", full=True)["agree"] is True
