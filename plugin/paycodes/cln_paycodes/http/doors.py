"""Opening and closing what listens: a port that cannot be had is said, and stops nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..core.links import Links
from ..services.issuing import Issuing
from ..services.waiting import Waiters
from ..services.wallets import Wallets
from ..store.store import Store
from .settings import Address, HttpSettings

if TYPE_CHECKING:
    from .context import Context

log = logging.getLogger(__name__)


class _Door(Protocol):
    def stop(self) -> None: ...


class Doors:
    def __init__(
        self,
        settings: HttpSettings,
        store: Store,
        issuing: Issuing,
        waiters: Waiters,
        *,
        clock: Callable[[], int],
        info: Callable[[], dict[str, Any]],
        is_healthy: Callable[[], bool],
    ) -> None:
        """`info` is what the metrics show."""
        self._settings = settings
        self._store = store
        self._issuing = issuing
        self._waiters = waiters
        self._clock = clock
        self._info = info
        self._is_healthy = is_healthy
        self._open: list[_Door] = []
        self._context: Context | None = None
        #: what is open, by option
        self.addresses: dict[str, str] = {}
        #: what an operator should know
        self.warnings: list[str] = []

    def open(self) -> None:
        if self._settings.listen is not None:
            self._attempt("paycodes-listen", self._settings.listen, self._open_http)
        if self._settings.metrics_listen is not None:
            self._attempt("paycodes-metrics-listen", self._settings.metrics_listen, self._open_metrics)
        if self._settings.listen is not None and self._settings.url is None:
            self._warn("paycodes-url is not set: wallets are sent to the address of paycodes-listen")
        if self._settings.listen is None and self._settings.url is not None:
            self._warn("paycodes-url is set and paycodes-listen is not: nothing answers there")

    def _attempt(self, option: str, address: Address, opening: Callable[[Address], Address]) -> None:
        try:
            opened = opening(address)
        except OSError as e:
            self._warn(f"{option}: cannot listen on {address}: {e.strerror or e}; everything else goes on")
        except UnicodeError:  # of a name that Python itself does not pass on to the resolver
            self._warn(f"{option}: cannot listen on {address}: it is no host name; everything else goes on")
        except ImportError as e:
            self._warn(f"{option}: the Python module {e.name} is missing: pip install -r requirements.txt")
        else:
            self.addresses[option] = str(opened)
            log.info("%s: listening on %s", option, opened)

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        log.warning("%s", text)

    def _open_http(self, address: Address) -> Address:
        from .context import Context
        from .limits import Limits
        from .server import HttpServer, listening_socket

        sock = listening_socket(address)
        bound = Address(address.host, sock.getsockname()[1])
        links = Links(self._settings.url or f"http://{bound}")
        self._context = Context(
            wallets=Wallets(self._store, self._issuing, links),
            waiters=self._waiters,
            limits=Limits(self._settings),
            clock=self._clock,
            is_healthy=self._is_healthy,
        )
        self._open.append(HttpServer(self._context, sock))
        return bound

    def _open_metrics(self, address: Address) -> Address:
        from .metrics import MetricsServer

        server = MetricsServer(address, self._info, None if self._context is None else self._context.limits)
        self._open.append(server)
        return Address(address.host, server.port)

    def close(self) -> None:
        while self._open:
            self._open.pop().stop()
