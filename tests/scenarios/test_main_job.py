"""The main job, as an operator does it: create, issue, get paid, be told, crash, reconcile."""

from __future__ import annotations

import hashlib
import hmac
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bolt11
import pytest
from coincurve import PublicKey
from network import Network
from network.daemon import poll_until
from receiving import Receiver
from recording import code_of, connected, error_of

METHODS = (
    "paycode-create",
    "paycode-update",
    "paycode-disable",
    "paycode-enable",
    "listpaycodes",
    "paycode-qr",
    "paycode-invoice",
    "listpaycodeinvoices",
    "paycode-wait",
    "paycode-verify",
    "webhook-add",
    "webhook-remove",
    "webhook-test",
    "listwebhooks",
    "listoutbox",
    "outbox-retry",
    "reconcile",
    "getpaycodesinfo",
)


def test_operator_creates_issues_is_paid_is_told_and_reconciles(network: Network) -> None:
    """The five steps of the README, the kill included: one payment, one event, one acknowledged delivery."""
    merchant = network.merchant
    with Receiver() as receiver:
        merchant.call("paycode-create", "coffee", "One coffee")
        receiver.secret = merchant.call("webhook-add", receiver.url)["secret"]
        first = merchant.call("paycode-invoice", "coffee", 21000)
        second = merchant.call("paycode-invoice", "coffee", 21000)
        network.pay(first["bolt11"])
        receiver.wait_for(1)
        merchant.kill_plugin()
        merchant.start_plugin()
        network.pay(second["bolt11"])
        receiver.wait_for(2)
        report = merchant.call("reconcile", full=True)
        (paycode,) = merchant.call("listpaycodes", "coffee")["paycodes"]
    told = {body["id"]: body["data"]["payment_hash"] for body in receiver.verified}

    assert (first["index"], second["index"]) == (1, 2)
    assert report["agree"] is True
    assert sorted(told.values()) == sorted([first["payment_hash"], second["payment_hash"]])
    assert (paycode["issued"], paycode["paid"], paycode["received_msat"]) == (2, 2, 42000)


def test_invoice_is_the_nodes_own_from_the_tweaked_preimage(shared_network: Network, unique: str) -> None:
    """The node lists the invoice under our label, and its hash is the one that the imported root key derives."""
    root = PublicKey.from_secret(hashlib.sha256(unique.encode()).digest()).format()
    merchant = shared_network.merchant
    paycode = merchant.call("paycode-create", label=unique, root_key=root.hex())
    invoice = merchant.call("paycode-invoice", unique, 5000)
    tweak = hmac.digest(root, (1).to_bytes(8, "big"), "sha256")
    preimage = hashlib.sha256(PublicKey(root).add(tweak).format()).digest()
    (entry,) = merchant.call("listinvoices", label=invoice["label"])["invoices"]
    decoded = bolt11.decode(invoice["bolt11"])

    assert paycode["paycode_id"] == hashlib.sha256(root).hexdigest()
    assert invoice["label"] == f"paycode/{paycode['paycode_id']}/1"
    assert invoice["payment_hash"] == hashlib.sha256(preimage).hexdigest() == entry["payment_hash"]
    assert (decoded.payment_hash, decoded.amount_msat) == (entry["payment_hash"], 5000)


def test_every_method_works_by_position_and_by_keyword_and_answers_check(shared_network: Network, unique: str) -> None:
    """The same call in both forms gives the same answer; `help` shows each method's usage."""
    merchant = shared_network.merchant
    merchant.call("paycode-create", unique, "A description", None, 1000, 2000)
    by_keyword = merchant.call("listpaycodes", paycode=unique)
    usages = {entry["command"].partition(" ")[0]: entry["command"] for entry in merchant.call("help")["help"]}

    assert merchant.call("listpaycodes", unique) == by_keyword
    assert by_keyword["paycodes"][0]["max_msat"] == 2000
    assert merchant.call("check", command_to_check="paycode-create", label="x") == {
        "command_to_check": "paycode-create"
    }
    assert code_of(merchant, "check", command_to_check="paycode-create") == -32602
    assert [name for name in METHODS if name not in usages] == []
    assert usages["paycode-invoice"].startswith("paycode-invoice paycode amount_msat [comment]")


