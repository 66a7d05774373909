"""Framing of JSON-RPC: a byte stream in, JSON values out."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, NoReturn

#: Below this size a partial value is parsed again on every chunk; above it only when a chunk may complete it,
#: so that a value of many megabytes does not cost the square of its length.
_EAGER_CHARS = 256 * 1024


class MalformedJson(ValueError):
    """The stream holds something that can never become JSON."""


def _refuse_constant(name: str) -> NoReturn:
    # lightningd's jsmn does not take NaN or Infinity; Python's parser would.
    raise MalformedJson(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


class JsonStream:
    """Splits a stream of JSON values, which need no delimiter between them (as lightningd reads them)."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text = ""

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """Yield every value that is complete after ``chunk``; raises MalformedJson."""
        try:
            self._text += self._utf8.decode(chunk)
        except UnicodeDecodeError as error:
            raise MalformedJson(str(error)) from error
        if len(self._text) > _EAGER_CHARS and not chunk.rstrip().endswith((b"}", b"]")):
            return
        position = 0
        while True:
            position = _skip_space(self._text, position)
            if position == len(self._text):
                break
            if self._text[position] not in "{[":
                raise MalformedJson(f"Invalid token in json input: '{self._text[position : position + 40]}'")
            try:
                value, position = _DECODER.raw_decode(self._text, position)
            except json.JSONDecodeError as error:
                # raw_decode cannot tell "not yet" from "never": only a mistake before the end is a mistake.
                if error.pos < len(self._text) - 16 and not error.msg.startswith("Unterminated"):
                    raise MalformedJson(f"Invalid token in json input: {error}") from error
                break
            yield value
        self._text = self._text[position:]


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def encode(value: Any) -> bytes:
    """One message on the wire: lightningd ends each with an empty line, and passes on half of a surrogate pair."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode(errors="backslashreplace") + b"\n\n"
