"""Messages out of a stream that is cut anywhere."""

from __future__ import annotations

import pytest
from cln_paycodes.core.framing import Frames

MESSAGES = [b'{"id":1}', b'{"id":2,"text":"one\\n\\nline"}', b'{\n "id": 3\n}', b"x" * 5000]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096, 100_000])
def test_messages_come_out_whole_whatever_the_pieces(size: int) -> None:
    """Neither a message nor its end needs to stand in one piece."""
    stream = b"".join(message + b"\n\n" for message in MESSAGES)
    frames = Frames()
    found = [message for start in range(0, len(stream), size) for message in frames.of(stream[start : start + size])]

    assert found == MESSAGES


def test_half_a_message_waits_for_its_end() -> None:
    """What has no end yet is not given out, and not lost."""
    frames = Frames()

    assert frames.of(b'{"id":1}\n\n{"id"') == [b'{"id":1}']
    assert frames.of(b":2}\n") == []
    assert frames.of(b"\n") == [b'{"id":2}']


def test_empty_lines_between_messages_are_no_messages() -> None:
    """One empty line too many ends nothing."""
    assert Frames().of(b"\n\n{}\n\n\n\n{}\n\n") == [b"{}", b"{}"]
