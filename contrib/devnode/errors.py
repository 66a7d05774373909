"""Errors: what a caller is told, and what would make lightningd abort."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Code(IntEnum):
    """JSON-RPC error codes, as in lightningd's ``common/jsonrpc_errors.h``."""

    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    LIGHTNINGD = -1
    PLUGIN_ERROR = -3
    PLUGIN_TERMINATED = -4

    PAY_UNPARSEABLE_ONION = 202
    PAY_DESTINATION_PERM_FAIL = 203
    PAY_TRY_OTHER_ROUTE = 204
    PAY_ROUTE_NOT_FOUND = 205
    PAY_INVOICE_EXPIRED = 207

    INVOICE_LABEL_ALREADY_EXISTS = 900
    INVOICE_PREIMAGE_ALREADY_EXISTS = 901
    INVOICE_EXPIRED_DURING_WAIT = 903
    INVOICE_WAIT_TIMED_OUT = 904
    INVOICE_NOT_FOUND = 905
    INVOICE_STATUS_UNEXPECTED = 906
    INVOICE_NO_DESCRIPTION = 908

    DATASTORE_DEL_DOES_NOT_EXIST = 1200
    DATASTORE_DEL_WRONG_GENERATION = 1201
    DATASTORE_UPDATE_ALREADY_EXISTS = 1202
    DATASTORE_UPDATE_DOES_NOT_EXIST = 1203
    DATASTORE_UPDATE_WRONG_GENERATION = 1204
    DATASTORE_UPDATE_HAS_CHILDREN = 1205
    DATASTORE_UPDATE_NO_CHILDREN = 1206


class RpcError(Exception):
    """An error that goes back to the caller."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = int(code)
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            answer["data"] = self.data
        return answer


class InvalidParams(RpcError):
    """The parameters are wrong (-32602)."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.INVALID_PARAMS, message)


class NodeAbort(Exception):
    """lightningd would call ``fatal()`` or fail an assertion here: devnode ends with a failure too."""


class StartupError(Exception):
    """The node cannot start with these options."""
