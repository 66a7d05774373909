"""A sidecar that was lost, and backups: of the sidecar, of the node, older than the other one."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from network import Network
from network.daemon import poll_until
from pyln.client import RpcError
from test_reconcile import (
    PATIENCE_S,
    books,
    copy_sidecar,
    create,
    delete_sidecar,
    events,
    full,
    healed,
    issue,
    label_of,
    network_options,
    restore_sidecar,
    wait_for_expiry,
)

__all__ = ["network_options"]

#: A root key made elsewhere: the generator of secp256k1.
IMPORTED = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"

#: What a rebuilt sidecar cannot know: when it wrote a row, and what was never at the node.
UNKNOWN = ("comment", "payer_data")


def listed(network: Network) -> list[dict[str, Any]]:
    rows = network.merchant.call("listpaycodeinvoices", limit=1000)["invoices"]
    return [{name: value for name, value in row.items() if name not in UNKNOWN} for row in rows]


def codes(network: Network) -> list[dict[str, Any]]:
    return sorted(network.merchant.call("listpaycodes")["paycodes"], key=lambda code: str(code["paycode_id"]))


def told(network: Network) -> list[tuple[str, dict[str, Any]]]:
    found = network.merchant.call("listoutbox", limit=1000)["events"]
    return sorted((event["id"], {k: v for k, v in event["data"].items() if k not in UNKNOWN}) for event in found)


def lived(network: Network) -> str:
    """A code with a paid, an expired and two open invoices, an outgoing payment, and a second code."""
    paycode_id = create(network)
    network.merchant.call("paycode-create", label="tea", description="Tea", user="alice", root_key=IMPORTED)
    network.pay(issue(network)["bolt11"])
    network.merchant.call("paycode-wait", "coffee", 1, "paid", 30)
    network.merchant.call("paycode-update", paycode="coffee", expiry=1)
    issue(network)
    network.merchant.call("paycode-update", paycode="coffee", expiry=3600)
    issue(network)
    network.merchant.call("paycode-invoice", "tea", 5000)
    wait_for_expiry(network, label_of(paycode_id, 2))
    network.pay_out(5000)
    poll_until(lambda: len(told(network)) == 3, PATIENCE_S, "not everything is told")
    return paycode_id


def test_lost_sidecar_is_rebuilt_as_it_was(network: Network) -> None:
    """Codes, indexes, invoices, amounts, times, states and event ids: all from the node."""
    lived(network)
    before = codes(network), listed(network), told(network)
    network.merchant.stop_plugin()
    delete_sidecar(network)
    network.merchant.start_plugin()
    report = full(network)
    after = codes(network), listed(network), told(network)

    assert after == before
    assert report["agree"], report
    assert issue(network)["index"] == 4


def test_lost_sidecar_of_a_cleaned_node_reuses_no_index(network: Network) -> None:
    """The node has forgotten every invoice; the datastore has not forgotten which indexes were handed out."""
    paycode_id = create(network)
    indexes = [issue(network)["index"] for _ in range(4)]
    network.merchant.stop_plugin()
    for index in indexes:
        network.merchant.call("delinvoice", label_of(paycode_id, index), "unpaid")
    delete_sidecar(network)
    network.merchant.start_plugin()
    at_once = issue(network)["index"]
    healed(network)

    assert at_once > max(indexes)
    assert issue(network)["index"] > at_once


@pytest.mark.parametrize("root_key", [None, IMPORTED], ids=["derived", "imported"])
def test_code_made_anew_reveals_no_preimage_again(network: Network, root_key: str | None) -> None:
    """Sidecar and datastore are lost, and the list is cleaned: only the bookkeeper remembers what was paid."""
    if network.kind == "devnode":
        pytest.skip("devnode has no bookkeeper")
    merchant = network.merchant
    paycode_id = create(network, **({} if root_key is None else {"root_key": root_key}))
    made = [issue(network) for _ in range(3)]
    network.pay(made[2]["bolt11"])
    merchant.call("paycode-wait", "coffee", 3, "paid", 30)
    poll_until(
        lambda: bool(merchant.call("bkpr-listaccountevents", payment_id=made[2]["payment_hash"])["events"]),
        PATIENCE_S,
        "the bookkeeper does not learn of the payment",
    )
    merchant.stop_plugin()
    delete_sidecar(network)
    merchant.call("deldatastore", key=["paycodes", "code", paycode_id])
    for invoice in made:
        merchant.call("delinvoice", invoice["label"], "paid" if invoice is made[2] else "unpaid")
    merchant.start_plugin()
    again = create(network, **({} if root_key is None else {"root_key": root_key}))

    assert again == paycode_id
    assert issue(network)["index"] > 3
    assert healed(network)["agree"]


def test_code_made_anew_hands_out_no_listed_invoice_again(network: Network) -> None:
    """Sidecar and datastore are lost: what the node still lists is in somebody's hands."""
    merchant = network.merchant
    paycode_id = create(network)
    hashes = {issue(network)["payment_hash"] for _ in range(3)}
    merchant.stop_plugin()
    delete_sidecar(network)
    merchant.call("deldatastore", key=["paycodes", "code", paycode_id])
    merchant.start_plugin()
    again = create(network)
    fresh = issue(network)
    report = healed(network)

    assert again == paycode_id
    assert fresh["index"] > 3
    assert fresh["payment_hash"] not in hashes
    assert report["agree"]
    assert {row["payment_hash"] for row in merchant.call("listpaycodeinvoices")["invoices"]} > hashes


