"""Whose request it is."""

from __future__ import annotations

import pytest
from cln_paycodes.errors import BadParameter
from cln_paycodes.http.limits import CONNECTIONS_PER_ADDRESS, Limits
from cln_paycodes.http.settings import Address, HttpSettings, read_settings
from starlette.requests import HTTPConnection

OPTIONS = {
    "paycodes-listen": "",
    "paycodes-metrics-listen": "",
    "paycodes-url": "",
    "paycodes-trust-proxy": "",
    "paycodes-rate-limit": 60,
}


def settings(**options: object) -> HttpSettings:
    return read_settings(
        {**OPTIONS, **{f"paycodes-{name.replace('_', '-')}": value for name, value in options.items()}}
    )


def address(peer: str, *forwarded: str, trust: str = "127.0.0.1,10.0.0.0/8,fd00::/8") -> str:
    headers = [(b"x-forwarded-for", hop.encode()) for hop in forwarded]
    connection = HTTPConnection({"type": "http", "client": (peer, 1234), "headers": headers})
    return Limits(settings(trust_proxy=trust)).address(connection)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        ("198.51.100.1", ["192.0.2.1"], "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["6.6.6.6, 192.0.2.1, 10.0.0.1"], "192.0.2.1"),
        ("127.0.0.1", ["6.6.6.6", "192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["10.0.0.1"], "127.0.0.1"),
        ("127.0.0.1", ["not an address"], "not an address"),
        ("::ffff:198.51.100.1", [], "198.51.100.1"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("::ffff:127.0.0.1", ["192.0.2.1, ::ffff:10.0.0.1"], "192.0.2.1"),
    ],
)
def test_whose_request_it_is(peer: str, forwarded: list[str], expected: str) -> None:
    """The last address that is no proxy of ours; an IPv6 network counts as one caller."""
    assert address(peer, *forwarded) == expected


def test_proxy_may_be_named_as_a_socket_of_both_protocols_sees_it() -> None:
    """An IPv4 address in IPv6 form."""
    assert address("::ffff:127.0.0.1", "192.0.2.1", trust="::ffff:127.0.0.1") == "192.0.2.1"


def test_an_ipv6_network_has_the_connections_of_one_caller() -> None:
    """Whoever has a network of addresses cannot take them all; another network has its own."""
    limits = Limits(settings())
    taken = [limits.connect(f"2001:db8:1:2::{number:x}") for number in range(CONNECTIONS_PER_ADDRESS + 1)]
    elsewhere = limits.connect("2001:db8:1:3::1")
    limits.disconnect("2001:db8:1:2::1")

    assert taken == [True] * CONNECTIONS_PER_ADDRESS + [False]
    assert elsewhere
    assert limits.connect("2001:db8:1:2::ffff")


def test_without_a_limit_everyone_may() -> None:
    """paycodes-rate-limit=0."""
    limits = Limits(settings(rate_limit=0))

    assert all(limits.may_make("198.51.100.1", "code") for _ in range(10_000))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:8080", Address("::1", 8080)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
    ],
)
def test_addresses_to_listen_on(text: str, expected: Address) -> None:
    """Read, and written again as they were."""
    assert settings(listen=text).listen == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("listen", "8080"),
        ("listen", "127.0.0.1"),
        ("listen", ":8080"),
        ("listen", "127.0.0.1:x"),
        ("metrics_listen", "127.0.0.1:65536"),
        ("trust_proxy", "proxy"),
        ("trust_proxy", "10.0.0.0/99"),
        ("rate_limit", -1),
        ("url", "http://shop.example"),
    ],
)
def test_options_that_are_wrong_are_named(option: str, value: object) -> None:
    """The message begins with the option."""
    with pytest.raises(BadParameter, match=f"^paycodes-{option.replace('_', '-')}"):
        settings(**{option: value})
