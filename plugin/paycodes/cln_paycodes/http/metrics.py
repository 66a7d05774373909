"""Prometheus metrics, on a port of their own: they are the operator's, not the payers'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .limits import Limits
from .settings import Address


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


class MetricsServer:
    def __init__(self, address: Address, info: Callable[[], dict[str, Any]], limits: Limits | None) -> None:
        """Raises OSError when the address cannot be had."""
        registry = CollectorRegistry()
        registry.register(_Books(info, limits))
        self._server, self._thread = start_http_server(address.port, address.host, registry)
        self.port = int(self._server.server_port)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
