"""Every wound that a crash, a lost word or an old backup leaves between books and node, and its repair."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cln_paycodes.core.keys import SEED_LABEL, RootKey
from network import ConnectionLost, Network
from network.background import in_background
from network.daemon import poll_until
from pyln.client import RpcError

FINDINGS = ("adopted", "confirmed", "reissued", "voided", "missing", "released", "events")
PATIENCE_S = 30.0


@pytest.fixture
def network_options() -> dict[str, Any]:
    """No run comes by itself but the one at start and those that the node's indexes cause."""
    return {"paycodes_reconcile_interval": 86_400}


# --- looking ---


def books(network: Network) -> dict[int, str]:
    """Index to status, of the one code there is."""
    rows = network.merchant.call("listpaycodeinvoices", paycode="coffee", limit=1000)["invoices"]
    return {row["index"]: row["status"] for row in rows}


def events(network: Network) -> list[str]:
    """Type and index (or payment hash) of every event, sorted."""
    found = network.merchant.call("listoutbox", limit=1000)["events"]
    return sorted(f"{event['type']} {event['data'].get('index', event['data']['payment_hash'])}" for event in found)


def sidecar(network: Network) -> Path:
    return network.merchant.network_dir / "paycodes.sqlite3"


@contextlib.contextmanager
def opened_sidecar(network: Network) -> Iterator[sqlite3.Connection]:
    """The books as they lie on disk; the plugin must not run."""
    connection = sqlite3.connect(sidecar(network), isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def wound(network: Network) -> dict[int, str]:
    """Index to status on disk, while the plugin is down."""
    with opened_sidecar(network) as sql:
        return dict(sql.execute("SELECT idx, status FROM invoices"))


def healed(network: Network) -> dict[str, Any]:
    """One run repairs, the next one finds nothing: its report."""
    network.merchant.call("reconcile")
    report: dict[str, Any] = network.merchant.call("reconcile", full=True)

    assert report["agree"], report
    assert {name: report[name] for name in FINDINGS} == dict.fromkeys(FINDINGS, 0)
    return report


# --- doing ---


def create(network: Network, **terms: Any) -> str:
    code = network.merchant.call("paycode-create", label="coffee", description="One coffee", **terms)
    return str(code["paycode_id"])


def issue(network: Network, amount_msat: int = 10_000) -> dict[str, Any]:
    return network.merchant.call("paycode-invoice", "coffee", amount_msat)


def label_of(paycode_id: str, index: int) -> str:
    return f"paycode/{paycode_id}/{index}"


def root_of(network: Network) -> RootKey:
    return RootKey.derive(bytes.fromhex(network.merchant.call("makesecret", string=SEED_LABEL)["secret"]), 0)


def copy_sidecar(network: Network, to: Path) -> None:
    """A backup, with the plugin stopped; the write-ahead log is part of the database."""
    to.mkdir()
    for path in sidecar(network).parent.glob("paycodes.sqlite3*"):
        shutil.copy(path, to / path.name)


def restore_sidecar(network: Network, backup: Path) -> None:
    delete_sidecar(network)
    for path in backup.iterdir():
        shutil.copy(path, sidecar(network).parent / path.name)


def delete_sidecar(network: Network) -> None:
    for path in sidecar(network).parent.glob("paycodes.sqlite3*"):
        path.unlink()


def lose_answer(network: Network, fault: str) -> None:
    """The next invoice stays in doubt: the call is repeated once, and then the node is asked what it has."""
    network.fault("invoice", fault, count=2 if fault == "drop_before" else 1)
    if fault == "drop_after":
        network.fault("listinvoices", "drop_before")


def wait_for_expiry(network: Network, label: str) -> None:
    poll_until(
        lambda: network.merchant.call("listinvoices", label)["invoices"][0]["status"] == "expired",
        PATIENCE_S,
        f"{label} does not expire",
    )


# --- payments that nobody told of ---


def test_payment_while_the_plugin_was_down(network: Network) -> None:
    """The start finds what was paid in between, and tells it once."""
    create(network)
    invoice = issue(network)
    network.merchant.stop_plugin()
    network.pay(invoice["bolt11"])
    before = wound(network)
    network.merchant.start_plugin()
    report = healed(network)
    [line] = report["paycodes"]

    assert before == {1: "issued"}
    assert books(network) == {1: "paid"}
    assert events(network) == ["invoice.paid 1"]
    assert (line["issued"], line["paid"], line["received_msat"]) == (1, 1, 10_000)
    assert (line["node_issued"], line["node_paid"], line["node_received_msat"]) == (1, 1, 10_000)


def test_node_killed_right_after_it_settled(network: Network) -> None:
    """The notification is lost with the node; the payment is not."""
    create(network)
    invoice = issue(network)
    if network.supports_faults:
        network.fault("settle", "crash_after")
    paying = network.pay_in_background(invoice["bolt11"])
    if network.supports_faults:
        network.merchant.wait_for_exit()
    else:
        poll_until(
            lambda: network.merchant.call("listinvoices", invoice["label"])["invoices"][0]["status"] == "paid",
            PATIENCE_S,
            "the payment does not arrive",
        )
        network.merchant.kill()
    network.merchant.start()
    paying.result(PATIENCE_S)
    healed(network)

    assert set(books(network).values()) == {"paid"}
    assert events(network) == [f"invoice.paid {index}" for index in books(network)]


def test_lost_notification_is_noticed_within_moments(network: Network) -> None:
    """The parked `wait` makes a run look, long before the interval would."""
    if not network.supports_faults:
        pytest.skip("a real node does not lose a notification on demand")
    create(network)
    invoice = issue(network)
    network.fault("settle", "lose_notification")
    network.pay(invoice["bolt11"])
    paid = network.merchant.call("paycode-wait", "coffee", 1, "paid", 5)

    assert paid["status"] == "paid"
    assert events(network) == ["invoice.paid 1"]


def test_lost_notification_is_noticed_while_others_are_paid(network: Network) -> None:
    """A stream of payments that are not ours hides none of ours."""
    if not network.supports_faults:
        pytest.skip("a real node does not lose a notification on demand")
    create(network)
    invoice = issue(network)
    others = [network.merchant.call("invoice", 1000, f"other/{n}", "tea")["bolt11"] for n in range(300)]
    network.fault("settle", "lose_notification")
    network.pay(invoice["bolt11"])
    is_over = threading.Event()
    paying = in_background(lambda: [network.pay(other) for other in others if not is_over.is_set()])
    paid = network.merchant.call("paycode-wait", "coffee", 1, "paid", 5)
    is_over.set()
    paying.result()

    assert paid["status"] == "paid"
    assert events(network) == ["invoice.paid 1"]


def test_intent_without_an_outcome_is_released(network: Network) -> None:
    """The hook's intent was durable, the payment never came through: the invoice can be paid again."""
    create(network)
    invoice = issue(network)
    network.merchant.stop_plugin()
    with opened_sidecar(network) as sql:
        sql.execute("UPDATE invoices SET status = 'paying'")
    network.merchant.start_plugin()
    healed(network)
    released = books(network)
    network.pay(invoice["bolt11"])
    network.merchant.call("paycode-wait", "coffee", 1, "paid", 30)

    assert released == {1: "issued"}
    assert events(network) == ["invoice.paid 1"]


def test_invoice_expired_while_the_plugin_was_down(network: Network) -> None:
    """It is told as expired, once, and its slot counts as unpaid no longer."""
    paycode_id = create(network, expiry=1, max_pending=1)
    issue(network)
    network.merchant.stop_plugin()
    wait_for_expiry(network, label_of(paycode_id, 1))
    before = wound(network)
    network.merchant.start_plugin()
    healed(network)

    assert before == {1: "issued"}
    assert books(network) == {1: "expired"}
    assert events(network) == ["invoice.expired 1"]
    assert issue(network)["index"] == 2


# --- issuing that was cut off ---


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
def test_index_reserved_and_no_answer_from_the_node(network: Network, fault: str) -> None:
    """Called or not, recorded or not: the run asks the node and ends with the invoice issued there."""
    if not network.supports_faults:
        pytest.skip("a real node does not drop answers on demand")
    create(network)
    lose_answer(network, fault)
    with pytest.raises(RpcError) as refused:
        issue(network)
    before = books(network)
    report = network.merchant.call("reconcile")
    healed(network)

    assert refused.value.error["code"] == 3111
    assert before == {1: "reserved"}
    assert report["confirmed"] + report["reissued"] == 1
    assert books(network) == {1: "issued"}
    assert len(network.merchant.call("listinvoices")["invoices"]) == 1


def test_codes_created_while_the_datastore_refused(network: Network) -> None:
    """They work at once, and reach the datastore with the next run, where a lost sidecar finds them."""
    if not network.supports_faults:
        pytest.skip("a real node does not refuse on demand")
    merchant = network.merchant
    merchant.call("reconcile")
    network.fault("datastore", "refuse", count=2)
    ids = [merchant.call("paycode-create", label, label)["paycode_id"] for label in ("coffee", "tea")]
    before = merchant.call("listdatastore", key=["paycodes", "code"])["datastore"]
    healed(network)
    stored = merchant.call("listdatastore", key=["paycodes", "code"])["datastore"]
    merchant.stop_plugin()
    delete_sidecar(network)
    merchant.start_plugin()
    healed(network)

    assert before == []
    assert {entry["key"][-1] for entry in stored} == set(ids)
    assert {paycode["paycode_id"] for paycode in merchant.call("listpaycodes")["paycodes"]} == set(ids)


# --- deleted at the node ---


def test_open_invoice_that_was_deleted_is_issued_again(network: Network) -> None:
    """The string that the payer has can be paid: same label, same preimage."""
    paycode_id = create(network)
    invoice = issue(network)
    network.merchant.stop_plugin()
    network.merchant.call("delinvoice", label_of(paycode_id, 1), "unpaid")
    network.merchant.start_plugin()
    healed(network)
    [again] = network.merchant.call("listinvoices", label_of(paycode_id, 1))["invoices"]
    network.pay(invoice["bolt11"])
    network.merchant.call("paycode-wait", "coffee", 1, "paid", 30)

    assert again["payment_hash"] == invoice["payment_hash"]
    assert events(network) == ["invoice.paid 1"]


def test_open_invoice_deleted_under_the_running_plugin_comes_back_by_itself(network: Network) -> None:
    """No notification tells of a deletion; the parked `wait` does."""
    label = label_of(create(network), 1)
    issue(network)
    network.merchant.call("reconcile")
    network.merchant.call("delinvoice", label, "unpaid")
    poll_until(
        lambda: bool(network.merchant.call("listinvoices", label)["invoices"]), PATIENCE_S, "it is not issued again"
    )

    assert healed(network)["missing"] == 0
    assert books(network) == {1: "issued"}


@pytest.mark.parametrize("told", [True, False])
def test_paid_invoice_that_was_cleaned_away(network: Network, told: bool) -> None:
    """What the books know stays; what they did not know is taken from the bookkeeper, or left to a person."""
    paycode_id = create(network)
    invoice = issue(network)
    if not told:
        network.merchant.stop_plugin()
    network.pay(invoice["bolt11"])
    if told:
        network.merchant.call("paycode-wait", "coffee", 1, "paid", 30)
        network.merchant.stop_plugin()
    elif network.kind == "regtest":
        poll_until(
            lambda: bool(network.merchant.call("bkpr-listaccountevents", payment_id=invoice["payment_hash"])["events"]),
            PATIENCE_S,
            "the bookkeeper does not learn of the payment",
        )
    network.merchant.call("delinvoice", label_of(paycode_id, 1), "paid")
    network.merchant.start_plugin()
    report = network.merchant.call("reconcile", full=True)
    again = network.merchant.call("reconcile")

    if told or network.kind == "regtest":
        assert report["agree"], report
        assert books(network) == {1: "paid"}
        assert events(network) == ["invoice.paid 1"]
        [line] = report["paycodes"]
        assert (line["paid"], line["node_paid"], line["cleaned_received_msat"]) == (1, 0, 10_000)
    else:  # devnode has no bookkeeper: paid or not cannot be known
        assert books(network) == {1: "issued"}
        assert (report["agree"], again["agree"], events(network)) == (False, False, [])
        assert [conflict["index"] for conflict in again["conflicts"]] == [1]
    assert issue(network)["index"] > 1


def test_expired_invoice_that_was_cleaned_away(network: Network) -> None:
    """Gone before the books heard of its end: told as expired when the node can prove that nobody paid it."""
    paycode_id = create(network, expiry=1)
    issue(network)
    network.merchant.stop_plugin()
    wait_for_expiry(network, label_of(paycode_id, 1))
    network.merchant.call("delinvoice", label_of(paycode_id, 1), "expired")
    time.sleep(3)  # until its time is over by the plugin's own clock, with the grace
    network.merchant.start_plugin()
    report = network.merchant.call("reconcile", full=True)

    if network.kind == "regtest":
        assert (report["agree"], books(network), events(network)) == (True, {1: "expired"}, ["invoice.expired 1"])
    else:  # its end has left a hole among the updates, and devnode has no bookkeeper
        assert (report["agree"], books(network), events(network)) == (False, {1: "issued"}, [])


# --- invoices that the books never had ---


def test_invoice_under_our_label_that_the_books_never_had(network: Network) -> None:
    """It is adopted with all that the node knows, and its index is not handed out."""
    paycode_id = create(network)
    network.merchant.stop_plugin()
    preimage = root_of(network).invoice(5).preimage.hex()
    label = label_of(paycode_id, 5)
    network.merchant.call("invoice", amount_msat=7000, label=label, description="found", preimage=preimage)
    network.merchant.start_plugin()
    report = healed(network)

    assert books(network) == {5: "issued"}
    assert report["paycodes"][0]["issued"] == 1
    assert issue(network)["index"] == 6


def test_foreign_hash_under_our_label_stays_a_conflict_until_it_is_gone(network: Network) -> None:
    """Every run says so, none overwrites it, and it is forgotten once the node no longer has it."""
    paycode_id = create(network)
    label = label_of(paycode_id, 3)
    foreign = network.merchant.call("invoice", 7000, label, "foreign")["payment_hash"]
    reports = [network.merchant.call("reconcile"), network.merchant.call("reconcile"), full(network)]
    network.merchant.call("delinvoice", label, "unpaid")
    healed(network)

    assert [report["agree"] for report in reports] == [False, False, False]
    assert {conflict["label"] for report in reports for conflict in report["conflicts"]} == {label}
    assert all(foreign in report["conflicts"][0]["detail"] for report in reports)
    assert books(network) == {}


def full(network: Network) -> dict[str, Any]:
    return network.merchant.call("reconcile", full=True)


def test_index_too_large_to_store_stops_nothing(network: Network) -> None:
    """A label that no sidecar could hold is named, and everything else goes on."""
    paycode_id = create(network)
    network.merchant.call("invoice", 7000, label_of(paycode_id, 9_999_999_999_999_999_999), "huge")
    report = full(network)

    assert report["adopted"] == 0
    assert issue(network)["index"] == 1


# --- outgoing payments ---


def test_outgoing_payments_while_the_plugin_was_down(network: Network) -> None:
    """Sent and failed ones are both told by the start, once they are over for sure."""
    network.merchant.call("reconcile")
    network.merchant.stop_plugin()
    sent = network.pay_out(5000)
    failed = network.pay_out(6000, fail=True)
    network.merchant.start_plugin()
    wanted = sorted([f"payment.sent {sent}", f"payment.failed {failed}"])
    poll_until(lambda: events(network) == wanted, PATIENCE_S, "the payments are not told")
    again = full(network)

    assert again["events"] == 0
    assert events(network) == wanted


# --- clocks ---


def test_clock_that_ran_ahead_and_was_set_back(network: Network) -> None:
    """Rows from the future are judged by the node's word: nothing is lost, told twice, or stuck."""
    create(network)
    invoices = [issue(network) for _ in range(3)]
    network.merchant.stop_plugin()
    network.pay(invoices[0]["bolt11"])
    with opened_sidecar(network) as sql:
        sql.execute(
            "UPDATE invoices SET created_at = created_at + 86400, moved_at = moved_at + 86400,"
            " expires_at = expires_at + 86400, status = iif(idx = 2, 'paying', status)"
        )
        sql.execute("UPDATE paycodes SET updated_at = updated_at + 86400")
    network.merchant.start_plugin()
    healed(network)

    assert books(network) == {1: "paid", 2: "issued", 3: "issued"}
    assert events(network) == ["invoice.paid 1"]
    assert issue(network)["index"] == 4


# --- dry run ---


def test_dry_run_reports_the_same_and_writes_nothing(network: Network) -> None:
    """The sidecar on disk and the node are what they were; the real run then finds what was said."""
    if not network.supports_faults:
        pytest.skip("the wound is made by a fault")
    create(network)
    lose_answer(network, "drop_after")
    with pytest.raises(RpcError):
        issue(network)
    before = network.merchant.call("listpaycodeinvoices")["invoices"]
    dry = [network.merchant.call("reconcile", dry_run=True, full=full_too) for full_too in (True, False)]
    after = network.merchant.call("listpaycodeinvoices")["invoices"]
    wet = network.merchant.call("reconcile")

    assert before == after
    assert [report["agree"] for report in dry] == [False, False]
    for report in dry:
        assert {name: report[name] for name in FINDINGS} == {name: wet[name] for name in FINDINGS}
    assert healed(network)["agree"]


def test_dry_run_of_a_lost_sidecar_leaves_it_empty(network: Network) -> None:
    """It says what it would adopt, and adopts nothing; the real run then does."""
    if not network.supports_faults:
        pytest.skip("the run at start is cut off by a fault")
    create(network)
    issue(network)
    network.merchant.stop_plugin()
    delete_sidecar(network)
    network.fault("listinvoices", "refuse")
    since = len(network.merchant.log())
    network.merchant.start_plugin()
    network.merchant.wait_for_log("reconcile was cut off", since=since)
    dry = network.merchant.call("reconcile", dry_run=True)
    before = books(network)
    wet = network.merchant.call("reconcile")

    assert (dry["adopted"], dry["agree"], before) == (1, False, {})
    assert (wet["adopted"], wet["agree"], books(network)) == (1, True, {1: "issued"})


def test_kill_in_the_middle_of_everything(network: Network) -> None:
    """SIGKILL of the plugin while runs and payments go on: one run later books and node agree."""
    create(network)
    invoices = [issue(network) for _ in range(6)]
    payments = [network.pay_in_background(invoice["bolt11"]) for invoice in invoices[:3]]
    network.merchant.kill_plugin()
    payments += [network.pay_in_background(invoice["bolt11"]) for invoice in invoices[3:5]]
    network.merchant.start_plugin()
    with contextlib.suppress(RpcError, ConnectionLost):
        network.merchant.call("reconcile", full=True)
    for payment in payments:
        payment.result(PATIENCE_S)
    poll_until(lambda: list(books(network).values()).count("paid") == 5, PATIENCE_S, "not all payments are seen")
    healed(network)

    assert books(network)[6] == "issued"
    assert events(network) == [f"invoice.paid {index}" for index in range(1, 6)]


def test_preimages_are_those_of_the_code(network: Network) -> None:
    """What is issued again proves payment by the very preimage that the code derives."""
    paycode_id = create(network)
    invoice = issue(network)
    network.merchant.stop_plugin()
    network.merchant.call("delinvoice", label_of(paycode_id, 1), "unpaid")
    network.merchant.start_plugin()
    healed(network)
    paid = network.pay(invoice["bolt11"])
    preimage = root_of(network).invoice(1).preimage

    assert paid["payment_preimage"] == preimage.hex()
    assert hashlib.sha256(preimage).hexdigest() == invoice["payment_hash"]


# --- for people ---


def test_caller_that_asks_sees_the_progress(network: Network) -> None:
    """`lightning-cli` draws a bar, which ends at the total; the answer has the sums, readable with -H."""
    cli = shutil.which("lightning-cli")
    if cli is None or network.kind != "regtest":
        pytest.skip("the bar is drawn by lightning-cli on a real node")
    create(network)
    for _ in range(60):
        issue(network)
    directory = network.merchant.network_dir.parent
    command = [cli, f"--lightning-dir={directory}", "--network=regtest", "-H", "-k", "reconcile", "full=true"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert re.search(r"# +60/60 \|=+\|", shown)
    assert {"agree=true", "issued=60", "node_issued=60", "checked=60"} <= set(shown.splitlines())


def test_stop_in_the_middle_of_a_run_is_harmless(network: Network) -> None:
    """`plugin stop` ends a long run at once, and the next start does what it left."""
    if not network.supports_faults:
        pytest.skip("a run is made long by a slow node")
    create(network)
    for _ in range(5):
        issue(network)
    network.fault("listinvoices", "slow", count=50, seconds=1.0)
    running = in_background(lambda: network.merchant.call("reconcile", full=True))
    network.merchant.stop_plugin()
    network.clear_faults()
    with contextlib.suppress(RpcError):
        running.result(PATIENCE_S)
    network.merchant.start_plugin()
    healed(network)

    assert books(network) == dict.fromkeys(range(1, 6), "issued")


def test_two_runs_at_once_do_not_overlap(network: Network) -> None:
    """The second waits for the first, and finds nothing that is left to do."""
    create(network)
    invoice = issue(network)
    network.merchant.stop_plugin()
    network.pay(invoice["bolt11"])
    network.merchant.start_plugin()
    runs = [in_background(lambda: network.merchant.call("reconcile", full=True)) for _ in range(4)]
    reports = [run.result(PATIENCE_S) for run in runs]

    assert all(report["agree"] for report in reports)
    assert sum(report["events"] for report in reports) <= 1
    assert events(network) == ["invoice.paid 1"]
