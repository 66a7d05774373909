"""What a sender needs of a receiver, whatever it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..core.retry import Answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One event as it travels."""

    #: the event's id: the same for every attempt
    id: str
    type: str
    #: JSON
    body: str


class Publisher(Protocol):
    """One receiver, for one thread at a time."""

    def publish(self, message: Message, *, secrets: list[str], now: int) -> Answer:
        """One attempt, over within `DEADLINE_S`; raises nothing for whatever the far side does."""

    def close(self) -> None:
        """Let go of the connection."""


#: Seconds that one attempt may take altogether, however slowly the far side drips.
DEADLINE_S = 30.0
