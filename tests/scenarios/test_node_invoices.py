"""What paycodes relies on about invoices, on every kind of node."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cln_paycodes.core.bolt11 import CURRENCIES, UnsignedInvoice, encode, features_from, timestamp_of
from cln_paycodes.core.keys import payment_secret_of
from network import Node
from pyln.client import RpcError
from recording import code_of, error_of

#: The shapes of an invoice that a paycode hands out.
SIGNED_TERMS = [
    {"amount_msat": 123_457, "description": "a tea \u2615", "expiry": 604_800, "cltv": 18},
    {"amount_msat": 21_000_000, "description": "x" * 5000, "deschashonly": True, "expiry": 60, "cltv": 144},
    {"amount_msat": "any", "description": "", "expiry": 1, "cltv": 1},
    {"amount_msat": 10**11, "description": "d" * 639, "expiry": 86_400, "cltv": 65_535},
]


def listed(node: Node, label: str) -> dict[str, Any]:
    [invoice] = node.call("listinvoices", label=label)["invoices"]
    return invoice


def test_invoice_answers_with_what_was_stored(node: Node, unique: str) -> None:
    """The answer names the invoice that listinvoices shows, unpaid and never updated."""
    before = int(time.time())
    answer = node.call("invoice", 1234, unique, "a tea", 600)
    invoice = listed(node, unique)

    assert set(answer) >= {"payment_hash", "expires_at", "bolt11", "payment_secret", "created_index"}
    assert set(invoice) == {
        "label",
        "bolt11",
        "payment_hash",
        "amount_msat",
        "status",
        "description",
        "expires_at",
        "created_index",
    }
    assert invoice["status"] == "unpaid"
    assert invoice["amount_msat"] == 1234
    assert {k: answer[k] for k in ("payment_hash", "bolt11", "expires_at", "created_index")} == {
        k: invoice[k] for k in ("payment_hash", "bolt11", "expires_at", "created_index")
    }
    assert before + 600 <= invoice["expires_at"] <= int(time.time()) + 600


def test_decoded_invoice_has_the_terms_and_the_secret_of_its_preimage(node: Node, unique: str) -> None:
    """payment_secret is SHA256 of the preimage with the lowest bit of its first byte flipped."""
    preimage = os.urandom(32)
    secret = hashlib.sha256(bytes([preimage[0] ^ 1]) + preimage[1:]).hexdigest()
    answer = node.call(
        "invoice", amount_msat=5000, label=unique, description="d", preimage=preimage.hex(), expiry=77, cltv=33
    )
    decoded = node.call("decode", answer["bolt11"])

    assert answer["payment_secret"] == decoded["payment_secret"] == secret
    assert decoded["payment_hash"] == hashlib.sha256(preimage).hexdigest()
    assert decoded["type"] == "bolt11 invoice"
    assert decoded["valid"] is True
    assert decoded["currency"] == "bcrt"
    assert decoded["payee"] == node.call("getinfo")["id"]
    assert decoded["features"] == "02024100"
    wanted = {"expiry": 77, "min_final_cltv_expiry": 33, "amount_msat": 5000, "description": "d"}
    assert {name: decoded[name] for name in wanted} == wanted


def test_any_amount_has_no_amount(node: Node, unique: str) -> None:
    """amount_msat is absent from an invoice for any amount."""
    answer = node.call("invoice", "any", unique, "d")

    assert "amount_msat" not in listed(node, unique)
    assert "amount_msat" not in node.call("decode", answer["bolt11"])


def test_duplicate_label_is_900_and_keeps_the_first(node: Node, unique: str) -> None:
    """A label is given out once."""
    first = node.call("invoice", 1000, unique, "d")
    error = error_of(node, "invoice", 2000, unique, "other")

    assert error == {"code": 900, "message": f"Duplicate label '{unique}'"}
    assert listed(node, unique)["bolt11"] == first["bolt11"]


def test_duplicate_preimage_is_901_even_under_the_same_label(node: Node, unique: str) -> None:
    """The preimage is looked at before the label."""
    preimage = os.urandom(32).hex()
    node.call("invoice", amount_msat=1, label=unique, description="d", preimage=preimage)

    for label in (unique, unique + "/2"):
        error = error_of(node, "invoice", amount_msat=1, label=label, description="d", preimage=preimage)
        assert error == {"code": 901, "message": "preimage already used"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"amount_msat": 0}, "amount_msat: should be positive msat or 'any'"),
        ({"amount_msat": -1}, "amount_msat: should be positive msat or 'any'"),
        ({"amount_msat": "x"}, "amount_msat: should be positive msat or 'any'"),
        ({"label": ["a"]}, "label: should be a string or number"),
        ({"description": 5}, "description: should be a string (without \\u)"),
        ({"expiry": "soon"}, "expiry: should be an unsigned 64 bit integer"),
        ({"preimage": "00"}, "preimage: should be 64 hex digits"),
        ({"deschashonly": "maybe"}, "deschashonly: should be 'true' or 'false'"),
        ({"nonsense": 1}, "unknown parameter: nonsense"),
    ],
)
def test_bad_parameters_are_named(node: Node, unique: str, given: dict[str, Any], named: str) -> None:
    """-32602, and the message begins with the parameter."""
    good = {"amount_msat": 1000, "label": unique, "description": "d"}
    error = error_of(node, "invoice", **(good | given))

    assert error["code"] == -32602
    assert error["message"].startswith(named)


def test_missing_and_excess_parameters_are_refused(node: Node, unique: str) -> None:
    """By position as well as by name."""
    assert error_of(node, "invoice", 1000, unique) == {
        "code": -32602,
        "message": "missing required parameter: description",
    }
    assert error_of(node, "deldatastore", ["k"], 0, "more") == {
        "code": -32602,
        "message": "too many parameters: got 3, expected 2",
    }


@pytest.mark.parametrize("amount", ["3000msat", "3sat", "3000", 3000, "0.00000003btc"])
def test_amounts_have_several_spellings(node: Node, unique: str, amount: Any) -> None:
    """All of them are 3000 msat."""
    node.call("invoice", amount, unique, "d")

    assert listed(node, unique)["amount_msat"] == 3000


def test_label_of_128_bytes_is_the_longest(node: Node, unique: str) -> None:
    """Counted in UTF-8 after JSON escaping."""
    longest = unique + "x" * (128 - len(unique))
    node.call("invoice", 1, longest, "d")

    assert listed(node, longest)["label"] == longest
    error = error_of(node, "invoice", 1, longest + "x", "d")
    assert error == {"code": -32602, "message": f"Label '{longest}x' over 128 bytes"}
    assert code_of(node, "invoice", 1, longest[:-2] + '""', "d") == -32602


def test_label_keeps_its_characters(node: Node, unique: str) -> None:
    """Quotes, backslashes and letters beyond ASCII come back as they were."""
    label = f'{unique} "é\\/'
    node.call("invoice", 1, label, "d")

    assert listed(node, label)["label"] == label


def test_number_and_string_are_the_same_label(node: Node) -> None:
    """A label may be a number; it is its text."""
    number = time.time_ns()
    node.call("invoice", 1, number, "d")

    assert listed(node, str(number))["label"] == str(number)
    assert code_of(node, "invoice", 1, str(number), "d") == 900


def test_long_description_needs_deschashonly(node: Node, unique: str) -> None:
    """639 bytes fit an invoice; the hash of a longer one does, and the node keeps the text."""
    node.call("invoice", 1, unique, "d" * 639)
    error = error_of(node, "invoice", 1, unique + "/2", "d" * 640)
    text = "d" * 2000
    hashed = node.call("invoice", amount_msat=1, label=unique + "/3", description=text, deschashonly=True)
    decoded = node.call("decode", hashed["bolt11"])

    assert error["code"] == -32602
    assert error["message"].startswith("Description greater than 639 bytes")
    assert decoded["description_hash"] == hashlib.sha256(text.encode()).hexdigest()
    assert "description" not in decoded
    assert listed(node, unique + "/3")["description"] == text


def test_lookups_by_label_hash_and_string_agree(node: Node, unique: str) -> None:
    """One selector at a time; what is unknown is an empty list, not an error."""
    node.call("invoice", 1000, unique, "d")
    invoice = listed(node, unique)
    by_hash = node.call("listinvoices", payment_hash=invoice["payment_hash"])["invoices"]
    by_string = node.call("listinvoices", invstring=invoice["bolt11"])["invoices"]

    assert by_hash == by_string == [invoice]
    assert node.call("listinvoices", label=unique + "/none")["invoices"] == []
    assert node.call("listinvoices", payment_hash="00" * 32)["invoices"] == []
    assert code_of(node, "listinvoices", label=unique, payment_hash=invoice["payment_hash"]) == -32602


def test_start_and_limit_need_an_index(node: Node) -> None:
    """-32602, and says so."""
    assert error_of(node, "listinvoices", start=1)["message"] == "Can only specify {start} with {index}"
    assert error_of(node, "listinvoices", limit=1)["message"] == "Can only specify {limit} with {index}"
    assert error_of(node, "listinvoices", index="paid")["message"].startswith("index: unknown index")


def test_pages_by_created_index_are_complete_and_in_order(node: Node, unique: str) -> None:
    """start is inclusive; index=deleted silently acts as created."""
    numbers = [node.call("invoice", 1, f"{unique}/{i}", "d")["created_index"] for i in range(5)]
    pages: list[int] = []
    start = numbers[0]
    while page := node.call("listinvoices", index="created", start=start, limit=2)["invoices"]:
        pages += [invoice["created_index"] for invoice in page]
        start = pages[-1] + 1

    assert numbers == sorted(numbers)
    assert pages == numbers
    deleted = node.call("listinvoices", index="deleted", start=numbers[0], limit=2)["invoices"]
    assert [invoice["created_index"] for invoice in deleted] == numbers[:2]


def test_racing_identical_invoices_have_one_winner(node: Node, unique: str) -> None:
    """Of many callers with the same label exactly one is told that it made the invoice."""

    def create(_: int) -> Any:
        try:
            return node.call("invoice", 1000, unique, "d")["payment_hash"]
        except RpcError as error:
            return error.error["code"]

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(create, range(16)))

    winners = [outcome for outcome in outcomes if outcome != 900]
    assert winners == [listed(node, unique)["payment_hash"]]


def test_wrong_status_keeps_an_invoice_from_being_deleted(node: Node, unique: str) -> None:
    """906 with both statuses; 905 for an unknown label."""
    node.call("invoice", 1, unique, "d")
    error = error_of(node, "delinvoice", unique, "paid")

    assert error == {
        "code": 906,
        "message": "Invoice status is unpaid not paid",
        "data": {"current_status": "unpaid", "expected_status": "paid"},
    }
    assert error_of(node, "delinvoice", unique + "/none", "unpaid") == {
        "code": 905,
        "message": "Unknown invoice",
    }


def test_deleted_invoice_can_be_made_again(node: Node, unique: str) -> None:
    """The same label and preimage are free again, under a new index."""
    terms = {"amount_msat": 1, "label": unique, "description": "d", "preimage": os.urandom(32).hex()}
    first = node.call("invoice", **terms)
    deleted = node.call("delinvoice", unique, "unpaid")
    second = node.call("invoice", **terms)

    assert deleted["label"] == unique
    assert deleted["status"] == "unpaid"
    assert second["payment_hash"] == first["payment_hash"]
    assert second["created_index"] > first["created_index"]


def test_description_alone_can_be_deleted(node: Node, unique: str) -> None:
    """It counts as an update; a second time it is 908."""
    node.call("invoice", 1, unique, "secret")
    node.call("delinvoice", label=unique, status="unpaid", desconly=True)
    invoice = listed(node, unique)

    assert "description" not in invoice
    assert invoice["updated_index"] > 0
    assert code_of(node, "delinvoice", label=unique, status="unpaid", desconly=True) == 908


def test_signinvoice_signs_what_another_key_signed(node: Node, unique: str) -> None:
    """The signature that an invoice comes with is not looked at; ours is over the same fields."""
    bolt11 = node.call("invoice", 4321, unique, "d")["bolt11"]
    broken = bolt11[:-20] + "q" * 14
    resigned = node.call("signinvoice", _with_checksum(broken))["bolt11"]

    assert node.call("decode", resigned) == node.call("decode", bolt11)
    assert node.call("listinvoices", label=unique + "/none")["invoices"] == []


def _with_checksum(bolt11: str) -> str:
    """The string with the checksum that fits it (BOLT 11 strings are bech32)."""
    from bech32 import CHARSET, bech32_encode

    prefix, _, data = bolt11.rpartition("1")
    return str(bech32_encode(prefix, [CHARSET.index(letter) for letter in data]))


@pytest.mark.parametrize("terms", SIGNED_TERMS)
def test_string_of_ours_is_signed_into_the_nodes_own(node: Node, unique: str, terms: dict[str, Any]) -> None:
    """signinvoice makes of an unsigned string of ours byte for byte what `invoice` gives for the same terms."""
    preimage = os.urandom(32)
    made = node.call("invoice", label=unique, preimage=preimage.hex(), **terms)
    info = node.call("getinfo")
    description = terms["description"].encode()
    ours = UnsignedInvoice(
        currency=CURRENCIES[info["network"]],
        amount_msat=None if terms["amount_msat"] == "any" else terms["amount_msat"],
        timestamp=timestamp_of(made["bolt11"]),
        payment_hash=hashlib.sha256(preimage).digest(),
        payment_secret=payment_secret_of(preimage),
        description=hashlib.sha256(description).digest() if terms.get("deschashonly") else terms["description"],
        expiry_s=terms["expiry"],
        min_final_cltv_expiry_delta=terms["cltv"],
        features=features_from(info["our_features"]["invoice"]),
    )

    assert node.call("signinvoice", encode(ours))["bolt11"] == made["bolt11"]


def test_createinvoice_stores_a_signed_invoice(node: Node, unique: str) -> None:
    """With the right preimage only, and not with a description hash alone."""
    preimage = os.urandom(32).hex()
    terms = {"amount_msat": 7, "label": unique, "description": "d", "preimage": preimage}
    bolt11 = node.call("invoice", **terms)["bolt11"]
    hashed = node.call("invoice", **(terms | {"label": unique + "/h", "preimage": "11" * 32, "deschashonly": True}))
    node.call("delinvoice", unique, "unpaid")
    node.call("delinvoice", unique + "/h", "unpaid")
    created = node.call("createinvoice", bolt11, unique, preimage)
    wrong = error_of(node, "createinvoice", bolt11, unique + "/w", "22" * 32)
    no_text = error_of(node, "createinvoice", hashed["bolt11"], unique + "/h", "11" * 32)
    again = error_of(node, "createinvoice", bolt11, unique, preimage)

    assert created == listed(node, unique)
    assert wrong == {"code": -32602, "message": "Incorrect preimage"}
    assert no_text == {"code": -32602, "message": "Missing description in invoice"}
    assert again == {"code": 900, "message": "Duplicate label", "data": created}
