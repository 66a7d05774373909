"""Events on their way to receivers of every kind, under a clock that the test sets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from backend import DEADLINE_S, Backend, eventually
from cln_paycodes.core.records import DeliveryStatus, Endpoint, EndpointStatus
from cln_paycodes.core.retry import DELAYS_S, MOST_ATTEMPTS, TRIP, Answer
from cln_paycodes.errors import BadParameter, NotAcknowledged
from cln_paycodes.services.endpoints import Change
from cln_paycodes.store import outbox
from samples import NOW, commit_levels
from standardwebhooks.webhooks import Webhook

DAY = 24 * 3600


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    opened = Backend(tmp_path)
    yield opened
    opened.close()


class Shop:
    """A receiver that answers what `answer` says of the number of the attempt, beginning with 1."""

    def __init__(self, answer: Callable[[int], int], headers: dict[str, str] | None = None) -> None:
        self.ids: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.most_at_once = 0
        self._at_once = 0
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                shop._at_once += 1
                shop.most_at_once = max(shop.most_at_once, shop._at_once)
                shop.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                shop.headers.append({name.lower(): value for name, value in self.headers.items()})
                shop.ids.append(self.headers["webhook-id"])
                self.send_response(answer(len(shop.ids)))
                for name, value in {"content-length": "0", **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                shop._at_once -= 1

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/paid"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def open_shop() -> Iterator[Callable[..., Shop]]:
    opened: list[Shop] = []

    def open_one(answer: Callable[[int], int] = lambda _: 200, **given: Any) -> Shop:
        opened.append(Shop(answer, **given))
        return opened[-1]

    yield open_one
    for shop in opened:
        shop.close()


def statuses(backend: Backend, endpoint: Endpoint) -> list[DeliveryStatus]:
    return [sent.status for sent in backend.deliveries_to(endpoint)]


def test_events_arrive_in_order_one_at_a_time(backend: Backend, open_shop: Any) -> None:
    """A receiver sees the order of events, and never two attempts at once."""
    shop = open_shop()
    endpoint = backend.add(shop.url)
    backend.make(*range(300))
    backend.wait_attempts(endpoint, 300)

    assert shop.ids == [event.id for event in backend_events(backend)]
    assert shop.most_at_once == 1


def backend_events(backend: Backend) -> list[Any]:
    page = backend.store.read(lambda sql: outbox.page(sql, statuses=(), event_type=None, start=0, limit=10_000))
    return [event for event, _ in page]


def test_receiver_that_answers_500_nine_times_gets_it_at_the_tenth(backend: Backend, open_shop: Any) -> None:
    """The same id on the published schedule, with nothing lost at the last attempt."""
    shop = open_shop(lambda attempt: 500 if attempt < MOST_ATTEMPTS else 200)
    endpoint = backend.add(shop.url)
    backend.make(1)
    for attempt, delay_s in enumerate(DELAYS_S, 1):
        backend.wait_attempts(endpoint, attempt)
        assert backend.deliveries_to(endpoint)[0].due_at == backend.now + delay_s
        backend.set_clock(backend.now + max(delay_s, 400))
    backend.wait_attempts(endpoint, MOST_ATTEMPTS)
    delivery = backend.deliveries_to(endpoint)[0]

    assert len(shop.ids) == MOST_ATTEMPTS
    assert len(set(shop.ids)) == 1
    assert delivery.status is DeliveryStatus.DELIVERED
    assert backend.look(endpoint).status is EndpointStatus.ACTIVE


def test_exhausted_event_is_kept_and_revived(backend: Backend, open_shop: Any) -> None:
    """After the last attempt it stays, the endpoint is failing, and outbox-retry sends it to one that is back."""
    shop = open_shop(lambda attempt: 500 if attempt <= MOST_ATTEMPTS else 200)
    endpoint = backend.add(shop.url)
    backend.make(1)
    for attempt, delay_s in enumerate(DELAYS_S, 1):
        backend.wait_attempts(endpoint, attempt)
        backend.set_clock(backend.now + max(delay_s, 400))
    eventually(lambda: statuses(backend, endpoint) == [DeliveryStatus.EXHAUSTED])
    failing = backend.look(endpoint).status
    made = backend.retry()
    eventually(lambda: statuses(backend, endpoint) == [DeliveryStatus.DELIVERED])

    assert failing is EndpointStatus.FAILING
    assert made == 1
    assert len(shop.ids) == MOST_ATTEMPTS + 1


def test_one_bad_event_does_not_stop_the_others(backend: Backend, open_shop: Any) -> None:
    """An event that its receiver cannot take waits alone."""
    shop = open_shop(lambda attempt: 500 if attempt == 1 else 200)
    endpoint = backend.add(shop.url)
    backend.make(1, 2, 3)
    eventually(lambda: statuses(backend, endpoint)[1:] == [DeliveryStatus.DELIVERED] * 2)

    assert statuses(backend, endpoint)[0] is DeliveryStatus.PENDING


def test_backlog_of_a_dead_endpoint_is_not_burned(backend: Backend, open_shop: Any) -> None:
    """After a few failures it gets one attempt a pause, whatever waits; once it is back, everything goes out."""
    down = True
    shop = open_shop(lambda _: 500 if down else 200)
    endpoint = backend.add(shop.url)
    backend.make(*range(50))
    backend.wait_attempts(endpoint, TRIP)
    for tried in range(TRIP, TRIP + 5):
        eventually(lambda tried=tried: backend.look(endpoint).failures == tried)
        backend.set_clock(backend.look(endpoint).resume_at)
    backend.wait_attempts(endpoint, TRIP + 5)
    while_down = len(shop.ids)
    down = False
    backend.set_clock(backend.now + 400)
    eventually(lambda: set(statuses(backend, endpoint)) == {DeliveryStatus.DELIVERED})

    assert while_down == TRIP + 5
    assert max(sent.attempts for sent in backend.deliveries_to(endpoint)) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_stops_everything_to_the_endpoint(backend: Backend, open_shop: Any, status: int) -> None:
    """Nothing is sent before the receiver's time is over, then all of it."""
    shop = open_shop(lambda attempt: status if attempt == 1 else 200, headers={"retry-after": "600"})
    endpoint = backend.add(shop.url)
    backend.make(1, 2, 3)
    eventually(lambda: backend.look(endpoint).resume_at == NOW + 600)
    backend.set_clock(NOW + 599)
    before = len(shop.ids)
    backend.set_clock(NOW + 600)
    eventually(lambda: set(statuses(backend, endpoint)) == {DeliveryStatus.DELIVERED})

    assert before == 1
    assert len(shop.ids) == 4