def test_check_changes_nothing(shared_network: Network, unique: str) -> None:
    """`check paycode-create` says whether the parameters would do, and creates no paycode."""
    merchant = shared_network.merchant
    merchant.call("check", command_to_check="paycode-create", label=unique)

    assert code_of(merchant, "listpaycodes", unique) == 3101


def test_concurrent_calls_never_share_or_skip_an_index(shared_network: Network, unique: str) -> None:
    """64 calls from 16 callers get the indexes 1 to 64, each once, each with its own hash."""
    merchant = shared_network.merchant
    merchant.call("paycode-create", unique)
    with ThreadPoolExecutor(16) as pool:
        issued = list(pool.map(lambda _: merchant.call("paycode-invoice", unique, 1000), range(64)))

    assert sorted(invoice["index"] for invoice in issued) == list(range(1, 65))
    assert len({invoice["payment_hash"] for invoice in issued}) == 64


def test_concurrent_calls_with_one_idempotency_key_get_one_invoice(shared_network: Network, unique: str) -> None:
    """A caller that asks again, even at the same moment, gets the invoice that it got."""
    merchant = shared_network.merchant
    merchant.call("paycode-create", unique)
    ask = {"paycode": unique, "amount_msat": 1000, "idempotency_key": "order-7"}
    with ThreadPoolExecutor(8) as pool:
        issued = list(pool.map(lambda _: merchant.call("paycode-invoice", **ask), range(16)))
    (paycode,) = merchant.call("listpaycodes", unique)["paycodes"]

    assert {invoice["index"] for invoice in issued} == {1}
    assert len({invoice["bolt11"] for invoice in issued}) == 1
    assert paycode["next_index"] == 2
    assert code_of(merchant, "paycode-invoice", **{**ask, "amount_msat": 2000}) == 3112


def test_paycode_is_created_once(shared_network: Network, unique: str) -> None:
    """The same label with the same terms is the same code; with other terms it is refused and nothing changes."""
    merchant = shared_network.merchant
    first = merchant.call("paycode-create", unique, "One coffee")
    again = merchant.call("paycode-create", unique, "One coffee")
    refused = code_of(merchant, "paycode-create", unique, "Two coffees")

    assert (first["created"], again["created"]) == (True, False)
    assert again["paycode_id"] == first["paycode_id"]
    assert refused == 3102
    assert merchant.call("listpaycodes", unique)["paycodes"][0]["description"] == "One coffee"


def test_paycode_is_found_by_id_prefix_label_and_user(shared_network: Network, unique: str) -> None:
    """Every selector of the contract finds the code."""
    merchant = shared_network.merchant
    code = merchant.call("paycode-create", label=f"label {unique}", user=f"user-{unique}")
    selectors = (code["paycode_id"], code["paycode_id"][:12], code["label"], code["user"])
    found = [merchant.call("listpaycodes", selector)["paycodes"][0]["paycode_id"] for selector in selectors]

    assert found == [code["paycode_id"]] * 4


