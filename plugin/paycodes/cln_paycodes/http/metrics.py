"""Prometheus metrics, on a port of their own: they are the operator's, not the payers'."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..errors import PaycodesError, describe
from .limits import Limits
from .settings import Address

log = logging.getLogger(__name__)

#: Seconds for which a scraper may say nothing.
_SILENCE_S = 10.0


class _Books(Collector):
    """Reads the sidecar at each scrape: nothing is counted twice, and a restart loses nothing."""

    def __init__(self, info: Callable[[], dict[str, Any]], limits: Limits | None) -> None:
        self._info = info
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        info = self._info()
        yield _gauge("paycodes_info", "The version that runs", 1, version=info["version"])
        yield _gauge("paycodes_uptime_seconds", "Seconds since the plugin started", info["uptime"])
        yield _gauge("paycodes_codes", "Payment codes defined", info["paycodes"])
        invoices = GaugeMetricFamily("paycodes_invoices", "Invoices by state", labels=["status"])
        for status, count in info["invoices"].items():
            invoices.add_metric([status], count)
        yield invoices
        yield _gauge("paycodes_outbox_events", "Events in the outbox", info["outbox"]["events"])
        yield _gauge("paycodes_outbox_backlog", "Deliveries not acknowledged yet", info["outbox"]["backlog"])
        yield _gauge("paycodes_outbox_oldest_seconds", "Age of the oldest of them", info["outbox"]["oldest_age"] or 0)
        yield _gauge("paycodes_warnings", "Things that getpaycodesinfo warns of", len(info["warnings"]))
        last = info["last_reconcile"]
        if last is not None:
            yield _gauge("paycodes_reconcile_timestamp_seconds", "When reconcile last ended", last["at"])
            yield _gauge("paycodes_reconcile_agree", "1 when books and node agreed then", int(last["agree"]))
        if self._limits is not None:
            yield from _http(self._limits)


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=list(labels))
    gauge.add_metric(list(labels.values()), value)
    return gauge


def _http(limits: Limits) -> Iterator[Metric]:
    yield _gauge("paycodes_http_callbacks", "Invoices in the making", limits.callbacks)
    yield _gauge("paycodes_http_streams", "Live pages open", limits.streams)
    refused = CounterMetricFamily("paycodes_http_refused", "Requests turned away", labels=["why"])
    for why, count in sorted(limits.refused.items()):
        refused.add_metric([why], count)
    yield refused


class _Scrape(WSGIRequestHandler):
    timeout = _SILENCE_S

    def log_message(self, *_: Any) -> None:
        """Not each a line on stderr, which is the node's log."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, address: Address, registry: CollectorRegistry) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        super().__init__((address.host, address.port), _Scrape)
        self.set_app(_answered(make_wsgi_app(registry)))

    def server_bind(self) -> None:
        """Without the DNS, which the class above asks for our name: where it is dead that takes half a minute."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]  # of an IP socket
        self.setup_environ()

    def handle_error(self, *_: Any) -> None:
        """A scraper that left: no traceback on stderr."""


def _answered(app: Callable[..., Any]) -> Callable[..., Iterable[bytes]]:
    """The one place where errors become answers: wsgiref's own is a traceback on stderr."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            found: Iterable[bytes] = app(environ, start_response)
        except PaycodesError as e:
            why = e.message
        except Exception as e:
            log.error("metrics failed: %s", describe(e))
            why = "an unexpected error"
        else:
            return found
        start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
        return [why.encode()]

    return answer


class MetricsServer:
    def __init__(self, address: Address, info: Callable[[], dict[str, Any]], limits: Limits | None) -> None:
        """Raises OSError when the address cannot be had."""
        registry = CollectorRegistry()
        registry.register(_Books(info, limits))
        self._server = _Server(address, registry)
        self.port = int(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, name="paycodes-metrics", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