def test_gone_endpoint_is_disabled_and_keeps_its_events(backend: Backend, open_shop: Any) -> None:
    """410 ends it at once, with a word; pause=false later sends what it has not had."""
    shop = open_shop(lambda attempt: 410 if attempt == 1 else 200)
    endpoint = backend.add(shop.url)
    backend.make(1, 2)
    eventually(lambda: backend.look(endpoint).status is EndpointStatus.DISABLED)
    eventually(lambda: backend.ended)
    kept = statuses(backend, endpoint)
    backend.endpoints.update(endpoint.endpoint_id, Change(pause=False))
    eventually(lambda: set(statuses(backend, endpoint)) == {DeliveryStatus.DELIVERED})

    assert kept == [DeliveryStatus.PENDING] * 2
    assert '"status":"active"' in backend.node.texts[("paycodes", "endpoint", endpoint.endpoint_id)]


def fail_at(backend: Backend, endpoint: Endpoint, *moments: int) -> EndpointStatus:
    """What the endpoint is after a failed attempt at each of the moments."""
    attempts = sum(sent.attempts for sent in backend.deliveries_to(endpoint))
    for number, moment in enumerate(moments, 1):
        backend.set_clock(moment)
        backend.wait_attempts(endpoint, attempts + number)
    return backend.look(endpoint).status


def test_endpoint_that_only_fails_for_five_days_is_disabled(backend: Backend, open_shop: Any) -> None:
    """Not before; what it has not had stays."""
    endpoint = backend.add(open_shop(lambda _: 500).url)
    backend.make(*range(12))
    backend.wait_attempts(endpoint, TRIP)
    before = fail_at(backend, endpoint, *(NOW + days * DAY for days in range(1, 5)), NOW + 5 * DAY - 1000)
    fail_at(backend, endpoint, NOW + 5 * DAY)
    eventually(lambda: backend.ended)

    assert before is EndpointStatus.FAILING
    assert backend.look(endpoint).status is EndpointStatus.DISABLED
    assert len(backend.ended) == 1
    assert set(statuses(backend, endpoint)) == {DeliveryStatus.PENDING}


