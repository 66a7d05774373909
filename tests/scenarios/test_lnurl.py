"""LNURL-pay and lightning addresses, spoken by wallets that others wrote."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import bolt11
import httpx
import pytest
from network import KINDS
from network.daemon import poll_until
from serving import Shop, opened_shop

DESCRIPTION = 'Tea "green" \\ back 🍵\nA second line'


@pytest.fixture(scope="module", params=KINDS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """No rate limit: the tests come from one address."""
    directory = tmp_path_factory.mktemp(f"lnurl-{request.param}")
    with opened_shop(request.param, directory, paycodes_rate_limit=0) as opened:
        yield opened


def callback_of(shop: Shop, paycode: dict[str, Any]) -> str:
    return str(shop.get(f"/lnurlp/{paycode['paycode_id']}")["callback"])


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("form", ["lnurl", "lnurlp", "lightning_address"])
def test_a_wallet_resolves_fetches_verifies_and_pays(shop: Shop, unique: str, form: str) -> None:
    """The lnurl package takes a code in each of its forms; its money arrives, and it can prove so."""
    lnurl = pytest.importorskip("lnurl")
    paycode = shop.create(unique, user=unique, description=DESCRIPTION, min_msat=1000, max_msat=100_000_000)
    if form == "lightning_address":
        # LUD-16 is https on port 443 outside of Tor: the wallet computes the path, the test connects.
        address = lnurl.LnAddress(f"{unique}@shop.example")
        offered = asyncio.run(lnurl.get(f"{shop.url}{address.url.path}"))
    else:
        offered = asyncio.run(lnurl.handle(paycode[form]))
    assert isinstance(offered, lnurl.LnurlPayResponse)

    paid = asyncio.run(lnurl.execute_pay_request(offered, 21_000, comment="for here"))
    invoice = bolt11.decode(str(paid.pr))
    shop.network.pay(str(paid.pr))
    event = shop.wait_for_event(invoice.payment_hash)
    verified = shop.get(str(paid.verify))

    assert offered.metadata.text == 'Tea "green" \\ back 🍵'
    assert dict(offered.metadata.list())["text/long-desc"] == DESCRIPTION
    assert dict(offered.metadata.list())["text/identifier"] == paycode["lightning_address"]
    assert invoice.description_hash == offered.metadata.h
    assert invoice.amount_msat == 21_000
    assert paid.successAction is not None
    assert paid.disposable is False
    assert event["comment"] == "for here"
    assert event["received_msat"] == 21_000
    assert verified["settled"] is True
    assert hashlib.sha256(bytes.fromhex(verified["preimage"])).hexdigest() == invoice.payment_hash


def test_all_forms_of_a_code_lead_to_the_same_place(shop: Shop, unique: str) -> None:
    """Address, bech32 LNURL and lnurlp: give byte for byte the same answer, and the URL is as published."""
    lnurl = pytest.importorskip("lnurl")
    paycode = shop.create(unique, user=unique)
    answers = [
        shop.http.get(f"/.well-known/lnurlp/{unique}").content,
        shop.http.get(f"/.well-known/lnurlp/{unique.upper()}").content,
        shop.http.get(lnurl.decode(paycode["lnurl"]).url.unicode_string()).content,
        shop.http.get(lnurl.decode(paycode["lnurlp"]).url.unicode_string()).content,
    ]

    assert len(set(answers)) == 1
    assert paycode["url"] == f"{shop.url}/pay/{unique}"


def test_verify_keeps_the_preimage_until_the_payment(shop: Shop, unique: str) -> None:
    """LUD-21: unsettled and null before, settled with the preimage after, an error for a stranger's hash."""
    paycode = shop.create(unique)
    answer = shop.get(callback_of(shop, paycode), amount=5000)
    before = shop.get(answer["verify"])
    shop.network.pay(answer["pr"])
    shop.wait_for_event(bolt11.decode(answer["pr"]).payment_hash)
    after = shop.get(answer["verify"])
    unknown = shop.get(f"/verify/{hash_of(unique)}")

    assert before == {"status": "OK", "settled": False, "preimage": None, "pr": answer["pr"]}
    assert after["settled"] is True
    assert len(after["preimage"]) == 64
    assert unknown["status"] == "ERROR"


