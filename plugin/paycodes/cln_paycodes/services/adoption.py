"""Joining two histories of one code: its definition at the node, and what a sidecar, perhaps older, has of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..core.definitions import PaycodeDefinition
from ..core.keys import FIRST_INDEX
from ..core.records import Paycode
from ..core.terms import LABEL_CHARS, Issue, Terms
from ..store import cursors, invoices, paycodes
from ..store.store import Sql

#: Characters of a paycode_id that tell a renamed code apart.
_SUFFIX_CHARS = 8


#: Indexes of one code that are looked for among payments when they may have been handed out unseen: about 30 us each
#: at the start.
WINDOW = 10_000

_UNSEEN = "unseen/"


#: Definitions at the node, by paycode_id.
Definitions = Mapping[str, PaycodeDefinition]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unseen:
    """Indexes of a code, from `first` to `below`, that may have been handed out without a trace here or at the node."""

    first: int
    below: int
    #: unix seconds from which on no invoice among them is valid any more
    until: int


def unseen(sql: Sql, paycode_id: str) -> Unseen | None:
    value = cursors.fact(sql, _UNSEEN + paycode_id)
    if value is None:
        return None
    first, below, until = json.loads(value)
    return Unseen(first=first, below=below, until=until)


def _note_unseen(tx: Sql, paycode_id: str, terms: Terms, *, first: int, below: int, now: int) -> None:
    if is_listed(terms) or first >= below:
        return
    earlier = unseen(tx, paycode_id)
    if earlier is not None and now < earlier.until:
        first = min(first, earlier.first)
    value = json.dumps([max(first, below - WINDOW), below, now + terms.expiry])
    cursors.put_fact(tx, _UNSEEN + paycode_id, value)


def take_over(tx: Sql, definition: PaycodeDefinition, *, every: Definitions, now: int) -> str | None:
    """Bring one code of the sidecar up to its definition at the node, where that is the newer one.

    Either side may come from an older backup than the other. A name that another code has here, and keeps in `every`
    definition at the node, is changed: then what to tell a person about it.
    """
    here, renamed = paycodes.by_id(tx, definition.paycode_id), None
    if here is None or here.updated_at < definition.updated_at:
        definition, renamed = _with_free_names(tx, definition, every)
    first = FIRST_INDEX if here is None else here.next_index
    if here is None or here.reserved_index < definition.reserved_index:
        _note_unseen(tx, definition.paycode_id, definition.terms, first=first, below=definition.reserved_index, now=now)
    if here is None:
        paycodes.insert(tx, definition, next_index=definition.reserved_index, mirrored=renamed is None)
        cursors.put_fact(tx, rebuild_fact(definition.paycode_id), "wanted")
        return renamed
    if here.reserved_index < definition.reserved_index:
        paycodes.raise_next_index(tx, definition.paycode_id, definition.reserved_index)
        paycodes.mark_mirrored(tx, definition.paycode_id, definition.reserved_index)
        cursors.put_fact(tx, rebuild_fact(definition.paycode_id), "wanted")
    if here.listed_from < definition.listed_from:
        paycodes.set_listed_from(tx, definition.paycode_id, definition.listed_from)
    if here.updated_at < definition.updated_at:
        paycodes.set_terms(tx, definition.paycode_id, definition.terms, now=definition.updated_at)
        paycodes.set_status(tx, definition.paycode_id, definition.status, now=definition.updated_at)
        paycodes.mark_mirrored(tx, definition.paycode_id, definition.reserved_index)
    if definition.reserved_index < here.reserved_index or definition.updated_at < here.updated_at or renamed:
        paycodes.mark_unmirrored(tx, definition.paycode_id)
    return renamed


def _with_free_names(
    tx: Sql, definition: PaycodeDefinition, every: Definitions
) -> tuple[PaycodeDefinition, str | None]:
    """Label and user are unique here; two histories of one node, joined by a backup, may both have used a name."""
    terms, paycode_id = definition.terms, definition.paycode_id
    for holder in _holders(tx, terms):
        newer = every.get(holder.paycode_id)
        if holder.paycode_id != paycode_id and newer is not None and holder.updated_at < newer.updated_at:
            paycodes.release_names(tx, holder.paycode_id)  # its turn is still to come
    labeled = paycodes.by_label(tx, terms.label)
    owner = None if terms.user is None else paycodes.by_user(tx, terms.user)
    label, user = terms.label, terms.user
    if labeled is not None and labeled.paycode_id != paycode_id:
        label = f"{terms.label[: LABEL_CHARS - _SUFFIX_CHARS - 1]}-{paycode_id[:_SUFFIX_CHARS]}"
    if owner is not None and owner.paycode_id != paycode_id:
        user = None
    if (label, user) == (terms.label, terms.user):
        return definition, None
    changed = replace(definition, terms=replace(terms, label=label, user=user))
    told = f"paycode {paycode_id} is now labeled {label!r}: another one has its label {terms.label!r} or its user"
    return changed, told


def _holders(tx: Sql, terms: Terms) -> list[Paycode]:
    """The codes that have this label and this user here."""
    found = [paycodes.by_label(tx, terms.label), None if terms.user is None else paycodes.by_user(tx, terms.user)]
    return [paycode for paycode in found if paycode is not None]


def skip_block(tx: Sql, paycode: Paycode, *, now: int) -> None:
    """Go on behind all indexes that may have been handed out."""
    _note_unseen(tx, paycode.paycode_id, paycode.terms, first=paycode.next_index, below=paycode.reserved_index, now=now)
    paycodes.raise_next_index(tx, paycode.paycode_id, paycode.reserved_index)


def is_listed(terms: Terms) -> bool:
    """The node knows each invoice of such a code from the moment it is handed out."""
    return terms.issue is Issue.EAGER and not terms.hold


def settle_rebuilt(tx: Sql, paycode: Paycode, *, exact: bool) -> None:
    """The end of a full run for a code that was adopted.

    With `exact`, which says that the node has never deleted an invoice, it goes on right behind the last one.
    """
    behind_last = invoices.last_index(tx, paycode.paycode_id) + 1
    if exact and is_listed(paycode.terms) and behind_last <= paycode.reserved_index:
        paycodes.set_next_index(tx, paycode.paycode_id, max(behind_last, paycode.listed_from))
    cursors.drop_fact(tx, rebuild_fact(paycode.paycode_id))


def rebuild_fact(paycode_id: str) -> str:
    """The name of the fact that a code was adopted and its invoices have not been looked for yet."""
    return f"rebuild/{paycode_id}"