@pytest.mark.parametrize("between", [(), (1000, 2000)], ids=["ahead", "back and ahead"])
def test_time_in_which_nothing_was_tried_disables_nothing(
    backend: Backend, open_shop: Any, between: tuple[int, ...]
) -> None:
    """A node that was off for days, or a clock that was wrong at its start, and a receiver that is not up yet."""
    endpoint = backend.add(open_shop(lambda _: 500).url)
    backend.make(*range(12))
    backend.wait_attempts(endpoint, TRIP)
    fail_at(backend, endpoint, NOW + 1000, NOW + 2000, NOW + 3000)
    if between:
        backend.set_clock(between[0])
        eventually(lambda: backend.look(endpoint).last_failure_at == between[0])
    later = fail_at(backend, endpoint, *between[1:], NOW + 6 * DAY, NOW + 6 * DAY + 1000)

    assert later is EndpointStatus.FAILING
    assert backend.look(endpoint).failing_since == NOW + 6 * DAY


def test_clock_set_back_years_does_not_stop_delivery(backend: Backend, open_shop: Any) -> None:
    """A retry waits its seconds from the new time on, and new events go out at once."""
    shop = open_shop(lambda attempt: 500 if attempt == 1 else 200)
    endpoint = backend.add(shop.url)
    backend.make(1)
    backend.wait_attempts(endpoint, 1)
    back = NOW - 3 * 365 * DAY
    backend.set_clock(back)
    backend.make(2)
    eventually(lambda: statuses(backend, endpoint) == [DeliveryStatus.PENDING, DeliveryStatus.DELIVERED])
    eventually(lambda: backend.deliveries_to(endpoint)[0].due_at == back + DELAYS_S[0])
    backend.set_clock(back + DELAYS_S[0])
    eventually(lambda: statuses(backend, endpoint) == [DeliveryStatus.DELIVERED] * 2)

    assert len(shop.ids) == 3


def test_hanging_endpoint_delays_no_other(backend: Backend, open_shop: Any) -> None:
    """While one receiver never answers and another refuses, a third gets everything."""
    shop = open_shop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = backend.add(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        refusing = backend.add("http://127.0.0.1:1/")
        endpoint = backend.add(shop.url)
        backend.make(*range(20))
        eventually(lambda: set(statuses(backend, endpoint)) == {DeliveryStatus.DELIVERED})
        eventually(lambda: backend.look(refusing).failures)

    assert set(statuses(backend, hanging)) == {DeliveryStatus.PENDING}
    assert backend.look(refusing).last_error == "the connection was refused"


def test_secret_rotated_mid_retry_verifies_with_either(backend: Backend, open_shop: Any) -> None:
    """Until the overlap ends the old and the new secret both sign; afterwards only the new one does."""
    shop = open_shop(lambda attempt: 500 if attempt == 1 else 200)
    endpoint, old = backend.endpoints.add(shop.url, events=None, paycode_id=None, secret=None, from_sequence=None)
    backend.make(1)
    backend.wait_attempts(endpoint, 1)
    _, new = backend.endpoints.update(endpoint.endpoint_id, Change(rotate=True, overlap_s=3600))
    backend.set_clock(NOW + 5)
    backend.wait_attempts(endpoint, 2)
    backend.set_clock(NOW + 5 + 3600)
    backend.make(2)
    backend.wait_attempts(endpoint, 3)
    assert old is not None
    assert new is not None

    verified = [[verifies(shop, attempt, secret) for secret in (old, new)] for attempt in range(3)]
    assert verified == [[True, False], [True, True], [False, True]]


def verifies(shop: Shop, attempt: int, secret: str) -> bool:
    headers = shop.headers[attempt]
    moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), timezone.utc)
    expected = Webhook(secret).sign(headers["webhook-id"], moment, shop.bodies[attempt].decode())
    return expected in headers["webhook-signature"].split(" ")


def test_paused_endpoint_gets_nothing_until_it_is_resumed(backend: Backend, open_shop: Any) -> None:
    """What became true meanwhile goes out then, in order."""
    shop = open_shop()
    endpoint = backend.add(shop.url)
    backend.endpoints.update(endpoint.endpoint_id, Change(pause=True))
    backend.make(1, 2, 3)
    other = backend.add(shop.url + "/other", from_sequence=0)
    backend.wait_attempts(other, 3)
    while_paused = statuses(backend, endpoint)
    backend.endpoints.update(endpoint.endpoint_id, Change(pause=False))
    backend.wait_attempts(endpoint, 3)

    assert while_paused == [DeliveryStatus.PENDING] * 3
    assert shop.ids[:3] == shop.ids[3:]


