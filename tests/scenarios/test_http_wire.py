"""What arrives at the HTTP port byte by byte: whole, in pieces, too long, too slow, too much, or no HTTP at all."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from network.daemon import poll_until
from serving import Shop, opened_shop

#: What the server takes of a request's line and headers, and the seconds that all of a request may take.
HEADER_BYTES = 65_536
REQUEST_S = 10.0

#: Sent by those who never stop.
ENDLESS_BYTES = 4_000_000

HEAD = b"GET /healthz HTTP/1.1\r\nHost: shop\r\n"
FORM = b"Host: shop\r\nContent-Type: application/x-www-form-urlencoded\r\n"
#: of a form for a page, which is to be put in
CHUNKS = b"POST %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + FORM + b"\r\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """No node is asked for anything here but an invoice."""
    with opened_shop("devnode", tmp_path_factory.mktemp("wire"), paycodes_rate_limit=0) as opened:
        yield opened
        log = opened.network.merchant.log().splitlines()
        assert [line for line in log if "BROKEN" in line or "Traceback" in line] == []


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A connection to the shop."""

    def __init__(self, shop: Shop) -> None:
        parts = urlsplit(shop.url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        self._stream: BinaryIO = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Answer:
        """The next one; ConnectionError when there is none."""
        status = self._stream.readline()
        if not status:
            raise ConnectionError("closed without an answer")
        lines = iter(lambda: self._stream.readline().decode().rstrip(), "")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        return Answer(int(status.split()[1]), headers, self._stream.read(length))

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        try:
            return self._stream.read()
        except ConnectionError:
            return b""


@pytest.fixture
def wire(shop: Shop) -> Iterator[Wire]:
    with Wire(shop) as opened:
        yield opened


@pytest.fixture
def code(shop: Shop, unique: str) -> str:
    """The path of a new code."""
    return f"/lnurlp/{shop.create(unique, comment_chars=2000)['paycode_id']}"


@pytest.fixture
def page(shop: Shop, unique: str) -> str:
    """The path of a new code's page."""
    return urlsplit(shop.create(f"page-{unique}")["url"]).path


def get(path: str, *, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: shop\r\n{more}\r\n".encode()


def refusal(wire: Wire) -> int:
    """The status of the next answer; 400 too when the connection ends without a word."""
    try:
        return wire.answer().status
    except ConnectionError:
        return 400


def is_well(shop: Shop) -> bool:
    return bool(shop.http.get("/healthz").json() == {"status": "ok"})


# --- too much ---


@pytest.mark.parametrize(
    ("beginning", "again"),
    [
        (b"", b"GET"),
        (b"", b"\r\n"),
        (b"GET /", b"x" * 1000),
        (b"GET /?", b"x=%20&" * 100),
        (HEAD + b"X-Padding: ", b"x" * 1000),
        (HEAD + b"X-", b"x" * 1000),
        (HEAD, b"X-Padding: " + b"x" * 1000 + b"\r\n"),
        (HEAD, b"a:\r\n"),
        (HEAD + b"X-Folded: x\r\n", b" x\r\n"),
        (CHUNKS + b"1", b";x=y" * 100),
        (CHUNKS + b"1\r\nx\r\n0\r\n", b"Trailer: x\r\n"),
    ],
    ids=[
        "methods", "blank lines", "path", "query", "header", "header name", "headers", "empty headers", "folded header",
        "chunk extension", "trailers",
    ],
)  # fmt: skip
def test_a_request_without_end_is_refused(shop: Shop, wire: Wire, page: str, beginning: bytes, again: bytes) -> None:
    """Long before its time is up, and whatever it is that does not end; others are served."""
    began = time.monotonic()
    try:
        wire.send(beginning.replace(b"%s", page.encode()))
        for _ in range(ENDLESS_BYTES // len(again) // 100):
            wire.send(again * 100)
    except ConnectionError:
        pass  # it is closed already
    rest = wire.rest()

    assert rest[:13] in (b"", b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")
    assert time.monotonic() - began < REQUEST_S - 1
    assert is_well(shop)


def test_a_head_that_is_too_long_is_told_so(shop: Shop, wire: Wire) -> None:
    """With the status for it, when all of it comes at once as well."""
    wire.send(get("/healthz", more="X-Padding: " + "x" * HEADER_BYTES + "\r\n"))

    assert wire.answer().status == 431
    assert wire.rest() == b""
    assert is_well(shop)


def test_a_long_comment_fits(shop: Shop, wire: Wire, code: str, unique: str) -> None:
    """The longest comment of the longest characters, in the headers of a talkative browser."""
    comment = "🍵" * 2000
    path = f"{code}/callback?amount=1000&comment={quote(comment)}"
    wire.send(get(path, more="Cookie: " + "x" * (HEADER_BYTES - len(path) - 500) + "\r\n"))
    answer = wire.answer()

    assert "pr" in json.loads(answer.body)
    assert shop.call("listpaycodeinvoices", unique)["invoices"][0]["comment"] == comment


def test_thousands_of_requests_at_once_on_a_connection_harm_nobody(shop: Shop, wire: Wire) -> None:
    """A client that does not wait for answers gets some of them, or none; others are served."""
    try:
        wire.send(get("/healthz") * 20_000)
        while wire.answer().status == 200:
            pass
    except ConnectionError:
        pass

    assert is_well(shop)


# --- too slow ---


def test_what_comes_too_slowly_is_cut_off(shop: Shop, page: str) -> None:
    """A byte now and then keeps no connection, in whatever part of a request; nor does nothing at all."""
    head = f"POST {page} HTTP/1.1\r\n".encode() + FORM
    slow = {
        "line": (b"GET /", b"x"),
        "blank lines": (b"", b"\r\n"),
        "header": (HEAD + b"X-Padding: ", b"x"),
        "headers": (HEAD, b"a: b\r\n"),
        "body": (head + b"Content-Length: 1000\r\n\r\n", b"x"),
        "chunk": (head + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n", b"x"),
        "chunks": (head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        "body of a get": (HEAD + b"Content-Length: 1000\r\n\r\n", b"x"),
        "second request": (get("/healthz") + b"GET /", b"x"),
        "no request": (b"", b""),
        "no second request": (get("/healthz"), b""),
    }
    with ExitStack() as stack:
        wires = {name: stack.enter_context(Wire(shop)) for name in slow}
        for name, wire in wires.items():
            wire.send(slow[name][0])
            wire.socket.setblocking(False)
        open_still = dict(wires)

        def all_are_closed() -> bool:
            for name in [name for name, wire in open_still.items() if _was_closed(wire, slow[name][1])]:
                del open_still[name]
            return not open_still

        try:
            poll_until(all_are_closed, 3 * REQUEST_S, "they were not cut off")
        finally:
            assert set(open_still) == set()

    assert is_well(shop)


def _was_closed(wire: Wire, byte: bytes) -> bool:
    try:
        wire.socket.send(byte)
        return wire.socket.recv(10_000) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_request_in_pieces_is_answered(wire: Wire) -> None:
    """Wherever the network cuts it."""
    for byte in get("/healthz"):
        wire.send(bytes([byte]))
        time.sleep(0.001)

    assert wire.answer().status == 200


# --- not quite HTTP ---


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\x00\x00\x00\x00\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/1.1 now\r\nHost: shop\r\n\r\n",
        b"GET /h\x00 HTTP/1.1\r\nHost: shop\r\n\r\n",
        b"GET /h\xf0\x9f\x8d\xb5 HTTP/1.1\r\nHost: shop\r\n\r\n",
        b"GE T /healthz HTTP/1.1\r\nHost: shop\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: shop\r\nHost: other\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : shop\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: shop\r\nno colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: shop\r\nX-Null: \x00\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: shop\r\n: x\r\n\r\n",
        b"POST /pay/x HTTP/1.1\r\nHost: shop\r\nContent-Length: -1\r\n\r\n",
        b"POST /pay/x HTTP/1.1\r\nHost: shop\r\nContent-Length: 1, 2\r\n\r\n",
        b"POST /pay/x HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /pay/x HTTP/1.1\r\nHost: shop\r\nContent-Length: 99999999999999999999999\r\n\r\nx",
        b"POST /pay/x HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: gzip\r\n\r\nxx",
    ],
    ids=repr,
)
def test_what_is_no_request_is_refused(shop: Shop, wire: Wire, request_: bytes) -> None:
    """With 400 or without a word, and the connection ends: what comes behind it is not read as another request."""
    wire.send(request_ + get("/healthz"))

    assert refusal(wire) == 400
    assert b"HTTP/" not in wire.rest()
    assert is_well(shop)


@pytest.mark.parametrize(
    "chunk", [b"zz\r\nx\r\n", b"-1\r\nx\r\n", b"fffffffffffffffffff\r\nx\r\n", b"1\r\nxx\r\n"], ids=repr
)
def test_a_broken_chunk_ends_the_connection(shop: Shop, wire: Wire, page: str, chunk: bytes) -> None:
    """No invoice is made of half a form."""
    before = shop.call("getpaycodesinfo")["invoices"]
    wire.send(CHUNKS.replace(b"%s", page.encode()))
    wire.send(b"8\r\namount=5\r\n" + chunk + b"0\r\n\r\n")

    assert refusal(wire) == 400
    assert b"HTTP/" not in wire.rest()
    assert shop.call("getpaycodesinfo")["invoices"] == before


@pytest.mark.parametrize(
    "target", ["*", "http://shop", "http://shop/healthz", "//", "//x:y/", "/?", "/#", "/%", "/%ff"]
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "CONNECT", "PURGE"])
def test_a_strange_target_is_answered_or_refused(shop: Shop, wire: Wire, method: str, target: str) -> None:
    """Never with an error of the server's own."""
    wire.send(f"{method} {target} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())

    assert wire.answer().status in (200, 204, 400, 404, 405)
    assert is_well(shop)


# --- HTTP that clients seldom speak ---


def test_requests_sent_without_waiting_are_answered_in_order(wire: Wire, code: str) -> None:
    """Pipelining: an invoice takes longer than what is asked behind it."""
    asked = [get(f"{code}/callback?amount=5000"), get("/nothing"), get(code), get(f"{code}/callback?amount=0")]
    wire.send(b"".join(asked))
    got = [wire.answer() for _ in asked]
    wire.send(get("/healthz"))

    assert [answer.status for answer in got] == [200, 404, 200, 200]
    assert "pr" in json.loads(got[0].body)
    assert json.loads(got[2].body)["tag"] == "payRequest"
    assert json.loads(got[3].body)["status"] == "ERROR"
    assert wire.answer().status == 200


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"],
    ids=["length", "chunks"],
)
def test_a_body_of_a_get_is_passed_over(wire: Wire, code: str, body: bytes) -> None:
    """The connection can be used again behind it."""
    for _ in range(2):
        wire.send(get(code)[:-2] + body)

        assert json.loads(wire.answer().body)["tag"] == "payRequest"


@pytest.mark.parametrize(
    "behind", [b"garbage\r\n\r\n", HEAD + b"X-Padding: " + b"x" * 1_000_000], ids=["garbage", "endless"]
)
def test_what_was_asked_is_answered_whatever_comes_behind_it(shop: Shop, wire: Wire, code: str, behind: bytes) -> None:
    """An invoice that is made is handed out; then the connection ends."""
    wire.send(get(f"{code}/callback?amount=5000") + behind[:1000])
    with suppress(ConnectionError):
        wire.send(behind[1000:])

    assert "pr" in json.loads(wire.answer().body)
    assert b"HTTP/1.1 200" not in wire.rest()
    assert is_well(shop)


@pytest.mark.parametrize("path", ["/nothing", "/healthz"])
def test_a_broken_body_of_an_answered_request_ends_the_connection(shop: Shop, wire: Wire, path: str) -> None:
    """Nobody wanted it."""
    wire.send(CHUNKS.replace(b"%s", path.encode()) + b"1\r\nx")
    status = wire.answer().status
    wire.send(b"zz\r\n")

    assert status in (404, 405)
    assert b"HTTP/1.1 200" not in wire.rest()
    assert is_well(shop)


def test_a_form_in_chunks_is_read(wire: Wire, page: str) -> None:
    """Chunks of any size, in any pieces, with a trailer."""
    wire.send(CHUNKS.replace(b"%s", page.encode()))
    for piece in (b"3\r\nam", b"o\r\n6;x", b"=y\r\nunt=21\r", b"\n0\r\nTrailer: x\r\n", b"\r\n"):
        wire.send(piece)

    assert wire.answer().status == 303


@pytest.mark.parametrize("length", ["Content-Length: 2000000", "Transfer-Encoding: chunked"])
def test_a_form_that_is_too_long_is_refused(shop: Shop, wire: Wire, page: str, length: str) -> None:
    """Once more than a form can be has come, not at its end."""
    piece = b"x" * 1000 if "Length" in length else b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    wire.send(f"POST {page} HTTP/1.1\r\n{length}\r\n".encode() + FORM + b"\r\n" + piece * 100)

    assert wire.answer().status == 400
    assert is_well(shop)


def test_a_client_may_ask_before_it_sends_a_form(wire: Wire, page: str) -> None:
    """`Expect: 100-continue`, as curl does it."""
    wire.send(f"POST {page} HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n".encode() + FORM + b"\r\n")
    told = wire.answer()
    wire.send(b"amount=21")

    assert told.status == 100
    assert wire.answer().status == 303


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_an_offer_of_another_protocol_is_passed_over(wire: Wire, code: str, protocol: str) -> None:
    """Java's client offers HTTP/2 with its first request: it is answered in HTTP/1.1."""
    offer = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    for _ in range(2):
        wire.send(get(code, more=offer))

        assert json.loads(wire.answer().body)["tag"] == "payRequest"


@pytest.mark.parametrize(
    ("version", "header", "stays"),
    [("1.1", "Connection: close", False), ("1.0", "X: y", False), ("1.1", "Connection: keep-alive", True)],
)
def test_a_connection_ends_when_its_client_wants_so(wire: Wire, version: str, header: str, stays: bool) -> None:
    """And stays otherwise."""
    wire.send(f"GET /healthz HTTP/{version}\r\nHost: shop\r\n{header}\r\n\r\n".encode())

    assert wire.answer().status == 200
    if stays:
        wire.send(get("/healthz"))
        assert wire.answer().status == 200
    else:
        assert wire.rest() == b""


def test_a_host_may_be_left_out_of_the_old_protocol(wire: Wire) -> None:
    """HTTP/1.0 knows no virtual hosts."""
    wire.send(b"GET /healthz HTTP/1.0\r\n\r\n")

    assert wire.answer().status == 200


def test_head_is_answered_without_a_body(wire: Wire, code: str) -> None:
    """What comes next on the connection is the next answer."""
    wire.send(f"HEAD {code} HTTP/1.1\r\nHost: shop\r\n\r\n".encode() + get("/nothing"))
    head = wire.socket.recv(100_000)

    assert head.startswith(b"HTTP/1.1 200")
    assert b"payRequest" not in head


# --- gone ---


@pytest.mark.parametrize("leave", [socket.SHUT_WR, socket.SHUT_RDWR], ids=["half", "wholly"])
@pytest.mark.parametrize(
    "said", [b"GET /hea", HEAD, get("/healthz"), b"POST %s HTTP/1.1\r\nContent-Length: 100\r\n" + FORM + b"\r\namount"]
)
def test_a_client_that_leaves_is_let_go(shop: Shop, wire: Wire, page: str, said: bytes, leave: int) -> None:
    """At any point of a request; nothing is left behind, and nothing is an error."""
    wire.send(said.replace(b"%s", page.encode()))
    wire.socket.shutdown(leave)
    rest = wire.rest()

    assert rest[:13] in (b"", b"HTTP/1.1 200 ")
    assert is_well(shop)


@pytest.mark.parametrize("close", [lambda wire: wire.socket.shutdown(socket.SHUT_WR), lambda wire: wire.socket.close()])
def test_an_invoice_stays_in_the_books_when_its_caller_leaves(
    shop: Shop, wire: Wire, code: str, unique: str, close: Callable[[Wire], None]
) -> None:
    """It is made all the same, and the next caller gets the next one."""
    wire.send(get(f"{code}/callback?amount=5000"))
    close(wire)
    poll_until(lambda: shop.issued(unique) == 1, 10.0, "it was not made")

    assert "pr" in shop.get(f"{code}/callback", amount=5000)
    assert shop.issued(unique) == 2
