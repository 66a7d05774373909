"""The port, spoken to a real lightningd (v25.12 to v26.06)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from ..chaining import then
from ..core.bolt11 import CURRENCIES, features_from
from ..core.htlcs import IncomingHtlc
from ..core.records import NodeInvoice, NodeOffer, NodePayment
from ..core.routehints import USABLE_STATES, IncomingChannel
from ..errors import NodeRefused, NodeUnknown
from .connection import Connection
from .invoices import InvoiceWalk, invoice_of
from .port import DATASTORE_DEL_DOES_NOT_EXIST, METHOD_NOT_FOUND, Credit, Datum, InvoiceTraits, Issued, Wanted

#: Options that make the node's invoices name a neighbour, or an address on chain.
ADDING_OPTIONS = ("payment-fronting-node", "invoices-onchain-fallback")

#: Seconds after which a call's outcome counts as unknown.
CALL_TIMEOUT_S = 30.0


class Lightningd:
    def __init__(self, socket_path: str, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._socket_path = socket_path
        self._connection = Connection(socket_path)
        # Parked `wait` calls have a connection of their own, so that one that lightningd
        # drops takes no other call with it.
        self._parked = Connection(socket_path)
        # Invoices that are created at the same time share a commit of lightningd's.
        self._batched = Connection(socket_path, batching=True)
        self._walks: set[InvoiceWalk] = set()
        self._closed = False
        self._timeout_s = timeout_s

    def close(self) -> None:
        self._closed = True
        for walk in list(self._walks):
            walk.interrupt()
        self._connection.close()
        self._parked.close()
        self._batched.close()

    def _call(self, method: str, **params: Any) -> Any:
        return self._connection.call(method, params, timeout_s=self._timeout_s)

    def node_id(self) -> str:
        return str(self._call("getinfo")["id"])

    def make_secret(self, label: str) -> bytes:
        return bytes.fromhex(self._call("makesecret", string=label)["secret"])

    def read_datastore(self, *key: str) -> list[Datum]:
        leaves: list[Datum] = []
        for entry in self._call("listdatastore", key=list(key))["datastore"]:
            if "hex" in entry:
                leaves.append(Datum(key=tuple(entry["key"]), text=entry.get("string")))
            else:
                leaves.extend(self.read_datastore(*entry["key"]))
        return leaves

    def write_datastore(self, key: tuple[str, ...], text: str) -> None:
        self._call("datastore", key=list(key), string=text, mode="create-or-replace")

    def delete_datastore(self, key: tuple[str, ...]) -> None:
        try:
            self._call("deldatastore", key=list(key))
        except NodeRefused as e:
            if e.node_code != DATASTORE_DEL_DOES_NOT_EXIST:
                raise

    def begin_invoice(self, wanted: Wanted) -> Future[Issued]:
        params = {
            "amount_msat": wanted.amount_msat,
            "label": wanted.label,
            "description": wanted.description,
            "deschashonly": wanted.description_hashed,
            "expiry": wanted.expiry_s,
            "preimage": wanted.preimage.hex(),
        }
        return then(self._connection.begin("invoice", params, timeout_s=self._timeout_s), _issued)

    def invoice_by_label(self, label: str) -> NodeInvoice | None:
        return _only_invoice(self._call("listinvoices", label=label))

    def begin_look(self, label: str) -> Future[NodeInvoice | None]:
        answer = self._connection.begin("listinvoices", {"label": label}, timeout_s=self._timeout_s)
        return then(answer, _only_invoice)

    def invoices(self, *, index: str, start: int, limit: int) -> list[NodeInvoice]:
        page = self._call("listinvoices", index=index, start=start, limit=limit)["invoices"]
        return [invoice_of(entry) for entry in page]

    @contextmanager
    def invoice_walk(self, *, index: str, start: int, last: int, limit: int) -> Iterator[InvoiceWalk]:
        walk = InvoiceWalk(
            self._socket_path, index=index, start=start, last=last, limit=limit, timeout_s=self._timeout_s
        )
        self._walks.add(walk)
        try:
            if self._closed:
                raise NodeUnknown("the node's invoices were not listed: the plugin is stopping")
            walk.begin()
            yield walk
        finally:
            self._walks.discard(walk)
            walk.close()

    def offers(self) -> list[NodeOffer]:
        try:
            found = self._call("listoffers")["offers"]
        except NodeRefused as e:
            if e.node_code != METHOD_NOT_FOUND:
                raise
            return []  # a node without BOLT 12 has none
        return [_offer(entry) for entry in found]

    def make_offer(self, *, amount_msat: int | None, description: str, label: str, issuer: str | None) -> NodeOffer:
        wanted: dict[str, Any] = {"amount": "any" if amount_msat is None else amount_msat, "label": label}
        if description:
            wanted["description"] = description
        if issuer is not None:
            wanted["issuer"] = issuer
        return _offer(self._call("offer", **wanted))

    def enable_offer(self, offer_id: str) -> None:
        self._call("enableoffer", offer_id=offer_id)

    def disable_offer(self, offer_id: str) -> None:
        self._call("disableoffer", offer_id=offer_id)

    def payments(self, *, index: str, start: int, limit: int) -> list[NodePayment]:
        page = self._call("listsendpays", index=index, start=start, limit=limit)["payments"]
        return [_payment(entry) for entry in page]

    def payments_of(self, payment_hash: str) -> list[NodePayment]:
        found = self._call("listsendpays", payment_hash=payment_hash)["payments"]
        return [_payment(entry) for entry in found]

    def last_index(self, *, subsystem: str, index: str) -> int:
        answer = self._call("wait", subsystem=subsystem, indexname=index, nextvalue=0)
        return int(answer.get(index, 0))

    def bookkeeper_credit(self, payment_hash: str) -> Credit | None:
        events = self._call("bkpr-listaccountevents", payment_id=payment_hash)["events"]
        received = [event for event in events if event["type"] == "channel" and event["credit_msat"] > 0]
        if not received:
            return None
        return Credit(
            amount_msat=sum(event["credit_msat"] for event in received),
            at=max(event["timestamp"] for event in received),
        )

    def incoming_htlcs(self) -> list[IncomingHtlc]:
        return [
            _incoming_htlc(channel, htlc)
            for channel in self._call("listpeerchannels")["channels"]
            for htlc in channel.get("htlcs", ())
            if htlc["direction"] == "in"
        ]

    def block_height(self) -> int:
        return int(self._call("getinfo")["blockheight"])

    def tip_height(self) -> int | None:
        node = self._call("getinfo")
        is_behind = "warning_bitcoind_sync" in node or "warning_lightningd_sync" in node
        return None if is_behind else int(node["blockheight"])

    def cltv_delta(self) -> int:
        return self._number_option("cltv-delta")

    def cltv_final(self) -> int:
        return self._number_option("cltv-final")

    def _is_set(self, name: str) -> bool:
        """An option of lightningd's that this version may not have is given, and not `false`."""
        option = self._call("listconfigs")["configs"].get(name, {})
        return bool(option.get("value_bool", option.get("set", bool(option.get("values_str")))))

    def _number_option(self, name: str) -> int:
        return int(self._call("listconfigs", config=name)["configs"][name]["value_int"])

    def invoice_traits(self) -> InvoiceTraits:
        node = self._call("getinfo")
        return InvoiceTraits(
            currency=CURRENCIES[node["network"]],
            features=features_from(node["our_features"]["invoice"]),
            final_cltv_blocks=self.cltv_final(),
            adds_more=any(map(self._is_set, ADDING_OPTIONS)),
        )

    def incoming_channels(self) -> list[IncomingChannel]:
        try:
            ways = self._call("listincoming")["incoming"]
        except NodeRefused as e:
            if e.node_code != METHOD_NOT_FOUND:
                raise
            return []  # a node without its `topology` plugin
        channels = {_scid(channel): channel for channel in self._call("listpeerchannels")["channels"]}
        return [
            _incoming_channel(way, channels[way["short_channel_id"]])
            for way in ways
            if way["short_channel_id"] in channels
        ]

    def begin_creation(self, bolt11: str, *, label: str, preimage: bytes) -> Future[Issued]:
        params = {"invstring": bolt11, "label": label, "preimage": preimage.hex()}
        return then(self._batched.begin("createinvoice", params, timeout_s=self._timeout_s), _issued)

    def begin_search(self, payment_hash: str) -> Future[bool]:
        search = self._batched.begin("listinvoices", {"payment_hash": payment_hash}, timeout_s=self._timeout_s)
        return then(search, lambda answer: bool(answer["invoices"]))

    def begin_signature(self, bolt11: str) -> Future[str]:
        params = {"invstring": bolt11}
        return then(
            self._connection.begin("signinvoice", params, timeout_s=self._timeout_s),
            lambda answer: str(answer["bolt11"]),
        )

    def delete_unpaid_invoice(self, label: str) -> None:
        self._call("delinvoice", label=label, status="unpaid")

    def wait_index(self, *, subsystem: str, index: str, value: int) -> None:
        params = {"subsystem": subsystem, "indexname": index, "nextvalue": value}
        self._parked.call("wait", params, timeout_s=None)


