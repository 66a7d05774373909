"""Parameters of RPC methods: by position or by name, read as lightningd's ``common/json_param.c`` does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InvalidParams

#: Turns the JSON value of a parameter into what the command works with; raises through ``refuse``.
Reader = Callable[[str, Any], Any]

_U64_MAX = 2**64 - 1
_U32_MAX = 2**32 - 1
_AMOUNT = re.compile(r"([0-9]+)(\.[0-9]+)?(msat|sat|btc)?")
_MSAT_PER: dict[str | None, int] = {"btc": 100_000_000_000, "sat": 1000, "msat": 1, None: 1}


@dataclass(frozen=True)
class Parameter:
    name: str
    read: Reader
    required: bool = True
    default: Any = None


def optional(name: str, read: Reader, default: Any = None) -> Parameter:
    return Parameter(name, read, required=False, default=default)


def token(value: Any) -> str:
    """The text of a value as jsmn sees it: strings without their quotes."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def refuse(name: str, message: str) -> InvalidParams:
    """The value itself stays out of the answer, it may be a secret (``command_fail_badparam``)."""
    return InvalidParams(f"{name}: {message}: invalid token (see logs for details)")


def parse(
    parameters: Sequence[Parameter], given: list[Any] | dict[str, Any], allow_extra: bool = False
) -> dict[str, Any]:
    """All parameters by name, with defaults filled in; raises InvalidParams as ``param()`` does."""
    values = {parameter.name: parameter.default for parameter in parameters}
    seen = set()
    for parameter, value in _matched(parameters, given, allow_extra):
        values[parameter.name] = parameter.read(parameter.name, value)
        seen.add(parameter.name)
    for parameter in parameters:
        if parameter.required and parameter.name not in seen:
            raise InvalidParams(f"missing required parameter: {parameter.name}")
    return values


def _matched(
    parameters: Sequence[Parameter], given: list[Any] | dict[str, Any], allow_extra: bool
) -> list[tuple[Parameter, Any]]:
    if isinstance(given, list):
        if len(given) > len(parameters) and not allow_extra:
            raise InvalidParams(f"too many parameters: got {len(given)}, expected {len(parameters)}")
        return [(p, value) for p, value in zip(parameters, given, strict=False) if value is not None]
    by_name = {parameter.name: parameter for parameter in parameters}
    matched = []
    for name, value in given.items():
        if name in by_name:
            matched.append((by_name[name], value))
        elif not allow_extra:
            raise InvalidParams(
                f"unknown parameter: {name}, this may be caused by a failure to autodetect key=value-style"
                " parameters. Please try using the -k flag and explicit key=value pairs of parameters."
            )
    return matched


def usage(parameters: Sequence[Parameter]) -> str:
    """What ``help`` prints after the method's name."""
    return " ".join(p.name if p.required else f"[{p.name}]" for p in parameters)


def read_any(_name: str, value: Any) -> Any:
    return value


def read_string(_name: str, value: Any) -> str:
    return token(value)


def read_escaped_string(name: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise refuse(name, "should be a string (without \\u)")
    return value


def read_label(name: str, value: Any) -> str:
    """A label: a string or a number, which are the same label when their text is."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, str) or is_number:
        return token(value)
    raise refuse(name, "should be a string or number")


def _read_unsigned(name: str, value: Any, maximum: int, message: str) -> int:
    text = token(value)
    # lightningd parses with strtoull, which takes a sign: -1 becomes 2^64 - 1.
    if re.fullmatch(r"-?[0-9]+", text):
        number = int(text)
        if number < 0 and maximum == _U64_MAX:
            number += 2**64
        if 0 <= number <= maximum:
            return number
    raise refuse(name, message)


def read_u64(name: str, value: Any) -> int:
    return _read_unsigned(name, value, _U64_MAX, "should be an unsigned 64 bit integer")


def read_u32(name: str, value: Any) -> int:
    return _read_unsigned(name, value, _U32_MAX, "should be an unsigned 32 bit integer")


def read_number(name: str, value: Any) -> int:
    return _read_unsigned(name, value, _U32_MAX, "should be an integer")


def read_bool(name: str, value: Any) -> bool:
    text = token(value)
    if text not in ("true", "false"):
        raise refuse(name, "should be 'true' or 'false'")
    return text == "true"


def read_hex(_name: str, value: Any) -> bytes | None:
    """None for what is not hex: lightningd means to refuse it but takes it for absent (``param_bin_from_hex``)."""
    try:
        return bytes.fromhex(token(value))
    except ValueError:
        return None


def read_hash(name: str, value: Any) -> str:
    """32 bytes as 64 hex digits."""
    text = token(value)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise refuse(name, "should be a 32 byte hex value")
    return text.lower()


def read_preimage(name: str, value: Any) -> bytes:
    text = token(value)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise refuse(name, "should be 64 hex digits")
    return bytes.fromhex(text)


def read_array(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise refuse(name, "should be an array")
    return value


def parse_msat(text: str) -> int | None:
    """An amount in lightningd's spelling (``5``, ``5msat``, ``5sat``, ``0.01btc``) in millisatoshi."""
    match = _AMOUNT.fullmatch(text)
    if not match:
        return None
    whole, fraction, unit = match.groups()
    scale = _MSAT_PER[unit]
    if fraction is None:
        return int(whole) * scale
    decimals = str(fraction)[1:]
    if unit != "btc" or len(decimals) > 11:
        return None
    return int(whole) * scale + int(decimals) * int(10 ** (11 - len(decimals)))


def read_msat(name: str, value: Any) -> int:
    amount = parse_msat(token(value))
    if amount is None:
        raise refuse(name, "should be a millisatoshi amount")
    return amount


def read_positive_msat_or_any(name: str, value: Any) -> int | None:
    """None for ``any``."""
    if token(value) == "any":
        return None
    amount = parse_msat(token(value))
    if not amount:
        raise refuse(name, "should be positive msat or 'any'")
    return amount


def one_of(names: Sequence[str], message: str) -> Reader:
    def read(name: str, value: Any) -> str:
        if token(value) not in names:
            raise refuse(name, message)
        return token(value)

    return read


read_index = one_of(("created", "updated", "deleted"), "unknown index")
