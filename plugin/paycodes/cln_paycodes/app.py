"""The composition root: builds every service, starts and stops what runs by itself."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .core.keys import SEED_LABEL
from .core.links import Links
from .core.records import Invoice, Paycode
from .core.seal import SEAL_LABEL, Seal
from .errors import BadParameter, SidecarUnavailable
from .http.doors import Doors
from .http.settings import HttpSettings
from .node.lightningd import Lightningd
from .services.actions import Engine, problems
from .services.announcing import Announcer, Emit
from .services.books import Books
from .services.decisions import Decisions
from .services.delivery import Deliveries
from .services.desk import Desk
from .services.endpoints import Endpoints
from .services.holds import Holds
from .services.issuing import Issuing
from .services.looking import Looker
from .services.lost import LostInvoices
from .services.minting import Mint
from .services.offers import Offers, current
from .services.outgoing import note_origin
from .services.payments import Payments
from .services.pruning import Pruner
from .services.reconciler import Reconciler
from .services.registration import Registration
from .services.registry import Registry
from .services.signing import Signer
from .services.timer import Timer
from .services.waiting import Waiters
from .services.watching import Watcher
from .store import cursors, endpoints, invoices, outbox
from .store.store import Store

log = logging.getLogger(__name__)

#: Runs a job with its arguments on a thread that may call the node.
Submit = Callable[..., None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the operator chose, checked."""

    database: Path
    #: seconds between two incremental runs of `reconcile`
    reconcile_interval_s: int
    #: seconds for which acknowledged events are kept; 0: for ever
    outbox_retention_s: int
    http: HttpSettings


def now() -> int:
    """Unix seconds."""
    return int(time.time())


