"""What an RPC method is: a name, parameters, and a function of the node and the call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .parameters import Parameter, parse

if TYPE_CHECKING:
    from .node import Node

Result = dict[str, Any]
#: A plain function runs inside one transaction; a coroutine function may park and opens its own.
Run = Callable[["Node", "Call"], Result | Awaitable[Result]]


class CheckPassed(Exception):
    """``check`` got as far as it goes: the command would now act."""


@dataclass
class Call:
    """One call with its parameters read."""

    params: dict[str, Any]
    #: What was given, before it was read.
    raw: list[Any] | dict[str, Any]
    check_only: bool = False

    def checkpoint(self) -> None:
        """Where lightningd's handlers ask ``command_check_only``: what follows has effects."""
        if self.check_only:
            raise CheckPassed


@dataclass(frozen=True)
class Command:
    name: str
    run: Run
    parameters: tuple[Parameter, ...] = field(default=())
    allow_extra: bool = False

    def call(self, given: list[Any] | dict[str, Any], check_only: bool = False) -> Call:
        return Call(parse(self.parameters, given, self.allow_extra), given, check_only)