def test_lost_sidecar_and_a_caller_that_does_not_wait(network: Network) -> None:
    """An invoice asked for while the books are being rebuilt gets an index of its own."""
    create(network)
    hashes = {issue(network)["payment_hash"] for _ in range(3)}
    network.merchant.stop_plugin()
    delete_sidecar(network)
    network.merchant.start_plugin()

    def asked() -> bool:
        with contextlib.suppress(RpcError):
            fresh.append(issue(network))
        return bool(fresh)

    fresh: list[dict[str, Any]] = []
    poll_until(asked, PATIENCE_S, "the code does not come back")
    healed(network)

    assert fresh[0]["payment_hash"] not in hashes
    assert len(books(network)) == 4


@pytest.mark.parametrize("cleaned", [False, True])
def test_sidecar_from_an_older_backup(network: Network, tmp_path: Path, cleaned: bool) -> None:
    """What was issued and paid since the backup is found again, and no index is handed out twice, even when the node
    has forgotten those that were.
    """
    paycode_id = create(network)
    issue(network)
    network.merchant.stop_plugin()
    copy_sidecar(network, tmp_path / "backup")
    network.merchant.start_plugin()
    later = [issue(network) for _ in range(3)]
    network.pay(later[0]["bolt11"])
    network.merchant.call("paycode-wait", "coffee", 2, "paid", 30)
    network.merchant.stop_plugin()
    if cleaned:
        network.merchant.call("delinvoice", label_of(paycode_id, 3), "unpaid")
        network.merchant.call("delinvoice", label_of(paycode_id, 4), "unpaid")
    restore_sidecar(network, tmp_path / "backup")
    network.merchant.start_plugin()
    fresh = issue(network)
    healed(network)

    assert fresh["index"] > 4
    assert fresh["payment_hash"] not in {invoice["payment_hash"] for invoice in later}
    assert books(network)[2] == "paid"
    assert events(network) == ["invoice.paid 2"]
    assert set(books(network)) == ({1, 2, fresh["index"]} if cleaned else {1, 2, 3, 4, fresh["index"]})


