"""Paycodes: made, changed and found; their definitions mirrored in the node's datastore; their root keys in memory.

A definition is first durable in the sidecar (`mirrored` 0), then in the datastore, then marked. Whatever the crash,
the next start or `reconcile` writes what is not mirrored and adopts what only the node has. All of it runs under one
lock: definitions change seldom, and two writers of one record would have to agree on which is newer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

from .. import crash
from ..core.definitions import (
    PaycodeDefinition,
    UnreadableDefinition,
    decode_paycode,
    encode_paycode,
)
from ..core.keys import FIRST_INDEX, InvoiceKeys, RootKey, ScalarOutOfRange
from ..core.records import Paycode
from ..core.seal import NONCE_BYTES, Seal, SealBroken
from ..core.terms import PaycodeStatus, Terms
from ..errors import BadParameter, LabelTaken, NodeRefused, NodeUnknown, UnknownPaycode
from ..node.port import Node
from ..store import paycodes
from ..store.store import Sql, Store
from .adoption import is_listed, skip_block, take_over
from .past import first_free_index

log = logging.getLogger(__name__)

#: Indexes that one write to the datastore makes ready to hand out. A sidecar that is lost with invoices that the node
#: has forgotten goes on behind them, so that no index is ever used twice.
INDEX_BLOCK = 256

#: Seconds that issuing waits for the first run of `reconcile` to show which indexes are free.
INDEXES_TIMEOUT_S = 10

#: Keys of invoices that are kept for those who need them next.
_KEYS_KEPT = 1024

#: Shortest prefix of a paycode_id that a command takes for the whole.
PREFIX_CHARS = 8

_HEX = frozenset("0123456789abcdef")


def code_key(paycode_id: str) -> tuple[str, ...]:
    return ("paycodes", "code", paycode_id)


class Registry:
    def __init__(
        self,
        store: Store,
        node: Node,
        *,
        seed: bytes,
        seal: Seal,
        clock: Callable[[], int],
        randomness: Callable[[int], bytes],
        skipped: Callable[[], None],
    ) -> None:
        """`skipped` is called when indexes were skipped that may have been handed out unseen."""
        self._store = store
        self._node = node
        self._seed = seed
        self._seal = seal
        self._clock = clock
        self._randomness = randomness
        self._skipped = skipped
        self._lock = threading.Lock()
        self._roots: dict[str, RootKey] = {}
        self._invoice_keys = lru_cache(_KEYS_KEPT)(RootKey.invoice)
        #: a run of `reconcile` has shown, since the plugin started, which indexes were handed out
        self._indexes_known = threading.Event()

    # --- finding ---

    def find(self, selector: str) -> Paycode:
        """By paycode_id, label, user or a unique prefix of an id; UnknownPaycode saying what is there instead."""
        return self._store.read(lambda sql: find(sql, selector))

    def every(self) -> list[Paycode]:
        return self._store.read(paycodes.every)

    def root(self, paycode: Paycode) -> RootKey:
        """The root key of a code, derived or unsealed once."""
        root = self._roots.get(paycode.paycode_id)
        if root is None:
            root = self._root_of(paycode.paycode_id, paycode.number, paycode.sealed_root)
            self._roots[paycode.paycode_id] = root
        return root

    def root_by_id(self, paycode_id: str) -> RootKey | None:
        """The root key of a code that is known here, else None."""
        root = self._roots.get(paycode_id)
        if root is None:
            paycode = self._store.read(lambda sql: paycodes.by_id(sql, paycode_id))
            root = None if paycode is None else self.root(paycode)
        return root

    def invoice_keys(self, root: RootKey, index: int) -> InvoiceKeys:
        """The keys of an invoice, derived once for all who need them soon."""
        return self._invoice_keys(root, index)

    # --- making and changing ---

    def create(self, terms: Terms, *, root_key: bytes | None) -> tuple[Paycode, bool]:
        """The paycode, and whether it is new: the same label with the same terms gives the one that exists."""
        self._await_first_run()
        with self._lock:
            existing = self._store.read(lambda sql: paycodes.by_label(sql, terms.label))
            if existing is not None:
                return self._same(existing, terms, root_key), False
            root, number, sealed = self._new_root(root_key)
            self._require_free(terms, root.paycode_id)
            first, now = first_free_index(self._node, root, block=INDEX_BLOCK), self._clock()
            definition = PaycodeDefinition(
                paycode_id=root.paycode_id,
                number=number,
                terms=terms,
                status=PaycodeStatus.ACTIVE,
                sealed_root=sealed,
                reserved_index=first,
                listed_from=FIRST_INDEX,
                created_at=now,
                updated_at=now,
            )
            self._store.write(lambda tx: paycodes.insert(tx, definition, next_index=first, mirrored=False))
            crash.point("create:recorded")
            self._roots[root.paycode_id] = root
            self._mirror(self.find(root.paycode_id), reserved_index=first + INDEX_BLOCK)
            return self.find(root.paycode_id), True

    def _same(self, existing: Paycode, terms: Terms, root_key: bytes | None) -> Paycode:
        if other := existing.terms.differing(terms):
            raise LabelTaken(
                f"label {terms.label!r} is taken by a paycode with other terms ({', '.join(other)}): change that one"
                " with paycode-update, or choose another label"
            )
        if root_key is not None and RootKey(root_key).paycode_id != existing.paycode_id:
            raise LabelTaken(f"label {terms.label!r} is taken by a paycode with another root key")
        return existing

    def _new_root(self, root_key: bytes | None) -> tuple[RootKey, int | None, str | None]:
        if root_key is not None:
            try:
                root = RootKey(root_key)
            except ValueError as e:
                raise BadParameter(f"root_key: {e}") from None
            nonce = self._randomness(NONCE_BYTES)
            return root, None, self._seal.close(root.secret_bytes, record_id=root.paycode_id, nonce=nonce)
        number = self._store.read(paycodes.next_number)
        while True:
            try:
                root = RootKey.derive(self._seed, number)
            except ScalarOutOfRange:
                number += 1
                continue
            # A definition that this version cannot read is in no table, but its number is taken.
            if not self._node.read_datastore(*code_key(root.paycode_id)):
                return root, number, None
            number += 1

    def _require_free(self, terms: Terms, paycode_id: str) -> None:
        with_root = self._store.read(lambda sql: paycodes.by_id(sql, paycode_id))
        if with_root is not None:
            raise LabelTaken(f"that root_key belongs to paycode {with_root.terms.label!r} already")
        self._require_user_free(terms, paycode_id)

    def _require_user_free(self, terms: Terms, paycode_id: str) -> None:
        if terms.user is None:
            return
        user = terms.user
        owner = self._store.read(lambda sql: paycodes.by_user(sql, user))
        if owner is not None and owner.paycode_id != paycode_id:
            raise BadParameter(f"user: {user!r} is taken by paycode {owner.terms.label!r}: choose another")

    def update(self, selector: str, change: Callable[[Terms], Terms]) -> Paycode:
        """Change the terms of a code; those of invoices already issued stay."""
        with self._lock:
            paycode = self.find(selector)
            terms = change(paycode.terms)
            if terms == paycode.terms:
                return paycode
            labeled = self._store.read(lambda sql: paycodes.by_label(sql, terms.label))
            if labeled is not None and labeled.paycode_id != paycode.paycode_id:
                raise LabelTaken(f"label {terms.label!r} is taken: choose another")
            self._require_user_free(terms, paycode.paycode_id)
            now = self._clock()
            self._store.write(partial(_set_terms, paycode_id=paycode.paycode_id, terms=terms, now=now))
            return self._mirror(self.find(paycode.paycode_id))

    def set_status(self, selector: str, status: PaycodeStatus) -> Paycode:
        with self._lock:
            paycode = self.find(selector)
            if paycode.status is status:
                return paycode
            now = self._clock()
            self._store.write(lambda tx: paycodes.set_status(tx, paycode.paycode_id, status, now=now))
            return self._mirror(self.find(paycode.paycode_id))

    # --- the mirror in the node's datastore ---

    def _mirror(self, paycode: Paycode, *, reserved_index: int | None = None) -> Paycode:
        """Write the definition to the node; a node that refuses leaves it to the next `reconcile`."""
        if reserved_index is not None:
            paycode = replace(paycode, reserved_index=reserved_index)
        try:
            self._node.write_datastore(code_key(paycode.paycode_id), encode_paycode(paycode))
        except (NodeRefused, NodeUnknown) as e:
            log.warning("paycode %s is not in the node's datastore yet: %s", paycode.paycode_id, e)
        else:
            crash.point("create:mirrored")
            self._store.write(lambda tx: paycodes.mark_mirrored(tx, paycode.paycode_id, paycode.reserved_index))
        return self.find(paycode.paycode_id)

    def unmirrored(self) -> list[Paycode]:
        return self._store.read(paycodes.unmirrored)

    def mirror_pending(self) -> int:
        """Write what the datastore lacks; how many definitions are still not there."""
        with self._lock:
            left = 0
            for paycode in self.unmirrored():
                reserved = max(paycode.reserved_index, paycode.next_index + INDEX_BLOCK)
                left += not self._mirror(paycode, reserved_index=reserved).mirrored
            return left

    def reserve_index_block(self, paycode_id: str, *, left: int = 0) -> None:
        """Have the node remember that the next block of indexes may have been handed out, once no more than `left` of
        the last one are.

        A node that does not take it is no reason to refuse an eager invoice: the node's own list remembers that
        index.
        """
        with self._lock:
            paycode = self.find(paycode_id)
            if paycode.next_index + left >= paycode.reserved_index:
                self._mirror(paycode, reserved_index=paycode.next_index + INDEX_BLOCK)

    @property
    def indexes_known(self) -> bool:
        """Nothing has to be waited for before an index is taken."""
        return self._indexes_known.is_set()

    def find_to_issue(self, selector: str) -> Paycode:
        """Like `find`, before an index is taken, for the case that this sidecar is new or an older backup of itself.

        Until the first run since the start is through with what the node has, an index that looks free may have been
        handed out already. Where that run takes too long the code goes on behind all that may have been.
        """
        if self._await_first_run():
            return self.find(selector)
        paycode = self.find(selector)
        self._store.write(partial(skip_block, paycode=paycode, now=self._clock()))
        self._skipped()
        return self.find(selector)

    def _await_first_run(self) -> bool:
        """Wait until `reconcile` has taken over what the node has; after too long, take over the definitions alone."""
        if self._indexes_known.wait(INDEXES_TIMEOUT_S):
            return True
        self.adopt()
        return False

    def settle_indexes(self, *, all_seen: bool) -> None:
        """Every invoice that the node still has is in the books; `all_seen`: and none that it had is gone unseen.

        Else, and for codes whose invoices the node does not list from the start, what is left of the block of
        indexes that may have been handed out is skipped.
        """
        if self._indexes_known.is_set():
            return
        for paycode in self.every():
            if not (all_seen and is_listed(paycode.terms)):
                self._store.write(partial(skip_block, paycode=paycode, now=self._clock()))
        self._skipped()
        self._indexes_known.set()

    def adopt(self) -> list[str]:
        """Take over from the node's datastore what this sidecar does not know; what of it cannot be read.

        A code whose last index is in doubt goes on behind all indexes that it may ever have handed out, until a full
        `reconcile` has seen which were. What the node lacks, or has from an older backup, is marked to be written.
        """
        with self._lock:
            definitions, problems, at_node = self._definitions_of_node()
            every = {definition.paycode_id: definition for definition in definitions}
            for definition in definitions:
                renamed = self._store.write(partial(take_over, definition=definition, every=every, now=self._clock()))
                if renamed is not None:
                    problems.append(renamed)
            for paycode in self.every():
                if paycode.mirrored and paycode.paycode_id not in at_node:
                    self._store.write(partial(paycodes.mark_unmirrored, paycode_id=paycode.paycode_id))
        return problems

    def peek(self) -> list[str]:
        """Learn the root keys of all definitions without writing anything; what cannot be read."""
        return self._definitions_of_node()[1]

    def _definitions_of_node(self) -> tuple[list[PaycodeDefinition], list[str], set[str]]:
        """The definitions, what cannot be read, and the ids of both."""
        definitions, problems, at_node = [], [], set()
        for datum in self._node.read_datastore("paycodes", "code"):
            at_node.add(datum.key[-1])
            try:
                definition = decode_paycode(datum.key[-1], datum.text or "")
                self._learn_key(definition)
            except (UnreadableDefinition, SealBroken) as e:
                problems.append(str(e))
            else:
                definitions.append(definition)
        definitions.sort(key=lambda definition: (definition.created_at, definition.number or 0))
        return definitions, problems, at_node

    def _learn_key(self, definition: PaycodeDefinition) -> None:
        """Raises SealBroken when the definition came from another node's secret."""
        if definition.paycode_id not in self._roots:
            self._roots[definition.paycode_id] = self._root_of(
                definition.paycode_id, definition.number, definition.sealed_root
            )

    def _root_of(self, paycode_id: str, number: int | None, sealed_root: str | None) -> RootKey:
        if sealed_root is not None:
            root = RootKey(self._seal.open(sealed_root, record_id=paycode_id))
        elif number is None:
            raise SealBroken(f"the definition of paycode {paycode_id} has no key in it")
        else:
            root = RootKey.derive(self._seed, number)
        if root.paycode_id != paycode_id:
            raise SealBroken(f"the key of paycode {paycode_id} belongs to another node's secret")
        return root


def _set_terms(tx: Sql, paycode_id: str, terms: Terms, now: int) -> None:
    before = paycodes.by_id(tx, paycode_id)
    assert before is not None  # codes are never deleted
    paycodes.set_terms(tx, paycode_id, terms, now=now)
    if is_listed(terms) and not is_listed(before.terms):
        paycodes.set_listed_from(tx, paycode_id, before.next_index)


def find(sql: Sql, selector: str) -> Paycode:
    """A paycode by id, label, user or unique prefix; UnknownPaycode else."""
    paycode = paycodes.by_id(sql, selector) or paycodes.by_label(sql, selector) or paycodes.by_user(sql, selector)
    if paycode is not None:
        return paycode
    if len(selector) >= PREFIX_CHARS and _HEX.issuperset(selector):
        found = paycodes.by_prefix(sql, selector)
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownPaycode(f"more than one paycode_id begins with {selector}: give more of it")
    shown = selector if len(selector) <= 80 else selector[:80] + "..."
    raise UnknownPaycode(f"no paycode has the id, label or user {shown!r}: listpaycodes shows those there are")
