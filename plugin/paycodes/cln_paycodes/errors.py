"""Every error a caller can meet, with its JSON-RPC code.

One root, families by whose fault it is. `rpc.py` is the only place that turns them into answers; a message
says what to do next and never holds a secret or a traceback.
"""

from __future__ import annotations

from typing import Any


class PaycodesError(Exception):
    """The root. `code` is the JSON-RPC error code; `data` (JSON or None) goes into the answer."""

    code = -32603

    def __init__(self, message: str, *, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


# --- the caller's: nothing was changed ---


class BadParameter(PaycodesError):
    """A parameter is missing, unknown or malformed; the message begins with its name."""

    code = -32602


class WaitTimeout(PaycodesError):
    """`paycode-wait` reached its timeout (CLN uses 2000 for its own wait commands too)."""

    code = 2000


class UnknownPaycode(PaycodesError):
    code = 3101


class LabelTaken(PaycodesError):
    code = 3102


class PaycodeDisabled(PaycodesError):
    code = 3103


class AmountOutOfRange(PaycodesError):
    code = 3104


class CommentTooLong(PaycodesError):
    code = 3105


class TooManyUnpaid(PaycodesError):
    code = 3106


class UnknownInvoice(PaycodesError):
    code = 3107


class IllegalState(PaycodesError):
    code = 3108


class ActionUnderWay(IllegalState):
    """Something else is being done about the same thing: it excludes what was asked for."""


class UnknownEndpoint(PaycodesError):
    code = 3110


class IdempotencyReused(PaycodesError):
    code = 3112


# --- the machine's or the node's ---


class SidecarUnavailable(PaycodesError):
    """The sidecar cannot be opened, read or written."""

    code = 3109


class NodeRefused(PaycodesError):
    """The node answered with an error: nothing happened there."""

    code = 3111

    def __init__(self, method: str, node_code: int, node_message: str) -> None:
        super().__init__(
            f"the node refused {method}: {node_message} (code {node_code})",
            data={"node_code": node_code, "node_message": node_message},
        )
        self.node_code = node_code
        self.node_message = node_message


class NodeUnknown(PaycodesError):
    """The node did not answer (time-out, dead socket): it may or may not have acted. Ask it again."""

    code = 3111


# --- the receiver's ---


class NotAcknowledged(PaycodesError):
    """`webhook-test`: the endpoint could not be reached or did not answer with 2xx."""

    code = 3113


def describe(error: BaseException) -> str:
    """One line for the log about an error that no one expected: its type and place, without a traceback.

    Its message is left out: nobody knows what an unexpected one quotes.
    """
    place = "unknown place"
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if "cln_paycodes" in code.co_filename:
            place = f"{code.co_filename.rpartition('cln_paycodes')[2]}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return f"{type(error).__name__} at {place}"