def test_sidecar_from_before_a_code_was_made(network: Network, tmp_path: Path) -> None:
    """The code comes back from the datastore; one made meanwhile under its label leaves both usable."""
    network.merchant.stop_plugin()
    copy_sidecar(network, tmp_path / "backup")
    network.merchant.start_plugin()
    create(network)
    issue(network)
    before = codes(network)
    network.merchant.stop_plugin()
    restore_sidecar(network, tmp_path / "backup")
    network.merchant.start_plugin()
    healed(network)

    assert [code["paycode_id"] for code in codes(network)] == [code["paycode_id"] for code in before]
    assert books(network) == {1: "issued"}
    assert issue(network)["index"] == 2


@pytest.mark.parametrize("unlisted", [{"issue": "lazy"}, {"hold": True}], ids=["lazy", "held"])
def test_indexes_that_the_node_never_listed_are_not_used_again(
    network: Network, tmp_path: Path, unlisted: dict[str, Any]
) -> None:
    """The code was made eager since; neither a lost sidecar nor an older one takes what is not listed for free."""
    create(network, **unlisted)
    network.merchant.stop_plugin()
    copy_sidecar(network, tmp_path / "backup")
    network.merchant.start_plugin()
    last = [issue(network)["index"] for _ in range(3)][-1]
    time.sleep(1.1)  # the node's definition is the newer one, by its second
    network.merchant.call("paycode-update", paycode="coffee", issue="eager", hold=False)
    network.merchant.stop_plugin()
    delete_sidecar(network)
    network.merchant.start_plugin()
    healed(network)
    (after_loss,) = codes(network)
    network.merchant.stop_plugin()
    restore_sidecar(network, tmp_path / "backup")
    network.merchant.start_plugin()
    healed(network)
    (with_older,) = codes(network)

    assert after_loss["next_index"] > last
    assert with_older["next_index"] > last
    assert issue(network)["index"] == with_older["next_index"]


def test_sidecar_from_before_a_name_changed_hands(network: Network, tmp_path: Path) -> None:
    """Each code has the name that it has at the node, whichever of them comes first."""
    for label, user in (("coffee", None), ("tea", "alice"), ("milk", None)):
        network.merchant.call("paycode-create", label=label, description=label, **({"user": user} if user else {}))
    network.merchant.stop_plugin()
    copy_sidecar(network, tmp_path / "backup")
    network.merchant.start_plugin()
    time.sleep(1.1)  # the node's definitions are the newer ones, by their second
    network.merchant.call("paycode-update", paycode="milk", label="cream")
    network.merchant.call("paycode-update", paycode="tea", label="milk", user="bob")
    network.merchant.call("paycode-update", paycode="coffee", label="tea", user="alice")
    before = codes(network)
    network.merchant.stop_plugin()
    restore_sidecar(network, tmp_path / "backup")
    network.merchant.start_plugin()
    report = healed(network)

    assert codes(network) == before
    assert report["problems"] == []


# --- a node from an older backup: devnode keeps everything in one file ---


class NodeBackup:
    def __init__(self, network: Network, directory: Path) -> None:
        if network.kind != "devnode":
            pytest.skip("an old state of a real node loses its channels")
        self._network = network
        self._state = network.merchant.network_dir / "devnode.sqlite3"
        self._copy = directory / "state"

    def take(self) -> None:
        self._network.merchant.stop()
        shutil.copy(self._state, self._copy)
        self._network.merchant.start()

    def restore(self, *, plugin: bool = True) -> None:
        """Back to the copy, with the plugin running or not."""
        merchant = self._network.merchant
        merchant.stop()
        shutil.copy(self._copy, self._state)
        path, merchant.plugin_path = merchant.plugin_path, merchant.plugin_path if plugin else None
        merchant.start(paycodes_reconcile_interval=86_400 if plugin else None)
        merchant.plugin_path = path


