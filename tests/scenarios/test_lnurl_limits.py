"""Abuse and operation of the HTTP side: limits, floods, proxies, ports, metrics."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from network import KINDS
from network.daemon import poll_until
from pyln.client import RpcError
from serving import Shop, free_port, opened_shop

RATE = 4
PAYCODE_RATE = 10 * RATE
TOO_MANY = "too many requests: try again in a minute"

FLOOD = 10_000
FLOOD_CONNECTIONS = 100
FLOOD_RATE = 60

#: Callbacks that may be under way at a time.
UNDER_WAY = 64
STREAMS_PER_ADDRESS = 24
CONNECTIONS_PER_ADDRESS = 128


@pytest.fixture(scope="module", params=KINDS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Behind a proxy on this machine, so that a test can come from any address."""
    directory = tmp_path_factory.mktemp(f"limits-{request.param}")
    options = {"paycodes_rate_limit": RATE, "paycodes_trust_proxy": "127.0.0.1,10.0.0.0/8"}
    with opened_shop(request.param, directory, **options) as opened:
        yield opened


def ask(shop: Shop, label: str, forwarded: str | None, count: int = 1) -> int:
    """Callbacks from an address: how many got an invoice; the others were turned away for asking too often."""
    (paycode,) = shop.call("listpaycodes", label)["paycodes"]
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    path = f"/lnurlp/{paycode['paycode_id']}/callback"
    answers = [shop.http.get(path, params={"amount": 1000}, headers=headers).json() for _ in range(count)]
    assert all("pr" in answer or answer["reason"] == TOO_MANY for answer in answers)
    return sum("pr" in answer for answer in answers)


def test_each_address_has_its_own_limit(shop: Shop, unique: str) -> None:
    """One that has used up its invoices is refused, another is not."""
    shop.create(unique)

    assert ask(shop, unique, "198.51.100.1", RATE + 3) == RATE
    assert ask(shop, unique, "198.51.100.2", 1) == 1


def test_a_forged_hop_in_front_makes_no_new_address(shop: Shop, unique: str) -> None:
    """Only what our own proxies added counts: the last address that is none of theirs."""
    shop.create(unique)
    got = sum(ask(shop, unique, f"203.0.113.{number}, 198.51.100.3, 10.1.2.3") for number in range(RATE + 3))

    assert got == RATE


def test_a_code_has_a_limit_of_its_own(shop: Shop, unique: str) -> None:
    """Many addresses together cannot use a code more than so; others go on."""
    shop.create(unique)
    shop.create(f"{unique}-other")
    got = sum(ask(shop, unique, f"192.0.2.{number}") for number in range(PAYCODE_RATE + 10))

    assert PAYCODE_RATE <= got < PAYCODE_RATE + 10
    assert ask(shop, f"{unique}-other", "192.0.2.200") == 1


def test_resolving_is_cheaper_than_an_invoice_and_limited_too(shop: Shop, unique: str) -> None:
    """Ten questions for each invoice."""
    path = f"/lnurlp/{shop.create(unique)['paycode_id']}"
    headers = {"X-Forwarded-For": "198.51.100.9"}
    answers = [shop.http.get(path, headers=headers).json() for _ in range(10 * RATE + 5)]

    assert 10 * RATE <= sum("callback" in answer for answer in answers) < 10 * RATE + 5
    assert answers[-1] == {"status": "ERROR", "reason": TOO_MANY}


def test_live_pages_are_limited(shop: Shop, unique: str) -> None:
    """One address keeps so many open, and more when some are closed."""
    page = shop.create(unique)["url"]
    address = {"X-Forwarded-For": "198.51.100.4"}
    made = shop.http.post(page, data={"amount": "1"}, headers=address)
    events = f"/pay/{made.headers['location']}/events"
    address = {"X-Forwarded-For": "198.51.100.5"}
    reading = []  # httpx closes a stream that nobody reads any more
    with ExitStack() as stack:
        for _ in range(STREAMS_PER_ADDRESS):
            opened = stack.enter_context(shop.http.stream("GET", events, headers=address))
            assert opened.status_code == 200
            reading.append(opened.iter_lines())
            assert next(reading[-1]) == "event: status"
        refused = shop.http.get(events, headers=address).status_code

    assert refused == 429
    poll_until(lambda: _opens(shop, events, address), 10.0, "no room after the pages were closed")