def test_payer_data_is_in_the_hash_in_the_invoice_and_in_the_event(shop: Shop, unique: str) -> None:
    """LUD-18: the raw JSON follows the metadata in what the invoice commits to."""
    paycode = shop.create(unique)
    offered = shop.get(f"/lnurlp/{paycode['paycode_id']}")
    raw = '{"name": "Zoë \\"Z\\"", "email":"zoe@example.com"}'
    answer = shop.get(offered["callback"], amount=5000, payerdata=raw)
    invoice = bolt11.decode(answer["pr"])
    shop.network.pay(answer["pr"])
    event = shop.wait_for_event(invoice.payment_hash)
    (row,) = shop.call("listpaycodeinvoices", unique)["invoices"]

    assert invoice.description_hash == hash_of(offered["metadata"] + raw)
    assert event["payer_data"] == row["payer_data"] == {"name": 'Zoë "Z"', "email": "zoe@example.com"}


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": "1e3"},
        {"amount": "1000.5"},
        {"amount": "999"},
        {"amount": "10001"},
        {"amount": "99999999999999999999999"},
        {"amount": "5000", "comment": "123456"},
        {"amount": "5000", "comment": "a\u202eb"},
        {"amount": "5000", "payerdata": "nonsense"},
        {"amount": "5000", "payerdata": "[]"},
        {"amount": "5000", "payerdata": '{"auth":{}}'},
        {"amount": "5000", "payerdata": '{"email":"nobody"}'},
        {"amount": "5000", "payerdata": '{"name":' + '"x"' * 2000 + "}"},
    ],
    ids=lambda query: json.dumps(query)[:40],
)
def test_what_breaks_a_limit_is_refused_and_makes_no_invoice(shop: Shop, query: dict[str, str]) -> None:
    """Limits hold on the callback, not only in what is advertised; the reason names what is wrong."""
    paycode = shop.create("limits", min_msat=1000, max_msat=10_000, comment_chars=5)
    before = shop.issued("limits")
    answer = shop.get(callback_of(shop, paycode), **query)

    assert answer["status"] == "ERROR"
    assert answer["reason"].split(":")[0].split()[0] in {"amount", "comment", "payerdata"}
    assert shop.issued("limits") == before


def test_comments_are_counted_in_characters(shop: Shop, unique: str) -> None:
    """LUD-12: five emoji are five characters, however many bytes."""
    paycode = shop.create(unique, comment_chars=5)
    answer = shop.get(callback_of(shop, paycode), amount=5000, comment="🍵🍵🍵🍵🍵")
    (row,) = shop.call("listpaycodeinvoices", unique)["invoices"]

    assert "pr" in answer
    assert row["comment"] == "🍵🍵🍵🍵🍵"


def test_comments_are_not_offered_where_none_are_taken(shop: Shop, unique: str) -> None:
    """LUD-12: commentAllowed is absent for a code without comments."""
    offered = shop.get(f"/lnurlp/{shop.create(unique, comment_chars=0)['paycode_id']}")

    assert "commentAllowed" not in offered


def test_only_a_get_of_the_callback_makes_an_invoice(shop: Shop, unique: str) -> None:
    """Resolving, HEAD and OPTIONS leave nothing behind; other methods are refused."""
    paycode = shop.create(unique, user=unique)
    callback = callback_of(shop, paycode)
    answers = [
        shop.http.get(f"/.well-known/lnurlp/{unique}").status_code,
        shop.http.head(f"/.well-known/lnurlp/{unique}").status_code,
        shop.http.head(callback, params={"amount": 5000}).status_code,
        shop.http.options(callback, params={"amount": 5000}).status_code,
        shop.http.post(callback, params={"amount": 5000}).status_code,
    ]

    assert answers == [200, 200, 200, 204, 405]
    assert shop.issued(unique) == 0


@pytest.mark.parametrize("path", ["/.well-known/lnurlp/nobody", "/verify/nothing"])
def test_any_web_page_may_ask(shop: Shop, path: str) -> None:
    """CORS is open on answers, errors and preflights alike."""
    origin = {"Origin": "https://wallet.example"}
    answer = shop.http.get(path, headers=origin)
    preflight = shop.http.options(path, headers={**origin, "Access-Control-Request-Method": "GET"})

    assert answer.json()["status"] == "ERROR"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "GET" in preflight.headers["access-control-allow-methods"]


def test_a_disabled_code_is_refused_until_it_is_enabled(shop: Shop, unique: str) -> None:
    """Both steps say that the code is closed, and work again afterwards."""
    paycode = shop.create(unique)
    callback = callback_of(shop, paycode)
    shop.call("paycode-disable", unique)
    closed = [shop.get(f"/lnurlp/{paycode['paycode_id']}"), shop.get(callback, amount=5000)]
    shop.call("paycode-enable", unique)

    assert {answer["status"] for answer in closed} == {"ERROR"}
    assert "pr" in shop.get(callback, amount=5000)