def test_node_from_an_older_backup(network: Network, tmp_path: Path) -> None:
    """Its indexes are behind the cursors: open invoices are issued again, what was paid since is a conflict or kept,
    and no index is handed out twice.
    """
    backup = NodeBackup(network, tmp_path)
    create(network)
    kept = [issue(network) for _ in range(2)]
    backup.take()
    network.pay(kept[0]["bolt11"])
    network.merchant.call("paycode-wait", "coffee", 1, "paid", 30)
    later = [issue(network) for _ in range(2)]
    network.pay(later[0]["bolt11"])
    network.merchant.call("paycode-wait", "coffee", 3, "paid", 30)
    backup.restore()
    report = full(network)
    again = full(network)
    network.pay(later[1]["bolt11"])
    network.merchant.call("paycode-wait", "coffee", 4, "paid", 30)

    assert books(network) == {1: "paid", 2: "issued", 3: "paid", 4: "paid"}
    assert [conflict["index"] for conflict in report["conflicts"]] == [1]
    assert "paid in the books, unpaid at the node" in again["conflicts"][0]["detail"]
    assert events(network) == ["invoice.paid 1", "invoice.paid 3", "invoice.paid 4"]
    assert issue(network)["index"] > 4


def test_node_from_an_older_backup_that_was_used_before_the_plugin_looked(network: Network, tmp_path: Path) -> None:
    """Its indexes are past the cursors again, with other invoices under the same numbers: that is noticed."""
    backup = NodeBackup(network, tmp_path)
    create(network)
    first = issue(network)
    backup.take()
    issue(network)
    network.merchant.call("reconcile")
    backup.restore(plugin=False)
    for number in range(5):
        network.merchant.call("invoice", 1000, f"other/{number}", "meanwhile")
    network.pay(first["bolt11"])
    network.merchant.start_plugin()
    healed(network)

    assert books(network) == {1: "paid", 2: "issued"}
    assert events(network) == ["invoice.paid 1"]
    assert issue(network)["index"] > 2


def test_runs_go_on_from_where_an_older_node_stands(network: Network, tmp_path: Path) -> None:
    """It is looked at once as a whole: what it deletes from then on is not taken for forgotten, and issued again."""
    backup = NodeBackup(network, tmp_path)
    create(network)
    open_invoice = issue(network)
    backup.take()
    for number in range(10):
        network.merchant.call("invoice", 1000, f"other/{number}", "before")
    network.merchant.call("reconcile")
    backup.restore()
    full(network)
    after = network.merchant.call("reconcile")
    network.merchant.stop_plugin()
    network.pay(open_invoice["bolt11"])
    network.merchant.call("delinvoice", open_invoice["label"], "paid")
    network.merchant.start_plugin()
    report = full(network)

    assert after["full"] is False
    assert after["cursors"]["invoices.created"] == 1
    assert (report["missing"], report["agree"]) == (0, False)
    assert network.merchant.call("listinvoices")["invoices"] == []


def test_node_from_before_a_code_was_made(network: Network, tmp_path: Path) -> None:
    """The definition is written to the node again, and its invoices are issued again."""
    backup = NodeBackup(network, tmp_path)
    backup.take()
    paycode_id = create(network)
    invoice = issue(network)
    backup.restore()
    healed(network)
    stored = network.merchant.call("listdatastore", key=["paycodes", "code"])["datastore"]
    network.pay(invoice["bolt11"])
    network.merchant.call("paycode-wait", "coffee", 1, "paid", 30)

    assert [entry["key"][-1] for entry in stored] == [paycode_id]
    assert events(network) == ["invoice.paid 1"]


def test_outgoing_payments_of_a_node_from_an_older_backup(network: Network, tmp_path: Path) -> None:
    """New payments under indexes that were seen before are told, and the old ones are not told twice."""
    backup = NodeBackup(network, tmp_path)
    network.merchant.call("reconcile")
    backup.take()
    first = network.pay_out(5000)
    poll_until(lambda: len(told(network)) == 1, PATIENCE_S, "the payment is not told")
    network.merchant.call("reconcile")
    backup.restore(plugin=False)
    second = [network.pay_out(6000) for _ in range(2)]
    network.merchant.start_plugin()
    poll_until(lambda: len(told(network)) == 3, PATIENCE_S, "the payments are not told")

    assert events(network) == sorted(f"payment.sent {payment_hash}" for payment_hash in (first, *second))