def _opens(shop: Shop, events: str, address: dict[str, str]) -> bool:
    with shop.http.stream("GET", events, headers=address) as opened:
        return opened.status_code == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_is_turned_away_and_the_node_goes_on(kind: str, tmp_path: Path) -> None:
    """Of 10,000 callbacks from one address only what its limit allows is made; the node answers, payments arrive."""
    with opened_shop(kind, tmp_path, paycodes_rate_limit=FLOOD_RATE) as shop:
        paycode = shop.create("flooded")
        callback = f"{shop.url}/lnurlp/{paycode['paycode_id']}/callback?amount=1000"
        paid = [shop.call("paycode-invoice", "flooded", 5000) for _ in range(3)]
        answers: list[dict[str, str]] = []
        began = time.monotonic()
        attack = threading.Thread(target=lambda: answers.extend(asyncio.run(flood(callback, FLOOD, FLOOD_CONNECTIONS))))
        attack.start()
        for invoice in paid:
            assert shop.call("getinfo")["id"]
            shop.network.pay(invoice["bolt11"])
            shop.wait_for_event(invoice["payment_hash"])
        attack.join()
        minutes = (time.monotonic() - began) / 60
        kinds = Counter("pr" if "pr" in answer else answer["reason"] for answer in answers)

        assert set(kinds) == {"pr", TOO_MANY}
        assert sum(kinds.values()) == FLOOD
        assert FLOOD_RATE <= kinds["pr"] <= FLOOD_RATE * (1 + minutes) + 1
        assert shop.issued("flooded") == kinds["pr"] + len(paid)


async def flood(url: str, count: int, connections: int) -> list[dict[str, str]]:
    """Every answer to so many requests over connections that are open from the start and kept."""
    parts = urlsplit(url)
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    answers: list[dict[str, str]] = []
    left = iter(range(count))

    async def attacker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in left:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            answers.append(json.loads(await reader.readexactly(length)))
        writer.close()
        await writer.wait_closed()

    opened = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(connections)]
    await asyncio.gather(*(attacker(*streams) for streams in opened))
    return answers


def test_a_slow_node_holds_up_only_so_many_callbacks(tmp_path: Path) -> None:
    """Beyond the cap callers get the LNURL error at once, and all else goes on."""
    with opened_shop("devnode", tmp_path, paycodes_rate_limit=0) as shop:
        paycode = shop.create("slow")
        callback = f"{shop.url}/lnurlp/{paycode['paycode_id']}/callback"
        shop.network.fault("invoice", "slow", count=UNDER_WAY, seconds=3)
        callers = UNDER_WAY + 60
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(asyncio.run, flood(f"{callback}?amount=1000", callers, callers))
            resolved = shop.get(f"/lnurlp/{paycode['paycode_id']}")
            answers = asked.result()

        issued = sum("pr" in answer for answer in answers)
        turned_away = sum(answer.get("reason") == TOO_MANY for answer in answers)
        # Who comes so late that one of the first is through already gets its turn.
        assert UNDER_WAY <= issued < callers
        assert issued + turned_away == callers
        assert resolved["tag"] == "payRequest"


def test_a_request_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    """A connection that sends half a header is closed after its time."""
    with opened_shop("devnode", tmp_path) as shop:
        parts = urlsplit(shop.url)
        assert parts.hostname is not None
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=30) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
            left = sock.recv(1000)

        assert left == b""
        assert shop.http.get("/healthz").status_code == 200


def test_one_address_cannot_take_all_connections(tmp_path: Path) -> None:
    """Those beyond its share are closed at once; callers from elsewhere are answered, and all again when it lets go."""
    with opened_shop("devnode", tmp_path) as shop, ExitStack() as stack:
        parts = urlsplit(shop.url)
        assert parts.hostname is not None
        for _ in range(CONNECTIONS_PER_ADDRESS):
            stack.enter_context(socket.create_connection((parts.hostname, parts.port or 80)))
        elsewhere = httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"))
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{shop.url}/healthz")
        with elsewhere:
            answer = elsewhere.get(f"{shop.url}/healthz")
        stack.close()

        assert answer.status_code == 200
        poll_until(lambda: _healthy(shop.url), 10.0, "its connections are not counted down")


