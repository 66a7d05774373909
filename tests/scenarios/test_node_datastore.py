"""What paycodes relies on about the datastore and the node's secrets, on every kind of node."""

from __future__ import annotations

import pytest
from network import Node
from recording import code_of, error_of


def test_must_create_is_the_default(node: Node, unique: str) -> None:
    """1202 if the key exists; a new one starts at generation 0."""
    created = node.call("datastore", key=["parity", unique], string="é")

    assert created == {"key": ["parity", unique], "generation": 0, "hex": "c3a9", "string": "é"}
    assert error_of(node, "datastore", key=["parity", unique], string="x") == {
        "code": 1202,
        "message": "Key already exists",
    }


def test_must_replace_counts_generations(node: Node, unique: str) -> None:
    """1203 for what is missing, 1204 for a generation that has passed."""
    key = ["parity", unique]
    missing = code_of(node, "datastore", key=key, string="x", mode="must-replace")
    node.call("datastore", key=key, string="a")
    replaced = node.call("datastore", key=key, string="b", mode="must-replace", generation=0)
    stale = error_of(node, "datastore", key=key, string="c", mode="must-replace", generation=0)

    assert missing == 1203
    assert (replaced["generation"], replaced["string"]) == (1, "b")
    assert stale == {"code": 1204, "message": "generation is different"}


def test_create_or_replace_takes_no_generation(node: Node, unique: str) -> None:
    """It always succeeds, and counts."""
    key = ["parity", unique]
    generations = [
        node.call("datastore", key=key, string=text, mode="create-or-replace")["generation"] for text in "abc"
    ]
    refused = error_of(node, "datastore", key=key, string="d", mode="create-or-replace", generation=2)

    assert generations == [0, 1, 2]
    assert refused["code"] == -32602
    assert refused["message"] == "generation only valid with must-replace or must-append"


def test_append_adds_to_the_value(node: Node, unique: str) -> None:
    """must-append needs a value, create-or-append does not."""
    key = ["parity", unique]
    missing = code_of(node, "datastore", key=key, string="x", mode="must-append")
    node.call("datastore", key=key, string="a", mode="create-or-append")
    appended = node.call("datastore", key=key, hex="ff", mode="must-append")

    assert missing == 1203
    assert appended == {"key": key, "generation": 1, "hex": "61ff"}


def test_a_key_has_a_value_or_children(node: Node, unique: str) -> None:
    """1205 for a value above children, 1206 for a child below a value."""
    node.call("datastore", key=["parity", unique, "child"], string="x")
    above = error_of(node, "datastore", key=["parity", unique], string="y")
    below = error_of(node, "datastore", key=["parity", unique, "child", "deep"], string="z")

    assert above == {"code": 1205, "message": "Key has children already"}
    assert below == {"code": 1206, "message": f"Parent key [parity,{unique},child] exists"}


def test_listing_shows_one_level(node: Node, unique: str) -> None:
    """Values of the next level, a bare key for each deeper branch, in order; what is missing is an empty list."""
    for key in (["b"], ["a", "2"], ["a", "1"], ["a-b"], ["c"]):
        node.call("datastore", key=["parity", unique, *key], string="x")
    entries = node.call("listdatastore", key=["parity", unique])["datastore"]

    assert [entry["key"][2:] for entry in entries] == [["a"], ["a-b"], ["b"], ["c"]]
    assert entries[0] == {"key": ["parity", unique, "a"]}
    assert entries[2] == {"key": ["parity", unique, "b"], "generation": 0, "hex": "78", "string": "x"}
    assert node.call("listdatastore", key=["parity", unique, "c"])["datastore"] == [entries[3]]
    assert node.call("listdatastore", key=["parity", unique, "none"])["datastore"] == []
    assert {"key": ["parity"]} in node.call("listdatastore")["datastore"]


def test_prefix_of_a_name_is_not_a_parent(node: Node, unique: str) -> None:
    """Keys are compared part by part."""
    node.call("datastore", key=["parity", unique + "x", "k"], string="x")

    assert node.call("listdatastore", key=["parity", unique])["datastore"] == []
    assert node.call("datastore", key=["parity", unique], string="y")["generation"] == 0


