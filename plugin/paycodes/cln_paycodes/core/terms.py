"""The terms of a paycode: what its maker chooses, with every limit in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from enum import Enum

from ..errors import BadParameter

#: All the bitcoin there can be, in msat: nothing above it is a payment.
SUPPLY_MSAT = 21_000_000 * 100_000_000 * 1000
#: Characters of a label; it is for people and for commands, the node never sees it.
LABEL_CHARS = 128
#: BOLT 11 tagged field limit; CLN's `invoice` refuses a longer plain description.
DESCRIPTION_BYTES = 639
#: LUD-16 leaves the length of a name open; a DNS label (BIP 353) holds 63.
USER_CHARS = 63
#: One year. CLN v26.06 aborts on -1 and on 2^60 and more, so the node never sees such an expiry.
EXPIRY_MAX_S = 365 * 24 * 3600
EXPIRY_DEFAULT_S = 3600
#: LUD-12: wallets send the comment in a URL, so a few thousand characters at most would arrive.
COMMENT_CHARS_MAX = 2000
COMMENT_CHARS_DEFAULT = 140
PENDING_MAX = 1_000_000

_USER = re.compile(r"[a-z0-9\-_.]+", re.ASCII)
#: C0 and C1 control characters, and those that reorder or hide text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_CONTROL_BUT_NEWLINE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


class Issue(str, Enum):
    """When the node learns of an invoice: at once, or with its first HTLC."""

    EAGER = "eager"
    LAZY = "lazy"

    def __str__(self) -> str:
        return self.value


class PaycodeStatus(str, Enum):
    ACTIVE = "active"
    DISABLED = "disabled"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Validated terms; the constructor raises BadParameter naming the term that is wrong."""

    #: unique, for people and commands
    label: str
    #: what the payer reads
    description: str
    #: the part of a lightning address before the @, unique (LUD-16)
    user: str | None = None
    min_msat: int = 1
    #: None: no upper limit
    max_msat: int | None = None
    #: seconds that an invoice can be paid
    expiry: int = EXPIRY_DEFAULT_S
    #: characters of a payer's comment, 0 for none (LUD-12)
    comment_chars: int = COMMENT_CHARS_DEFAULT
    issue: Issue = Issue.EAGER
    #: the operator settles or cancels each payment
    hold: bool = False
    #: unpaid invoices that may be open at a time; None: no limit
    max_pending: int | None = None

    def __post_init__(self) -> None:
        check_text("label", self.label, most_chars=LABEL_CHARS)
        if self.label != self.label.strip() or not self.label:
            raise BadParameter("label: give 1 to 128 characters without spaces at its ends")
        check_text("description", self.description, newlines=True)
        if len(self.description.encode()) > DESCRIPTION_BYTES:
            raise BadParameter(f"description: at most {DESCRIPTION_BYTES} bytes of UTF-8 (BOLT 11)")
        if self.user is not None and (len(self.user) > USER_CHARS or not _USER.fullmatch(self.user)):
            raise BadParameter("user: 1 to 63 of the characters a-z 0-9 - _ . (LUD-16)")
        _check_range("min_msat", self.min_msat, 1, SUPPLY_MSAT)
        if self.max_msat is not None:
            _check_range("max_msat", self.max_msat, 1, SUPPLY_MSAT)
            if self.max_msat < self.min_msat:
                raise BadParameter(f"max_msat: {self.max_msat} is below min_msat {self.min_msat}")
        _check_range("expiry", self.expiry, 1, EXPIRY_MAX_S)
        _check_range("comment_chars", self.comment_chars, 0, COMMENT_CHARS_MAX)
        if self.max_pending is not None:
            _check_range("max_pending", self.max_pending, 1, PENDING_MAX)

    def differing(self, other: Terms) -> list[str]:
        """The names of the terms that are not the same."""
        return [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]

    @property
    def highest_msat(self) -> int:
        """The largest amount an invoice may ask for."""
        return SUPPLY_MSAT if self.max_msat is None else self.max_msat

    @property
    def amounts(self) -> str:
        """The amounts that an invoice may ask for, for people."""
        return str(self.min_msat) if self.min_msat == self.max_msat else f"{self.min_msat} to {self.highest_msat}"

    @property
    def comments(self) -> str:
        """The comments that an invoice may carry, for people."""
        return f"at most {self.comment_chars} characters" if self.comment_chars else "none"


def check_text(name: str, value: str, *, most_chars: int | None = None, newlines: bool = False) -> None:
    """Text that can be stored, logged and shown without surprises; else BadParameter."""
    if most_chars is not None and len(value) > most_chars:
        raise BadParameter(f"{name}: at most {most_chars} characters, these are {len(value)}")
    if (_CONTROL_BUT_NEWLINE if newlines else _CONTROL).search(value):
        raise BadParameter(f"{name}: leave out control and direction characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadParameter(f"{name}: it is not valid Unicode text") from None


def _check_range(name: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise BadParameter(f"{name}: give a whole number from {lowest} to {highest}")