def test_without_a_named_proxy_forwarded_addresses_count_for_nothing(tmp_path: Path) -> None:
    """Whoever connects is the caller, whatever it says; the log tells the operator of the option."""
    with opened_shop("devnode", tmp_path, paycodes_rate_limit=RATE) as shop:
        shop.create("shop")
        got = sum(ask(shop, "shop", f"192.0.2.{number}") for number in range(RATE + 5))

        assert RATE <= got < RATE + 5
        assert shop.network.merchant.wait_for_log("paycodes-trust-proxy")


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_that_is_taken_stops_nothing_else(kind: str, tmp_path: Path) -> None:
    """A line in the log, a warning in getpaycodesinfo, and every method works."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        taken = f"127.0.0.1:{sock.getsockname()[1]}"
        with opened_shop(kind, tmp_path, paycodes_listen=taken, paycodes_metrics_listen=taken) as shop:
            shop.create("shop")
            invoice = shop.call("paycode-invoice", "shop", 1000)
            info = shop.call("getpaycodesinfo")

            assert invoice["status"] == "issued"
            assert info["listening"] == {}
            assert {warning.split(":")[0] for warning in info["warnings"]} >= {
                "paycodes-listen",
                "paycodes-metrics-listen",
            }
            assert shop.network.merchant.wait_for_log(f"paycodes-listen: cannot listen on {taken}")


def test_an_address_that_is_none_stops_nothing_else(tmp_path: Path) -> None:
    """A slip in an address is a warning that names its option, like a port that is taken."""
    slip = "127.0..1:9000"
    with opened_shop("devnode", tmp_path, paycodes_listen=slip, paycodes_metrics_listen=slip) as shop:
        warnings = shop.call("getpaycodesinfo")["warnings"]

        assert {f"{option}: cannot listen on {slip}" for option in ("paycodes-listen", "paycodes-metrics-listen")} <= {
            ": ".join(warning.split(": ")[:2]) for warning in warnings
        }


@pytest.mark.parametrize("kind", KINDS)
def test_stopping_frees_the_port_even_with_a_page_open(kind: str, tmp_path: Path) -> None:
    """`plugin stop` ends open streams; the next start listens on the same port."""
    with opened_shop(kind, tmp_path) as shop:
        page = shop.create("shop")["url"]
        events = f"/pay/{shop.http.post(page, data={'amount': '1'}).headers['location']}/events"
        with shop.http.stream("GET", events) as opened:
            lines = opened.iter_lines()
            first = next(lines)
            shop.network.merchant.stop_plugin()
            with pytest.raises(httpx.HTTPError):
                httpx.get(f"{shop.url}/healthz")
        shop.network.merchant.start_plugin()
        shop.http.close()

        assert first == "event: status"
        poll_until(lambda: _healthy(shop.url), 10.0, "it does not listen again")


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("paycodes_listen", "8080"),
        ("paycodes_listen", "localhost:99999"),
        ("paycodes_url", "http://shop.example"),
        ("paycodes_trust_proxy", "myproxy"),
        ("paycodes_rate_limit", -1),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, option: str, value: str) -> None:
    """Every method answers with what is wrong, and the node goes on."""
    with opened_shop("devnode", tmp_path) as shop:
        shop.network.merchant.stop_plugin()
        shop.network.merchant.start_plugin(**{option: value})
        with pytest.raises(RpcError, match=option.replace("_", "-")):
            shop.call("listpaycodes")

        assert shop.call("getinfo")["id"]


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_show_the_books_and_the_limits(kind: str, tmp_path: Path) -> None:
    """Prometheus text, on a port of its own and on no other."""
    port = free_port()
    with opened_shop(kind, tmp_path, paycodes_rate_limit=1, paycodes_metrics_listen=f"127.0.0.1:{port}") as shop:
        shop.create("shop")
        assert ask(shop, "shop", None, 3) == 1
        shop.call("reconcile", full=True)
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text

        assert 'paycodes_invoices{status="issued"} 1.0' in text
        assert "# TYPE paycodes_outbox_events gauge" in text
        assert "paycodes_outbox_backlog 0.0" in text
        assert "paycodes_reconcile_agree 1.0" in text
        assert 'paycodes_http_refused_total{why="address"} 2.0' in text
        assert shop.http.get("/metrics").status_code == 404


def test_health_is_failing_when_the_sidecar_cannot_be_read(tmp_path: Path) -> None:
    """With the status for it, not that of an unexpected error."""
    with opened_shop("devnode", tmp_path) as shop:
        before = shop.http.get("/healthz").status_code
        for file in shop.network.merchant.network_dir.glob("paycodes.sqlite3*"):  # its index too, or it reads its cache
            with file.open("r+b") as opened:
                opened.write(b"damaged" * 1000)
        after = shop.http.get("/healthz")

        assert before == 200
        assert (after.status_code, after.json()) == (503, {"status": "failing"})


def test_a_page_that_was_left_open_and_closed_harms_no_payment(shop: Shop, unique: str) -> None:
    """A payer looks, goes, and pays: the payment is told, and the next one too."""
    page = shop.create(unique)["url"]
    for address in ("198.51.100.6", "198.51.100.7"):
        headers = {"X-Forwarded-For": address}
        location = shop.http.post(page, data={"amount": "1"}, headers=headers).headers["location"]
        with shop.http.stream("GET", f"/pay/{location}/events", headers=headers) as opened:
            lines = opened.iter_lines()
            assert next(lines) == "event: status"
        (row,) = shop.call("listpaycodeinvoices", payment_hash=location.rpartition("/")[2])["invoices"]
        shop.network.pay(row["bolt11"])

        assert shop.wait_for_event(row["payment_hash"])["received_msat"] == 1000