def _issued(answer: dict[str, Any]) -> Issued:
    return Issued(
        bolt11=answer["bolt11"],
        payment_hash=answer["payment_hash"],
        expires_at=answer["expires_at"],
        created_index=answer["created_index"],
    )


def _only_invoice(answer: dict[str, Any]) -> NodeInvoice | None:
    found = answer["invoices"]
    return invoice_of(found[0]) if found else None


def _scid(channel: dict[str, Any]) -> str:
    """As the hook and `listincoming` name a channel, one without a short_channel_id of its own yet by our alias."""
    return str(channel.get("short_channel_id") or channel.get("alias", {}).get("local", ""))


def _incoming_channel(way: dict[str, Any], channel: dict[str, Any]) -> IncomingChannel:
    return IncomingChannel(
        peer_id=bytes.fromhex(way["id"]),
        fee_base_msat=way["fee_base_msat"],
        fee_proportional_millionths=way["fee_proportional_millionths"],
        cltv_expiry_delta=way["cltv_expiry_delta"],
        htlc_max_msat=way["htlc_max_msat"],
        onward_msat=way["incoming_capacity_msat"],
        short_channel_id=channel.get("short_channel_id"),
        remote_alias=channel.get("alias", {}).get("remote"),
        alias_only="option_scid_alias" in channel["features"],
        public=not channel["private"],
        usable=channel["state"] in USABLE_STATES,
        online="owner" in channel,
        receivable_msat=channel["receivable_msat"],
        capacity_msat=channel["total_msat"] - channel["our_reserve_msat"] - channel["their_reserve_msat"],
    )


def _incoming_htlc(channel: dict[str, Any], htlc: dict[str, Any]) -> IncomingHtlc:
    return IncomingHtlc(
        key=(_scid(channel), htlc["id"]),
        payment_hash=htlc["payment_hash"],
        amount_msat=htlc["amount_msat"],
        is_undecided=htlc["state"] == "RCVD_ADD_ACK_REVOCATION",
    )


def _offer(entry: dict[str, Any]) -> NodeOffer:
    return NodeOffer(
        offer_id=entry["offer_id"],
        bolt12=entry["bolt12"],
        label=entry.get("label"),
        active=entry["active"],
    )


def _payment(entry: dict[str, Any]) -> NodePayment:
    return NodePayment(
        payment_hash=entry["payment_hash"],
        groupid=entry.get("groupid", 0),
        partid=entry.get("partid", 0),
        status=entry["status"],
        amount_msat=entry.get("amount_msat"),
        amount_sent_msat=entry.get("amount_sent_msat"),
        label=entry.get("label"),
        created_at=entry["created_at"],
        completed_at=entry.get("completed_at"),
        created_index=entry["created_index"],
        updated_index=entry.get("updated_index"),
    )
