"""Messages on their way out: whole, in order, and together when they are made together."""

from __future__ import annotations

import json
import threading

import pytest
from cln_paycodes.core.framing import Frames
from cln_paycodes.outlet import Outlet


@pytest.fixture
def written() -> list[bytes]:
    return []


@pytest.fixture
def outlet(written: list[bytes]) -> Outlet:
    return Outlet(written.append)


def _read(written: list[bytes]) -> list[object]:
    return [json.loads(message) for message in Frames().of(b"".join(written))]


def test_message_is_written_at_once(outlet: Outlet, written: list[bytes]) -> None:
    """A frame each, with text as it is."""
    outlet.put({"id": "a", "result": {"text": "Käse\n\n"}})
    outlet.put({"id": "b"})

    assert len(written) == 2
    assert _read(written) == [{"id": "a", "result": {"text": "Käse\n\n"}}, {"id": "b"}]
    assert "Käse".encode() in written[0]


def test_half_of_a_surrogate_pair_leaves_as_it_came(outlet: Outlet, written: list[bytes]) -> None:
    """As JSON's own escape: a caller may have put it into its id or into the name of a parameter."""
    outlet.put({"id": "x", "error": {"message": "\ud800: unknown parameter"}})

    assert _read(written) == [{"id": "x", "error": {"message": "\ud800: unknown parameter"}}]
    assert rb"\ud800: unknown" in written[0]


def test_messages_put_together_leave_in_one_piece(outlet: Outlet, written: list[bytes]) -> None:
    """In their order, at the end; what comes afterwards is written at once again."""
    with outlet.together():
        for number in range(3):
            outlet.put({"id": number})
        before = list(written)
    outlet.put({"id": 3})

    assert before == []
    assert len(written) == 2
    assert _read(written) == [{"id": number} for number in range(4)]


def test_what_was_put_leaves_when_an_error_ends_the_piece(outlet: Outlet, written: list[bytes]) -> None:
    """An answer that was given is not lost because of another one."""

    def break_off() -> None:
        with outlet.together():
            outlet.put({"id": 1})
            raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        break_off()

    assert _read(written) == [{"id": 1}]


def test_nothing_is_written_for_nothing(outlet: Outlet, written: list[bytes]) -> None:
    """A burst of notifications has no answers."""
    with outlet.together():
        pass

    assert written == []


def test_other_threads_do_not_wait_for_a_piece(outlet: Outlet, written: list[bytes]) -> None:
    """What a thread gathers is its own."""
    with outlet.together():
        outlet.put({"id": "loop"})
        other = threading.Thread(target=outlet.put, args=({"id": "other"},))
        other.start()
        other.join()
        before = _read(written)

    assert before == [{"id": "other"}]
    assert _read(written) == [{"id": "other"}, {"id": "loop"}]