def test_new_url_gets_at_once_what_the_old_one_did_not_take(backend: Backend, open_shop: Any) -> None:
    """A corrected URL needs no waiting for the schedule."""
    shop = open_shop()
    endpoint = backend.add("http://127.0.0.1:1/")
    backend.make(1, 2)
    eventually(lambda: backend.look(endpoint).status is EndpointStatus.FAILING)
    backend.endpoints.update(endpoint.endpoint_id, Change(url=shop.url))
    eventually(lambda: statuses(backend, endpoint) == [DeliveryStatus.DELIVERED] * 2)

    assert backend.look(endpoint).last_error is None


@pytest.mark.parametrize("host", ["%SHOP%", "[v1.shop]", "☕.example"])
def test_host_that_no_request_can_be_sent_to_is_refused(backend: Backend, host: str) -> None:
    """When it is given, not when the first event is due."""
    endpoint = backend.add("http://127.0.0.1:1/")
    with pytest.raises(BadParameter, match=r"^url: "):
        backend.add(f"http://{host}/paid")
    with pytest.raises(BadParameter, match=r"^url: "):
        backend.endpoints.update(endpoint.endpoint_id, Change(url=f"http://{host}/paid"))

    assert backend.endpoints.every() == [endpoint]


def test_attempt_that_ends_after_the_url_was_corrected(backend: Backend, open_shop: Any) -> None:
    """What the old place said last delays nothing at the new one."""
    begun, release = threading.Event(), threading.Event()

    def hold(_: int) -> int:
        begun.set()
        release.wait(DEADLINE_S)
        return 500

    old, new = open_shop(hold), open_shop()
    endpoint = backend.add(old.url)
    backend.make(1)
    assert begun.wait(DEADLINE_S)
    backend.endpoints.update(endpoint.endpoint_id, Change(url=new.url))
    release.set()
    eventually(lambda: statuses(backend, endpoint) == [DeliveryStatus.DELIVERED])

    assert len(new.ids) == 1
    assert backend.look(endpoint).status is EndpointStatus.ACTIVE
    assert backend.look(endpoint).last_error is None


def test_failed_attempt_is_one_transaction(backend: Backend, open_shop: Any) -> None:
    """Whoever sees what became of the delivery sees the endpoint's pause, and can lift it."""
    endpoint = backend.add(open_shop(lambda _: 500).url)
    seen = commit_levels(backend.store)
    backend.make(1)
    backend.wait_attempts(endpoint, 1)
    failed = backend.look(endpoint).failures

    assert len(seen) == 2
    assert failed == 1


def test_stop_in_a_backlog_forgets_no_acknowledgement(backend: Backend, open_shop: Any) -> None:
    """What the receiver took before the stop is known to be taken: it does not go out again."""
    shop = open_shop()
    endpoint = backend.add(shop.url)
    backend.make(*range(500))
    eventually(lambda: len(shop.ids) > 50)
    backend.deliveries.stop()
    acknowledged = statuses(backend, endpoint).count(DeliveryStatus.DELIVERED)

    assert acknowledged == len(shop.ids)


def test_stop_waits_for_no_receiver_that_hangs(backend: Backend) -> None:
    """Its attempt is left behind; the delivery stays due."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = backend.add(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        backend.make(1)
        with silent.accept()[0]:
            backend.deliveries.stop()
            left = statuses(backend, endpoint)

    assert left == [DeliveryStatus.PENDING]


def test_schedule_survives_a_restart(tmp_path: Path, open_shop: Any) -> None:
    """Attempts, times and answers are on disk: a new process goes on where the old one was."""
    shop = open_shop(lambda attempt: 500 if attempt == 1 else 200)
    first = Backend(tmp_path)
    endpoint = first.add(shop.url)
    first.make(1)
    first.wait_attempts(endpoint, 1)
    before = first.deliveries_to(endpoint)
    first.close()
    second = Backend(tmp_path, first.node)
    after = second.deliveries_to(endpoint)
    second.set_clock(NOW + DELAYS_S[0])
    second.wait_attempts(endpoint, 2)
    delivered = statuses(second, endpoint)
    second.close()

    assert after == before
    assert delivered == [DeliveryStatus.DELIVERED]


def test_test_message_says_what_the_receiver_answered(backend: Backend, open_shop: Any) -> None:
    """webhook-test is outside the outbox and raises with the reason."""
    endpoint = backend.add(open_shop(lambda attempt: 200 if attempt == 1 else 404).url)
    answer = backend.deliveries.test(endpoint)
    with pytest.raises(NotAcknowledged, match="HTTP 404"):
        backend.deliveries.test(endpoint)

    assert answer == Answer(status=200)
    assert backend_events(backend) == []