def test_terms_are_enforced_and_can_be_changed(shared_network: Network, unique: str) -> None:
    """Amount limits, comment length, unpaid limit and disabling hold for the next invoice, and only for it."""
    merchant = shared_network.merchant
    merchant.call("paycode-create", label=unique, min_msat=1000, max_msat=5000, comment_chars=3, max_pending=1)
    too_long = code_of(merchant, "paycode-invoice", unique, 1000, "four")
    merchant.call("paycode-invoice", unique, 1000, "caf")
    full = code_of(merchant, "paycode-invoice", unique, 1000)
    merchant.call("paycode-update", paycode=unique, max_pending=0, max_msat=6000, expiry=7200)
    wider = merchant.call("paycode-invoice", unique, 6000)
    merchant.call("paycode-disable", unique)
    disabled = code_of(merchant, "paycode-invoice", unique, 1000)
    merchant.call("paycode-enable", unique)

    assert (too_long, full, disabled) == (3105, 3106, 3103)
    assert code_of(merchant, "paycode-invoice", unique, 999) == 3104
    assert code_of(merchant, "paycode-invoice", unique, 6001) == 3104
    assert 7190 <= wider["expires_at"] - wider["created_at"] <= 7210
    assert merchant.call("paycode-invoice", unique, 1000)["index"] == 3


def test_comment_and_payer_data_reach_the_backend(network: Network) -> None:
    """What the payer left is in the invoice, in the list and in the event."""
    merchant = network.merchant
    merchant.call("paycode-create", "tips")
    left = {"comment": "danke schön", "payer_data": {"name": "Ada", "email": "ada@example.com"}}
    invoice = merchant.call("paycode-invoice", paycode="tips", amount_msat=4000, **left)
    network.pay(invoice["bolt11"])
    merchant.call("paycode-wait", "tips", 1, "paid", 30)
    (event,) = merchant.call("listoutbox")["events"]
    (row,) = merchant.call("listpaycodeinvoices", payment_hash=invoice["payment_hash"])["invoices"]

    for holder in (invoice, event["data"], row):
        assert {name: holder[name] for name in left} == left


def test_preimage_is_shown_only_once_settled(network: Network) -> None:
    """`paycode-verify` has no preimage before the payment and the right one after it."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee")
    invoice = merchant.call("paycode-invoice", "coffee", 1000)
    before = merchant.call("paycode-verify", invoice["payment_hash"])
    network.pay(invoice["bolt11"])
    merchant.call("paycode-wait", "coffee", 1, "paid", 30)
    after = merchant.call("paycode-verify", invoice["payment_hash"])

    assert before == {"settled": False, "preimage": None, "pr": invoice["bolt11"]}
    assert after["settled"] is True
    assert hashlib.sha256(bytes.fromhex(after["preimage"])).hexdigest() == invoice["payment_hash"]


def test_waiting_calls_block_nothing(network: Network) -> None:
    """With 40 parked waits and a hanging receiver, lists, issuing and a payment go on as if nothing was."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee")
    released = threading.Event()
    with Receiver(hold=released) as receiver, ThreadPoolExecutor(45) as pool:
        endpoint = merchant.call("webhook-add", receiver.url)["endpoint"]
        waits = [pool.submit(merchant.call, "paycode-wait", "coffee", 1, "paid", 60) for _ in range(40)]
        tests = [pool.submit(merchant.call, "webhook-test", endpoint) for _ in range(4)]
        invoice = merchant.call("paycode-invoice", "coffee", 1000)
        network.pay(invoice["bolt11"])
        answers = [wait.result(60) for wait in waits]
        listed = merchant.call("listpaycodes")
        released.set()
        tested = [test.result(60) for test in tests]

    assert {answer["status"] for answer in answers} == {"paid"}
    assert listed["paycodes"][0]["paid"] == 1
    assert all(answer["acknowledged"] for answer in tested)


def test_wait_answers_for_its_own_invoice_alone(shared_network: Network, unique: str) -> None:
    """A wait for an index that does not come is answered with 2000 at its time-out."""
    merchant = shared_network.merchant
    merchant.call("paycode-create", unique)
    merchant.call("paycode-invoice", unique, 1000)

    assert merchant.call("paycode-wait", unique, 1, "issued", 5)["index"] == 1
    assert code_of(merchant, "paycode-wait", unique, 2, "issued", 0.1) == 2000
    assert code_of(merchant, "paycode-wait", unique, 1, "paid", 0.1) == 2000


