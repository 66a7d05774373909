"""What the operator chose for HTTP, checked; light to import, so that a plugin without HTTP can read it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.links import check_public_url
from ..errors import BadParameter

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Invoices a minute that one address may ask for, at most.
_RATE_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpSettings:
    #: None: no HTTP
    listen: Address | None
    #: None: no metrics
    metrics_listen: Address | None
    #: public base URL, no slash at its end
    url: str | None
    #: proxies whose X-Forwarded-For counts
    trusted: tuple[IpNetwork, ...]
    #: invoices a minute for one address; 0: no limit
    rate_limit: int

    def trusts(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        forms = [ip]
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            forms.append(ip.ipv4_mapped)  # so an IPv4 address looks to a socket of both protocols
        return any(form.version == network.version and form in network for form in forms for network in self.trusted)


def read_settings(options: Mapping[str, Any]) -> HttpSettings:
    """From the options; BadParameter naming the one that is wrong."""
    rate_limit = int(options["paycodes-rate-limit"])
    if not 0 <= rate_limit <= _RATE_MOST:
        raise BadParameter(f"paycodes-rate-limit: give 0 (no limit) to {_RATE_MOST} invoices a minute")
    url = options["paycodes-url"]
    return HttpSettings(
        listen=_address("paycodes-listen", options["paycodes-listen"]),
        metrics_listen=_address("paycodes-metrics-listen", options["paycodes-metrics-listen"]),
        url=check_public_url(url) if url else None,
        trusted=_networks(options["paycodes-trust-proxy"]),
        rate_limit=rate_limit,
    )


def _address(option: str, text: str) -> Address | None:
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise BadParameter(f"{option}: give address:port, for example 127.0.0.1:8080 or [::1]:8080")
    return Address(host, int(port))


def _networks(text: str) -> tuple[IpNetwork, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadParameter(
            "paycodes-trust-proxy: give addresses or networks with commas between, for example 127.0.0.1,10.0.0.0/8"
        ) from None
