"""Parameters: by position or by keyword, every spelling with one meaning, and BadParameter for the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from cln_paycodes import parameters as p
from cln_paycodes.core.terms import SUPPLY_MSAT
from cln_paycodes.errors import BadParameter
from cln_paycodes.parameters import Kind, Parameter, bind, usage
from hypothesis import given
from hypothesis import strategies as st

CODE = Parameter(name="paycode", kind=p.text, required=True)
AMOUNT = Parameter(name="amount_msat", kind=p.msat, required=True)
COMMENT = Parameter(name="comment", kind=p.text)
INVOICE = (CODE, AMOUNT, COMMENT)

any_text = st.text(st.characters(exclude_categories=()))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text
any_json = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(any_text, inner), max_leaves=10)

KINDS: dict[str, Kind] = {
    "text": p.text,
    "whole": p.whole,
    "seconds": p.seconds,
    "msat": p.msat,
    "flag": p.flag,
    "hash_hex": p.hash_hex,
    "public_key": p.public_key,
    "names": p.names,
    "json_object": p.json_object,
    "one_of": p.one_of("eager", "lazy"),
}


@pytest.mark.parametrize(
    "given_parameters",
    [
        ["coffee", 21_000, "thanks"],
        {"paycode": "coffee", "amount_msat": 21_000, "comment": "thanks"},
        {"comment": "thanks", "amount_msat": "21000msat", "paycode": "coffee"},
        ("coffee", "21sat", "thanks"),
    ],
)
def test_parameters_bind_by_position_and_by_keyword(given_parameters: Any) -> None:
    """Both ways lead to the same arguments."""
    assert bind(INVOICE, given_parameters) == {"paycode": "coffee", "amount_msat": 21_000, "comment": "thanks"}


@pytest.mark.parametrize(
    "given_parameters", [["coffee", 1], ["coffee", 1, None], {"paycode": "coffee", "amount_msat": 1}]
)
def test_optional_parameter_may_be_left_out(given_parameters: Any) -> None:
    """One that is missing or null is not among the arguments, so that the default holds."""
    assert bind(INVOICE, given_parameters) == {"paycode": "coffee", "amount_msat": 1}


@pytest.mark.parametrize(
    ("given_parameters", "message"),
    [
        ([], "^paycode: this parameter is missing"),
        ({}, "^paycode: this parameter is missing"),
        (["coffee"], "^amount_msat: this parameter is missing"),
        ([None, 1], "^paycode: this parameter is missing"),
        ({"amount_msat": 1}, "^paycode: this parameter is missing"),
        (["coffee", 1, "thanks", 4], "^too many parameters: 4 given, at most 3 taken"),
        ({"paycode": "coffee", "amount_msat": 1, "amuont": 2}, "^amuont: unknown parameter; known are paycode, amount"),
        ({"paycode": "coffee", "amount": 1}, "^amount: unknown parameter; known are paycode, amount_msat"),
        (["coffee", "a lot"], "^amount_msat: .*21sat"),
        ("coffee", "array or object"),
        (None, "array or object"),
        (7, "array or object"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name(given_parameters: Any, message: str) -> None:
    """The message begins with the parameter's name."""
    with pytest.raises(BadParameter, match=message):
        bind(INVOICE, given_parameters)


def test_unknown_parameter_of_a_method_without_any() -> None:
    """A method that takes nothing says so."""
    with pytest.raises(BadParameter, match="known are none"):
        bind((), {"x": 1})


def test_usage_has_optional_parameters_in_brackets() -> None:
    """As `lightning-cli help` shows it."""
    assert usage(INVOICE) == "paycode amount_msat [comment]"


GOOD: list[tuple[Kind, Any, Any]] = [
    (p.text, "coffee", "coffee"),
    (p.text, "", ""),
    (p.text, 123, "123"),
    (p.text, 1.5, "1.5"),
    (p.whole, 0, 0),
    (p.whole, "21", 21),
    (p.whole, 2**63 - 1, 2**63 - 1),
    (p.seconds, 0, 0.0),
    (p.seconds, 1.5, 1.5),
    (p.seconds, "30", 30.0),
    (p.msat, 21_000, 21_000),
    (p.msat, "21000", 21_000),
    (p.msat, "21000msat", 21_000),
    (p.msat, "21sat", 21_000),
    (p.msat, "1btc", 100_000_000_000),
    (p.msat, "0.0005btc", 50_000_000),
    (p.msat, "1.00000000001btc", 100_000_000_001),
    (p.msat, " 5msat ", 5),
    (p.msat, SUPPLY_MSAT, SUPPLY_MSAT),
    (p.msat, "21000000btc", SUPPLY_MSAT),
    (p.flag, True, True),
    (p.flag, "False", False),
    (p.hash_hex, "AB" * 32, "ab" * 32),
    (p.public_key, "02" + "aB" * 32, b"\x02" + b"\xab" * 32),
    (p.names, "invoice.paid, invoice.expired,", ("invoice.paid", "invoice.expired")),
    (p.names, ["a", "b", "a"], ("a", "b")),
    (p.names, [], ()),
    (p.json_object, {"name": "Ada"}, {"name": "Ada"}),
    (p.json_object, {"a": [[{"b": [[[]]]}]]}, {"a": [[{"b": [[[]]]}]]}),
    (p.json_object, '{"name": "Ada", "age": 36.5}', {"name": "Ada", "age": 36.5}),
    (p.one_of("eager", "lazy"), "lazy", "lazy"),
]