def test_lists_are_paged(shared_network: Network, unique: str) -> None:
    """`next_start` leads through all invoices, each once, and is null at the end."""
    merchant = shared_network.merchant
    merchant.call("paycode-create", unique)
    for _ in range(5):
        merchant.call("paycode-invoice", unique, 1000)
    seen, start = [], 0
    while start is not None:
        page = merchant.call("listpaycodeinvoices", paycode=unique, start=start, limit=2)
        seen += [row["index"] for row in page["invoices"]]
        start = page["next_start"]

    assert seen == [1, 2, 3, 4, 5]


def test_outgoing_payments_are_told(network: Network) -> None:
    """A payment that this node makes is told as sent, one that fails for good as failed, each once."""
    merchant = network.merchant
    sent = network.pay_out(10_000)
    failed = network.pay_out(10_000, fail=True)

    def told() -> dict[str, str]:
        events = merchant.call("listoutbox")["events"]
        return {event["type"]: event["data"]["payment_hash"] for event in events}

    poll_until(lambda: len(told()) == 2, 60.0, f"not both payments were told: {told()}")

    assert told() == {"payment.sent": sent, "payment.failed": failed}


@pytest.mark.parametrize(
    ("method", "arguments", "code", "word"),
    [
        ("paycode-create", {}, -32602, "label"),
        ("paycode-create", {"label": "a\x00b"}, -32602, "label"),
        ("paycode-create", {"label": "x" * 10_000}, -32602, "label"),
        ("paycode-create", {"label": ""}, -32602, "label"),
        ("paycode-create", {"label": ["list"]}, -32602, "label"),
        ("paycode-create", {"label": "l", "description": "d" * 640}, -32602, "description"),
        ("paycode-create", {"label": "l", "user": "Not A User"}, -32602, "user"),
        ("paycode-create", {"label": "l", "min_msat": -1}, -32602, "min_msat"),
        ("paycode-create", {"label": "l", "max_msat": 10**30}, -32602, "max_msat"),
        ("paycode-create", {"label": "l", "min_msat": 10, "max_msat": 9}, -32602, "max_msat"),
        ("paycode-create", {"label": "l", "expiry": -1}, -32602, "expiry"),
        ("paycode-create", {"label": "l", "expiry": 2**60}, -32602, "expiry"),
        ("paycode-create", {"label": "l", "expiry": 0}, -32602, "expiry"),
        ("paycode-create", {"label": "l", "issue": "sometimes"}, -32602, "issue"),
        ("paycode-create", {"label": "l", "hold": "maybe"}, -32602, "hold"),
        ("paycode-create", {"label": "l", "root_key": "00" * 33}, -32602, "root_key"),
        ("paycode-create", {"label": "l", "webhook": "ftp://x"}, -32602, "webhook"),
        ("paycode-create", {"label": "l", "webhook": "http://%SHOP%/paid"}, -32602, "webhook"),
        ("paycode-create", {"label": "l", "colour": "red"}, -32602, "colour"),
        ("paycode-invoice", {"paycode": "no-such-code", "amount_msat": 1}, 3101, "no-such-code"),
        ("paycode-invoice", {"paycode": "{code}", "amount_msat": -1}, -32602, "amount_msat"),
        ("paycode-invoice", {"paycode": "{code}", "amount_msat": 0}, 3104, "amount_msat"),
        ("paycode-invoice", {"paycode": "{code}", "amount_msat": "many"}, -32602, "amount_msat"),
        ("paycode-invoice", {"paycode": "{code}", "amount_msat": 10**40}, -32602, "amount_msat"),
        ("paycode-invoice", {"paycode": "{code}", "amount_msat": 1.5}, -32602, "amount_msat"),
        ("paycode-invoice", {"paycode": "{code}", "amount_msat": True}, -32602, "amount_msat"),
        ("paycode-invoice", {"paycode": "{code}", "amount_msat": 1, "comment": "c" * 500}, 3105, "comment"),
        ("paycode-invoice", {"paycode": "{code}", "amount_msat": 1, "payer_data": "{"}, -32602, "payer_data"),
        ("paycode-invoice", {"paycode": "{code}", "amount_msat": 1, "idempotency_key": ""}, -32602, "key"),
        ("paycode-update", {"paycode": "no-such-code"}, 3101, "no-such-code"),
        ("paycode-verify", {"payment_hash": "00"}, -32602, "payment_hash"),
        ("paycode-verify", {"payment_hash": "00" * 32}, 3107, "payment hash"),
        ("paycode-wait", {"paycode": "{code}", "index": 0}, -32602, "index"),
        ("paycode-wait", {"paycode": "{code}", "index": 1, "timeout": "soon"}, -32602, "timeout"),
        ("listpaycodeinvoices", {"limit": 0}, -32602, "limit"),
        ("listpaycodeinvoices", {"status": "lost"}, -32602, "status"),
        ("listoutbox", {"type": "invoice.payed"}, -32602, "type"),
        ("webhook-add", {"url": "ftp://example.com/x"}, -32602, "url"),
        ("webhook-add", {"url": "http://"}, -32602, "url"),
        ("webhook-add", {"url": "http://user:pw@example.com/"}, -32602, "url"),
        ("webhook-add", {"url": "http://example.com/", "events": ["invoice.lost"]}, -32602, "events"),
        ("webhook-add", {"url": "http://example.com/", "secret": "short"}, -32602, "secret"),
        ("webhook-remove", {"endpoint": "ep_none"}, 3110, "ep_none"),
        ("webhook-test", {"endpoint": "ep_none"}, 3110, "ep_none"),
        ("outbox-retry", {"event": "evt_none"}, -32602, "event"),
        ("reconcile", {"full": "perhaps"}, -32602, "full"),
    ],
)
def test_bad_input_gets_a_code_and_a_sentence_and_changes_nothing(
    shared_network: Network, unique: str, method: str, arguments: dict[str, Any], code: int, word: str
) -> None:
    """Each mistake is named, no answer holds a traceback or a secret, and the plugin's state is what it was."""
    merchant = shared_network.merchant
    merchant.call("paycode-create", unique)
    given = {name: value.replace("{code}", unique) if value == "{code}" else value for name, value in arguments.items()}

    def state() -> Any:
        codes = [code for code in merchant.call("listpaycodes")["paycodes"] if code["label"] in (unique, "l")]
        return codes, merchant.call("listwebhooks"), merchant.call("listpaycodeinvoices", paycode=unique)

    before = state()
    error = error_of(merchant, method, **given)

    assert error["code"] == code
    assert word in error["message"]
    assert "Traceback" not in str(error)
    assert "traceback" not in error
    assert state() == before


@pytest.mark.parametrize("call", [r'"listpaycodes", "params": {"\ud800": 1}', r'"listpaycodes", "params": ["\ud800"]'])
def test_text_that_is_no_unicode_ends_nothing(shared_network: Network, call: str) -> None:
    """Half of a surrogate pair in a name or a value is refused like any mistake, and the plugin goes on."""
    plugin = shared_network.merchant.plugin_pid()
    with connected(shared_network.merchant) as (send, receive):
        send('{"jsonrpc": "2.0", "id": "half", "method": ' + call + "}")
        answer = next(receive)

    assert answer["error"]["code"] == -32602
    assert shared_network.merchant.plugin_pid() == plugin


def test_unreachable_webhook_is_named_by_its_test(shared_network: Network) -> None:
    """An endpoint may be added before its receiver runs; `webhook-test` says that no one answers there."""
    merchant = shared_network.merchant
    endpoint = merchant.call("webhook-add", "http://127.0.0.1:1/nobody")["endpoint"]
    error = error_of(merchant, "webhook-test", endpoint)
    merchant.call("webhook-remove", endpoint)

    assert error["code"] == 3113
    assert "refused" in error["message"]