class Services:
    """Everything that commands, hooks and notifications work with."""

    def __init__(self, settings: Settings, node: Lightningd, emit: Emit, submit: Submit) -> None:
        """Opens the sidecar and asks the node for its secrets; raises PaycodesError with what to do.

        `emit` sends a notification to the node, for other plugins; `submit` runs what HTLCs wait for on a thread that
        may call the node.
        """
        self.settings = settings
        self.node = node
        self.clock = now
        self.started_at = now()
        self.store = Store(settings.database)
        self.timer = Timer()
        try:
            self._build(emit, submit)
        except BaseException:
            self.timer.stop()
            self.node.close()
            self.store.close()
            raise

    def _build(self, emit: Emit, submit: Submit) -> None:
        settings, node = self.settings, self.node
        node_id = node.node_id()
        self._require_same_node(node_id)
        note_origin(node)
        seal = Seal(node.make_secret(SEAL_LABEL))
        seed = node.make_secret(SEED_LABEL)
        self.registry = Registry(
            self.store,
            node,
            seed=seed,
            seal=seal,
            clock=now,
            randomness=os.urandom,
            skipped=lambda: self.lost.refresh(),
        )
        self.lost = LostInvoices(self.store, self.registry, clock=now)
        if not self.registry.every():
            self.registry.adopt()  # before the first HTLC comes: it may be for an invoice of a sidecar that was lost
        self.lost.refresh()
        self.endpoints = Endpoints(
            self.store, node, seal=seal, clock=now, randomness=os.urandom, changed=self._endpoints_changed
        )
        self.announcer = Announcer(self.store, emit)
        self.deliveries = Deliveries(
            self.store, self.endpoints, self.timer, clock=now, chance=random.random, disabled=self.announcer.wake
        )
        self.actions = Engine(self.store, clock=now, chance=random.random)
        self.pruner = Pruner(self.store, clock=now, retention_s=settings.outbox_retention_s)
        self.books = Books(
            self.store,
            node,
            self.registry,
            node_id=node_id,
            clock=now,
            changed=self._changed,
            awaited=lambda: self.waiters.awaited(),
            opened=lambda payment_hashes: self.desk.opened(payment_hashes),
            told=self._told,
        )
        self.waiters = Waiters(self.books.by_slot, self.timer)
        signer = Signer(node, clock=now, chance=random.random)
        self.mint = Mint(node, self.registry, signer, clock=now, submit=submit)
        self.issuing = Issuing(self.store, node, self.registry, self.books, self.mint, clock=now)
        self._desk_of_htlcs(node_id, submit)
        self.payments = Payments(self.store, node, self.books, node_id=node_id, clock=now, told=self._told)
        self.offers = Offers(self.store, node, self.registry, node_id=node_id, clock=now, told=self._told)
        self.reconciler = Reconciler(
            self.store,
            node,
            self.registry,
            self.endpoints,
            self.books,
            self.issuing,
            self.payments,
            self.offers,
            clock=now,
        )
        self.watcher = Watcher(self.reconciler, node, interval_s=settings.reconcile_interval_s)
        self.looker = Looker(self.books, left=self.watcher.wake)
        #: the public addresses of codes, when the operator told us ours
        self.links = None if settings.http.url is None else Links(settings.http.url)
        self.doors = Doors(
            settings.http,
            self.store,
            self.issuing,
            self.waiters,
            clock=now,
            info=self.info,
            is_healthy=self.is_healthy,
        )

    def _desk_of_htlcs(self, node_id: str, submit: Submit) -> None:
        registration = Registration(self.store, self.mint, clock=now)
        self.holds = Holds(
            self.store,
            self.node,
            self.books,
            self.timer,
            node_id=node_id,
            clock=now,
            told=self._told,
            stirred=self.actions.wake,
            submit=submit,
        )
        self.desk = Desk(
            self.store,
            self.node,
            self.books,
            registration,
            self.holds,
            self.lost,
            clock=now,
            submit=submit,
        )
        self.decisions = Decisions(
            self.store,
            self.node,
            self.books,
            self.holds,
            registration,
            self.actions,
            self.waiters,
            self.timer,
            clock=now,
            submit=submit,
        )

    def _changed(self, invoice: Invoice) -> None:
        """A commit has moved an invoice; HTLCs for it are known before anyone is told of it."""
        self.desk.changed(invoice)
        self.waiters.changed(invoice)

    def _require_same_node(self, node_id: str) -> None:
        """A sidecar belongs to one node: another one's would be judged by the wrong keys."""
        known = self.store.read(lambda sql: cursors.fact(sql, "node_id"))
        if known is None:
            self.store.write(lambda tx: cursors.put_fact(tx, "node_id", node_id))
        elif known != node_id:
            raise BadParameter(
                f"paycodes-db: the sidecar {self.store.path} belongs to node {known}, this is {node_id}: give"
                " another file"
            )

    def start(self) -> None:
        """Deliver what is due, and look what happened while the plugin was away."""
        self.deliveries.start()
        self.announcer.start()
        self.actions.start()
        self.pruner.start()
        self.decisions.start()
        self.desk.start()
        self.looker.start()
        self.watcher.start()
        self.doors.open()

    def stop(self) -> None:
        """Bring what is under way to the disk and let go of the sidecar."""
        self.waiters.close()  # or pages that wait for a payment keep the doors open
        self.doors.close()
        self.watcher.stop()
        self.desk.stop()
        self.looker.stop()
        self.actions.stop()
        self.deliveries.stop()
        self.announcer.stop()
        self.pruner.stop()
        self.issuing.close()
        self.node.close()
        self.timer.stop()
        self.store.close()

    def _endpoints_changed(self) -> None:
        self.deliveries.refresh()

    def _told(self) -> None:
        """An event is in the outbox."""
        self.deliveries.wake()
        self.announcer.wake()

    def retry(self, *, event_id: str | None, endpoint_id: str | None) -> int:
        """Make waiting and exhausted deliveries due now; how many."""
        if endpoint_id is not None:
            self.endpoints.find(endpoint_id)
        if event_id is not None and self.store.read(lambda sql: outbox.event_by_id(sql, event_id)) is None:
            raise BadParameter(f"event: the outbox has no event {event_id[:80]!r}: listoutbox shows those there are")
        return self.deliveries.retry(event_id=event_id, endpoint_id=endpoint_id)

    def is_healthy(self) -> bool:
        """The sidecar answers, and the last look at the node came to its end."""
        try:
            self.store.read(cursors.every)
        except SidecarUnavailable:
            return False
        return self.watcher.last_error is None

    def public_fields(self, paycode: Paycode) -> dict[str, Any]:
        """What a paycode in a result has because of its public address and its offers, whose payments count too."""
        made = self.offers.of(paycode)
        offer = None if paycode.terms.hold else current(made, paycode)
        bolt12 = None if offer is None else offer.bolt12
        fields = {} if self.links is None else self.links.answer(paycode, bolt12)
        if bolt12 is not None:
            fields["bolt12"] = bolt12
        if made:
            fields["paid"] = paycode.paid + sum(offer.paid for offer in made)
            fields["received_msat"] = paycode.received_msat + sum(offer.received_msat for offer in made)
        return fields

    def info(self) -> dict[str, Any]:
        """The answer of `getpaycodesinfo`."""
        backlog, oldest = self.store.read(outbox.backlog)
        last = self.reconciler.last
        return {
            "version": __version__,
            "uptime": now() - self.started_at,
            "database": str(self.store.path),
            "paycodes": len(self.registry.every()),
            "invoices": self.store.read(invoices.counts_by_status),
            "outbox": {
                "events": self.store.read(outbox.event_count),
                "backlog": backlog,
                "oldest_age": None if oldest is None else max(0, now() - oldest),
            },
            "cursors": self.store.read(cursors.every),
            "last_reconcile": None if last is None else {"at": self.reconciler.last_at, **last.answer()},
            "listening": self.doors.addresses,
            "warnings": self._warnings(),
        }

    def _warnings(self) -> list[str]:
        warnings = [] if self.reconciler.last is None else list(self.reconciler.last.problems)
        if self.reconciler.last is None:
            warnings.append("no reconcile has run yet since the plugin started")
        elif not self.reconciler.last.agree:
            warnings.append("books and node did not agree in the last reconcile: see its conflicts")
        if self.watcher.last_error is not None:
            warnings.append(f"the last reconcile was cut off: {self.watcher.last_error}")
        for endpoint in self.store.read(endpoints.every):
            if str(endpoint.status) in ("failing", "disabled"):
                warnings.append(f"endpoint {endpoint.endpoint_id} is {endpoint.status}: {endpoint.last_error}")
        warnings += [problem for problem in problems(self.store) if problem not in warnings]
        warnings += [
            f"the held payment {hold.payment_hash} is canceled at block {hold.claim_deadline_height}, the tip is at"
            f" {self.holds.height}: hold-settle or hold-cancel it"
            for hold in self.holds.urgent()
        ]
        warnings += self.doors.warnings
        unmirrored = len(self.registry.unmirrored()) + len(self.endpoints.unmirrored())
        if unmirrored:
            warnings.append(f"{unmirrored} definitions are not in the node's datastore yet: run reconcile")
        return warnings


class Pools:
    """Threads for RPC methods and HTLCs, one pool for each kind, so that slow ones never hold up quick ones."""

    SIZES = {"quick": 4, "node": 32, "htlc": 16, "slow": 4}  # noqa: RUF012 (a constant)

    def __init__(self) -> None:
        self._pools = {
            name: ThreadPoolExecutor(size, thread_name_prefix=f"paycodes-{name}") for name, size in self.SIZES.items()
        }
        self._stopped = False
        for pool in self._pools.values():
            pool.submit(int)  # its first thread

    def submit(self, pool: str, job: Any, *arguments: Any) -> None:
        """Raises RuntimeError when they are stopped. Where no more threads can be had, the job waits for one there is:
        an HTLC that nobody decides costs its channel.
        """
        try:
            self._pools[pool].submit(job, *arguments)
        except RuntimeError:  # the executor has queued it before it starts a thread for it
            if self._stopped:
                raise

    def stop(self) -> None:
        self._stopped = True
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
