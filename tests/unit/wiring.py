"""Services on a real sidecar and a stand-in for the node: whom they tell of changes, but for those named, is nobody."""

from __future__ import annotations

from typing import Any

from cln_paycodes.core.seal import Seal
from cln_paycodes.services.books import Books
from cln_paycodes.services.registry import Registry
from cln_paycodes.store.store import Store
from samples import NOW

SEED = bytes(32)


def registry_on(store: Store, node: Any) -> Registry:
    """`node` has what is called in the test."""
    return Registry(
        store,
        node,
        seed=SEED,
        seal=Seal(SEED),
        clock=lambda: NOW,
        randomness=bytes,
        skipped=lambda: None,
    )


def books_on(store: Store, node: Any, registry: Any, **told: Any) -> Books:
    """Likewise; `told` are callbacks of `Books` by name."""
    nobody: dict[str, Any] = {
        "changed": lambda _invoice: None,
        "awaited": lambda: (),
        "opened": lambda _hashes: None,
        "told": lambda: None,
    }
    return Books(store, node, registry, node_id="02" * 33, clock=lambda: NOW, **{**nobody, **told})
