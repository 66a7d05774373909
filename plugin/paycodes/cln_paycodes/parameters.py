"""Parameters of RPC methods: bound by position or by keyword, checked, and refused with the parameter's name.

lightning-cli turns what looks like a number or a boolean into one, so a label may arrive as 123 and an amount as
"21000msat": each kind takes every spelling that has only one meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .core.terms import SUPPLY_MSAT
from .errors import BadParameter

#: Turns a JSON value into the handler's argument, or raises BadParameter.
Kind = Callable[[str, Any], Any]

_AMOUNT = re.compile(r"([0-9]{1,20})(msat|sat|btc)?|([0-9]{1,8})\.([0-9]{1,11})btc", re.ASCII)
_BTC_DECIMALS = 11
_UNIT_MSAT = {None: 1, "msat": 1, "sat": 1000, "btc": 10**_BTC_DECIMALS}
_HASH = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)

#: The largest whole number that fits everywhere it may go (SQLite, CLN's u64).
_MOST = 2**63 - 1

#: A text that is longer is certainly a mistake, and is not even looked at.
_TEXT_CHARS = 100_000

#: Levels of a JSON object: far fewer than Python reads, so that it can stand inside any answer or event.
_JSON_LEVELS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    name: str
    kind: Kind
    required: bool = False


def bind(parameters: Sequence[Parameter], given: Any) -> dict[str, Any]:
    """Arguments by name for what was given; null means left out. Raises BadParameter."""
    if isinstance(given, Mapping):
        values = dict(given)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        if len(given) > len(parameters):
            raise BadParameter(f"too many parameters: {len(given)} given, at most {len(parameters)} taken")
        values = {parameter.name: value for parameter, value in zip(parameters, given, strict=False)}
    else:
        raise BadParameter("give parameters as a JSON array or object")
    known = [parameter.name for parameter in parameters]
    for name in values:
        if name not in known:
            raise BadParameter(f"{str(name)[:40]}: unknown parameter; known are {', '.join(known) or 'none'}")
    arguments = {}
    for parameter in parameters:
        value = values.get(parameter.name)
        if value is not None:
            arguments[parameter.name] = parameter.kind(parameter.name, value)
        elif parameter.required:
            raise BadParameter(f"{parameter.name}: this parameter is missing")
    return arguments


def usage(parameters: Sequence[Parameter]) -> str:
    """As `lightning-cli help` shows it: optional ones in brackets."""
    return " ".join(p.name if p.required else f"[{p.name}]" for p in parameters)


# --- kinds ---


def text(name: str, value: Any) -> str:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise BadParameter(f"{name}: give a string")
        value.encode()
    except ValueError:  # half of a surrogate pair, or a number of thousands of digits
        raise BadParameter(f"{name}: it is not valid Unicode text") from None
    if len(value) > _TEXT_CHARS:
        raise BadParameter(f"{name}: it is too long ({len(value)} characters)")
    return value


def whole(name: str, value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise BadParameter(f"{name}: give a whole number of 0 or more")
    return value


def seconds(name: str, value: Any) -> float:
    """A time span, fractions allowed."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise BadParameter(f"{name}: give a number of seconds")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise BadParameter(f"{name}: give a number of seconds") from None
    if not 0 <= number <= 365 * 24 * 3600:
        raise BadParameter(f"{name}: give a number of seconds from 0 to one year")
    return number


def msat(name: str, value: Any) -> int:
    """Millisatoshi: a whole number, or with one of the units msat, sat, btc, which may have decimals."""
    if isinstance(value, str) and (match := _AMOUNT.fullmatch(value.strip())):
        whole, unit, btc, decimals = match.groups()
        value = int(whole) * _UNIT_MSAT[unit] if btc is None else int(btc + decimals.ljust(_BTC_DECIMALS, "0"))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= SUPPLY_MSAT:
        raise BadParameter(
            f"{name}: give a whole number of msat, or with a unit (21sat), at most the 21 million bitcoin there can be"
        )
    return value


def flag(name: str, value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise BadParameter(f"{name}: give true or false")
    return value


def hash_hex(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise BadParameter(f"{name}: give 64 hex characters")
    return value.lower()


def public_key(name: str, value: Any) -> bytes:
    """33 bytes in hex. The value is a secret here, so no error repeats it."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{66}", value, re.ASCII):
        raise BadParameter(f"{name}: give a compressed public key, 66 hex characters")
    return bytes.fromhex(value)


def names(name: str, value: Any) -> tuple[str, ...]:
    """A JSON array of strings, or one string with commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadParameter(f"{name}: give an array of strings")
    return tuple(dict.fromkeys(text(name, item) for item in value))


def json_object(name: str, value: Any) -> dict[str, Any]:
    """A JSON object, or a string that holds one; one that lightningd could not read in an answer is refused."""
    try:
        if isinstance(value, str):
            value = json.loads(value)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise BadParameter(f"{name}: it is not valid JSON; give an object") from None
    if not isinstance(value, dict):
        raise BadParameter(f"{name}: give a JSON object")
    if not _is_shallow(value, _JSON_LEVELS):
        raise BadParameter(f"{name}: at most {_JSON_LEVELS} levels of objects and arrays")
    return value


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in inner)


def one_of(*choices: str) -> Kind:
    def choice(name: str, value: Any) -> str:
        if value not in choices:
            raise BadParameter(f"{name}: give one of {', '.join(choices)}")
        return str(value)

    return choice