def test_unpaid_invoices_are_limited(shop: Shop, unique: str) -> None:
    """`max_pending` unpaid invoices, and room again when one is paid."""
    callback = callback_of(shop, shop.create(unique, max_pending=2))
    first, _, third = (shop.get(callback, amount=5000) for _ in range(3))
    shop.network.pay(first["pr"])
    shop.wait_for_event(bolt11.decode(first["pr"]).payment_hash)

    assert third["status"] == "ERROR"
    assert "pr" in shop.get(callback, amount=5000)


def test_labels_are_not_names_for_payers(shop: Shop, unique: str) -> None:
    """A label is the operator's own, and so is the reason that mentions it."""
    paycode = shop.create(f"secret-{unique}", max_msat=1000)
    by_label = shop.get(f"/.well-known/lnurlp/secret-{unique}")
    refused = shop.get(callback_of(shop, paycode), amount=5000)
    by_prefix = shop.get(f"/lnurlp/{paycode['paycode_id'][:16]}")

    assert {answer["status"] for answer in (by_label, refused, by_prefix)} == {"ERROR"}
    assert "secret" not in refused["reason"]


def test_an_invoice_that_is_issued_again_keeps_its_hash(shop: Shop, unique: str) -> None:
    """What was deleted at the node comes back for the same payer, whatever the code says by now."""
    paycode = shop.create(unique, description=DESCRIPTION)
    answer = shop.get(callback_of(shop, paycode), amount=5000, payerdata='{"name":"Al"}')
    (row,) = shop.call("listpaycodeinvoices", unique)["invoices"]
    shop.call("paycode-update", paycode=unique, description="Something else")
    shop.call("delinvoice", row["label"], "unpaid")
    shop.call("reconcile", full=True)
    (again,) = shop.call("listinvoices", label=row["label"])["invoices"]

    assert bolt11.decode(again["bolt11"]).description_hash == bolt11.decode(answer["pr"]).description_hash
    assert bolt11.decode(again["bolt11"]).payment_hash == row["payment_hash"]


def test_a_header_without_end_is_cut_off(shop: Shop) -> None:
    """A request of megabytes is refused; the server goes on."""
    try:
        status = shop.http.get("/verify/x", headers={"X-Padding": "x" * 2_000_000}).status_code
    except httpx.HTTPError:
        status = None  # cut off before it could be read

    assert status in (None, 431)
    assert shop.http.get("/healthz").json() == {"status": "ok"}


def test_wallet_that_pays_a_held_code_learns_when_it_is_settled(shop: Shop, unique: str) -> None:
    """The callback hands out a held invoice; verify says nothing of the preimage before the operator has settled."""
    paycode = shop.create(unique, hold=True, min_msat=1000, max_msat=100_000)
    invoice = shop.get(callback_of(shop, paycode), amount=40_000)
    payment_hash = bolt11.decode(invoice["pr"]).payment_hash
    payment = shop.network.pay_in_background(invoice["pr"])
    poll_until(lambda: bool(shop.call("listholds", payment_hash)["holds"]), 30.0, "it was not held")
    held = shop.get(invoice["verify"])
    shop.call("hold-settle", payment_hash)
    preimage = payment.result(60)["payment_preimage"]
    settled = shop.get(invoice["verify"])

    assert (held["settled"], held["preimage"]) == (False, None)
    assert (settled["settled"], settled["preimage"]) == (True, preimage)


@pytest.mark.parametrize("length", [20, 500, 620], ids=["short", "long", "longer than an invoice holds"])
def test_quick_invoice_of_a_wallet_commits_to_its_metadata(shop: Shop, length: int) -> None:
    """The invoice has the hash and not the text, whatever its length; the node lists the text."""
    user = f"quick-{length}"
    shop.create(user, description="x" * length, user=user)
    path = f"/.well-known/lnurlp/{user}"
    metadata = shop.get(path)["metadata"]
    made = [shop.get(f"{path}/callback", amount=21000)["pr"] for _ in range(12)]
    decoded = [shop.call("decode", bolt11) for bolt11 in made]
    listed = [shop.call("listinvoices", invstring=bolt11)["invoices"][0] for bolt11 in made]

    assert {entry["description_hash"] for entry in decoded} == {hashlib.sha256(metadata.encode()).hexdigest()}
    assert not any("description" in entry for entry in decoded)
    assert {entry["description"] for entry in listed} == {metadata}