@pytest.mark.parametrize(("kind", "value", "argument"), GOOD)
def test_spelling_with_one_meaning_is_taken(kind: Kind, value: Any, argument: Any) -> None:
    """What lightning-cli makes of a word comes out as what was meant."""
    taken = kind("name", value)

    assert taken == argument
    assert type(taken) is type(argument)


BAD: list[tuple[Any, Sequence[Any]]] = [
    (p.text, [True, [], {}, "x" * 100_001, "half \ud800", 10**5000]),
    (p.whole, [-1, 1.0, 1.5, True, "", "-1", "1.0", "\u0661", "1_0", 2**63, str(2**63), [], math.nan]),
    (p.seconds, [-1, True, "soon", "", math.nan, math.inf, "inf", "nan", 365 * 24 * 3600 + 1, 10**400, [], {}]),
    (
        p.msat,
        [
            *(-1, 1.0, True, "", "21k", "1.5sat", "-1sat", "1 sat", SUPPLY_MSAT + 1, "21000001btc", "9" * 20, "9" * 30),
            *(".5btc", "1.btc", "0.5", "1.000000000001btc", "21000000.1btc", "-0.1btc", []),
        ],
    ),
    (p.flag, [0, 1, "yes", "1", "", [], {}]),
    (p.hash_hex, ["", "ab" * 31, "ab" * 33, "zz" * 32, "ab" * 32 + "\n", 7, []]),
    (p.public_key, ["", "ab" * 32, "ab" * 34, "zz" * 33, 7, []]),
    (p.names, [7, True, {}, ["a", 7], [["a"]], ["\ud800"]]),
    (
        p.json_object,
        [
            [],
            7,
            "",
            "null",
            "[]",
            "{",
            '{"a": NaN}',
            '{"a": ' + "[" * 16 + "]" * 16 + "}",
            '{"a": ' + "[" * 950 + "]" * 950 + "}",
            '{"a": 1e999}',
            '{"a": -Infinity}',
            '{"a": "\\ud800"}',
            {"a": math.nan},
            {"a": [math.inf]},
            {"a": "\ud800"},
            {"\ud800": 1},
            '{"a":' * 100_000,
            "[" * 100_000,
            '{"a": ' + "7" * 5000 + "}",
        ],
    ),
    (p.one_of("eager", "lazy"), ["", "Eager", "both", 7, True, [], {}, ["eager"]]),
]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param(kind, value, id=f"{kind.__name__}-{number}")
        for kind, values in BAD
        for number, value in enumerate(values)
    ],
)
def test_anything_else_is_refused(kind: Kind, value: Any) -> None:
    """A value with no or two meanings, or one that could not be stored or answered, is refused by name."""
    with pytest.raises(BadParameter, match=r"^name: "):
        kind("name", value)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(value=any_json)
def test_any_json_is_taken_or_refused(kind: Kind, value: Any) -> None:
    """No JSON leads to an error but BadParameter, and what is taken can be written as JSON again."""
    try:
        taken = kind("name", value)
    except BadParameter as refused:
        assert refused.message.startswith("name: ")  # noqa: PT017 (either outcome is right, for some value)
        return

    assert json.dumps(taken.hex() if isinstance(taken, bytes) else taken, ensure_ascii=False, allow_nan=False).encode()


@given(given_parameters=any_json)
def test_any_json_binds_or_is_refused(given_parameters: Any) -> None:
    """Whatever stands in `params`, binding ends with arguments or BadParameter."""
    try:
        bound = bind(INVOICE, given_parameters)
    except BadParameter:
        return

    assert {"paycode", "amount_msat"} <= set(bound) <= {"paycode", "amount_msat", "comment"}


@pytest.mark.parametrize("value", ["02" + "ab" * 31, "02" + "ab" * 33, "zz" + "ab" * 32])
def test_refused_root_key_is_not_repeated(value: str) -> None:
    """A root key with a slip of the pen in it is no less a secret."""
    with pytest.raises(BadParameter) as refused:
        bind((Parameter(name="root_key", kind=p.public_key),), [value])

    assert "abab" not in refused.value.message