def test_deleting_answers_with_what_was_there(node: Node, unique: str) -> None:
    """1200 for what is missing, 1201 for another generation; the key starts anew at 0."""
    key = ["parity", unique]
    missing = error_of(node, "deldatastore", key)
    node.call("datastore", key=key, string="a")
    node.call("datastore", key=key, string="b", mode="must-replace")
    stale = error_of(node, "deldatastore", key, 0)
    deleted = node.call("deldatastore", key, 1)

    assert missing == {"code": 1200, "message": "Key does not exist"}
    assert stale == {"code": 1201, "message": "generation is different"}
    assert deleted == {"key": key, "generation": 1, "hex": "62", "string": "b"}
    assert node.call("datastore", key=key, string="c")["generation"] == 0


def test_value_is_hex_or_string(node: Node, unique: str) -> None:
    """Exactly one of them; what is not hex counts as absent."""
    key = ["parity", unique]

    assert error_of(node, "datastore", key=key)["message"] == "Must have either hex or string"
    both = error_of(node, "datastore", key=key, hex="00", string="x")
    assert both == {"code": -32602, "message": "Cannot have both hex and string"}
    assert error_of(node, "datastore", key=[], string="x")["message"].startswith("key: should not be empty")
    assert error_of(node, "datastore", key=key, hex="0")["message"] == "Must have either hex or string"


@pytest.mark.parametrize("size", [0, 1, 100_000, 900_000])
def test_values_of_any_size_come_back(node: Node, unique: str, size: int) -> None:
    """Up to a megabyte."""
    node.call("datastore", key=["parity", unique], hex="5a" * size)
    [entry] = node.call("listdatastore", key=["parity", unique])["datastore"]

    assert entry["hex"] == "5a" * size
    assert entry["string"] == "Z" * size


def test_makesecret_is_a_function_of_its_input(node: Node) -> None:
    """32 bytes; a string and its bytes in hex are the same input."""
    by_string = node.call("makesecret", string="cln-paycodes/1")
    by_hex = node.call("makesecret", hex=b"cln-paycodes/1".hex())
    other = node.call("makesecret", string="cln-paycodes/2")

    assert by_string == by_hex
    assert set(by_string) == {"secret"}
    assert len(bytes.fromhex(by_string["secret"])) == 32
    assert by_string != other
    assert error_of(node, "makesecret")["message"] == "Must have either hex or string"


def test_check_goes_as_far_as_the_command_would(node: Node, unique: str) -> None:
    """Nothing happens; what would be refused is refused."""
    good = {"command_to_check": "invoice", "amount_msat": 1, "label": unique, "description": "d"}
    passed = node.call("check", **good)
    too_long = code_of(node, "check", **(good | {"label": "x" * 129}))
    unknown = error_of(node, "check", command_to_check="delinvoice", label=unique, status="unpaid")
    no_command = error_of(node, "check", command_to_check="nonesuch")

    assert passed == {"command_to_check": "invoice"}
    assert node.call("check", "datastore", ["parity", unique], "x") == {"command_to_check": "datastore"}
    assert node.call("listinvoices", label=unique)["invoices"] == []
    assert node.call("listdatastore", ["parity", unique])["datastore"] == []
    assert too_long == -32602
    assert unknown == {"code": 905, "message": "Unknown invoice"}
    assert no_command == {"code": -32601, "message": "Unknown command 'nonesuch'"}


def test_help_lists_usage(node: Node) -> None:
    """Of the node's methods and of the plugin's."""
    commands = [entry["command"] for entry in node.call("help")["help"]]
    [echo] = node.call("help", "recorder-echo")["help"]

    assert any(command.startswith("delinvoice label status ") for command in commands)
    assert echo["command"] == "recorder-echo [a] [b]"
    assert error_of(node, "help", "nonesuch")["code"] == -32601
