"""A run of reconcile beside issuing: what the node said a moment ago proves nothing of a row that has moved since."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.records import Invoice, NodeInvoice
from cln_paycodes.core.report import Report
from cln_paycodes.core.states import InvoiceStatus as S
from cln_paycodes.errors import NodeRefused
from cln_paycodes.services.run import Run
from cln_paycodes.store import invoices
from cln_paycodes.store.store import Store
from samples import NOW, add_invoice, add_paycode, hash_of, slot_of
from wiring import books_on

SLOT = slot_of("coffee", 1)


class Bench:
    """A sidecar with one row, and a node that is asked for it just before it is issued."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.store.write(lambda tx: add_paycode(tx, "coffee"))
        self.store.write(partial(add_invoice, slot=SLOT, status=S.RESERVED, expires_at=NOW + 60))
        #: what is to be issued again
        self.issued: list[Slot] = []
        self._is_listed = False
        node: Any = SimpleNamespace(
            last_index=lambda **_: 0,
            payments=lambda **_: [],
            read_datastore=lambda *_: [],
            invoice_by_label=self._invoice_by_label,
            write_datastore=lambda *_, **__: None,
        )
        definitions = SimpleNamespace(
            adopt=list, mirror_pending=lambda: 0, settle_indexes=lambda **_: None, root_by_id=lambda _: None
        )
        self.sources: Any = SimpleNamespace(
            store=self.store,
            node=node,
            registry=definitions,
            endpoints=definitions,
            books=books_on(self.store, node, definitions),
            issuing=SimpleNamespace(
                is_under_way=lambda _: False,
                drive=self._issue_again,
                list_again=self._issue_again,
            ),
            payments=None,
            offers=SimpleNamespace(settle=lambda **_: [], take=lambda *_, **__: 0),
            clock=lambda: NOW,
            check=lambda: None,
        )

    def _invoice_by_label(self, label: str) -> NodeInvoice | None:
        if self._is_listed:
            return NodeInvoice(
                label=label,
                payment_hash=hash_of(SLOT),
                status="unpaid",
                amount_msat=21_000,
                received_msat=None,
                bolt11="lnbcrt1",
                expires_at=NOW + 60,
                paid_at=None,
                created_index=1,
                updated_index=None,
                description=None,
            )
        self._is_listed = True
        self.store.write(partial(invoices.change, slot=SLOT, to=S.ISSUED, now=NOW, bolt11="lnbcrt1"))
        return None

    def _issue_again(self, row: Invoice) -> NoReturn:
        self.issued.append(row.slot)
        raise NodeRefused("invoice", 901, "preimage already used")

    def run(self) -> Report:
        return Run(
            self.sources, full=False, dry_run=False, progress=lambda *_: None, definition_problems=None
        ).carry_out()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "sidecar.sqlite3")
    yield bench
    bench.store.close()


def test_row_that_was_issued_after_the_node_was_asked_is_left_alone(bench: Bench) -> None:
    """It is not missing, and not issued a second time: the next run asks again."""
    report = bench.run()

    assert bench.issued == []
    assert (report.counts["missing"], report.counts["reissued"], report.problems, report.conflicts) == (0, 0, [], {})
    assert report.agree
