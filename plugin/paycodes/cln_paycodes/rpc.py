"""The plugin as lightningd sees it: options, methods, hooks, notifications, on pyln's `Plugin`.

pyln runs everything on one loop that reads stdin, so nothing here may block: a method is bound and checked on the
loop and answered from a pool; a hook is answered from the writer's thread, or by a deadline, whichever comes first.
pyln's own ways with parameters and errors are not used: they bind positions wrongly and put a traceback into the
answer.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from pyln.client import Plugin
from pyln.client.plugin import PluginLogHandler, Request

from . import crash, parameters
from .app import Pools, Services, Settings
from .commands import COMMANDS, Command, Pool
from .core.events import DISABLED_TOPIC, TOPICS
from .core.framing import Frames
from .core.labels import Slot, parse_label
from .core.offers import offer_id_of
from .core.outgoing import QUIET_S
from .errors import BadParameter, PaycodesError, SidecarUnavailable, describe
from .http.settings import read_settings
from .node.lightningd import Lightningd
from .options import OPTIONS, option_type
from .outlet import Outlet

log = logging.getLogger(__name__)

#: Seconds between two words on how far a method is.
PROGRESS_INTERVAL_S = 0.1

#: Seconds that a hook's answer may wait for its intent to reach the disk.
HOOK_DEADLINE_S = 0.05

#: Seconds between two tries to begin to work; the last is repeated.
START_DELAYS_S = (1, 2, 5, 10, 30, 60)

_INTERNAL_ERROR = -32603

#: Bytes of requests that are read at a time: as many as a pipe holds.
_CHUNK_BYTES = 1 << 16

#: The id of a request: lightningd writes it before the parameters.
_REQUEST_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*"|[0-9]+)')
_CONTINUE = {"result": "continue"}

#: New objects that the garbage collector lets gather before it looks: a request makes hundreds, and no cycles.
_COLLECT_AFTER = 20_000

_DATABASE = "paycodes.sqlite3"


class PlainFormatter(logging.Formatter):
    """The message alone: a traceback, ours or a library's, becomes one line that quotes nothing."""

    def formatException(self, ei: Any) -> str:
        return describe(ei[1])


class PaycodesPlugin(Plugin):  # type: ignore[misc]  # pyln has no types
    def __init__(self) -> None:
        super().__init__(dynamic=True)
        # Plain records: pyln's formatter pads a logger's name in front of each line, and its warnings only inform.
        for handler in logging.getLogger().handlers:
            handler.setFormatter(PlainFormatter())
            if isinstance(handler, PluginLogHandler):
                handler.levels[logging.WARNING] = "unusual"
        logging.getLogger("cln_paycodes").setLevel(logging.INFO)
        self._outlet = Outlet(self._write)
        self._pools = Pools()
        self._services: Services | None = None
        self._why_not = "the plugin is starting"
        self._stopping = threading.Event()
        for name, default, description in OPTIONS:
            self.add_option(name, default, description, opt_type=option_type(default))
        self._topics: dict[str, Callable[[Any], None]] = {
            "invoice_payment": self._invoice_paid,
            "sendpay_success": self._outgoing_changed,
            "sendpay_failure": self._outgoing_changed,
            "block_added": self._block_added,
            "shutdown": self._shut_down,
        }
        self._hooks: dict[str, Callable[[Request], None]] = {
            "htlc_accepted": self._htlc,
            "invoice_payment": self._hook,
        }
        for topic in self._topics:
            self.add_subscription(topic, _dispatched_elsewhere)
        for topic in (*TOPICS.values(), DISABLED_TOPIC):
            self.add_notification_topic(topic)
        for hook in self._hooks:
            self.add_hook(hook, _dispatched_elsewhere, background=True)
        self.child_init = self._start

    # --- what lightningd is told ---

    def _getmanifest(self, **kwargs: Any) -> Any:
        manifest = super()._getmanifest(**kwargs)
        manifest["rpcmethods"] = [
            {"name": command.name, "usage": parameters.usage(command.parameters), "description": ""}
            for command in COMMANDS.values()
        ]
        manifest["cancheck"] = True
        return manifest

    def _start(self, options: Mapping[str, Any], configuration: Mapping[str, Any], **_: Any) -> None:
        """Never fails: a plugin that cannot work stays, says so to every caller, and lets payments pass.

        What the operator chose wrongly takes another choice; anything else (a full disk, a sidecar that another
        process has, a node that does not answer) may be over soon, so it tries again by itself.
        """
        directory = Path(configuration["lightning-dir"])
        try:
            settings = _settings(options, directory)
        except BadParameter as e:
            self._not_working(e.message)
            return
        node = partial(Lightningd, str(directory / configuration["rpc-file"]))
        if not self._works(settings, node):
            threading.Thread(target=self._work_later, args=(settings, node), name="paycodes-start", daemon=True).start()

    def _work_later(self, settings: Settings, node: Callable[[], Lightningd]) -> None:
        for delay_s in itertools.chain(START_DELAYS_S, itertools.repeat(START_DELAYS_S[-1])):
            if self._stopping.wait(delay_s) or self._works(settings, node):
                return

    def _works(self, settings: Settings, node: Callable[[], Lightningd]) -> bool:
        """Begin to work; False when it may go better later."""
        try:
            services = Services(settings, node(), self._emit, partial(self._pools.submit, "htlc"))
        except PaycodesError as e:
            self._not_working(e.message)
            return isinstance(e, BadParameter)
        except Exception as e:
            self._not_working(f"an unexpected error at start: {describe(e)}", logging.ERROR)
            return False
        services.start()
        self._services = services
        return True

    def _not_working(self, why_not: str, level: int = logging.WARNING) -> None:
        if why_not != self._why_not:
            self._why_not = why_not
            log.log(level, "not working: %s", why_not)

    def _submit(self, job: Callable[..., None], *arguments: Any) -> None:
        self._pools.submit(Pool.NODE.value, job, *arguments)

    def _write_locked(self, obj: Any) -> None:
        """Whatever pyln or this class writes."""
        self._outlet.put(obj)

    def _write(self, framed: bytes) -> None:
        self.stdout.buffer.write(framed)
        self.stdout.buffer.flush()

    def _emit(self, topic: str, content: dict[str, Any]) -> None:
        self._write_locked({"jsonrpc": "2.0", "method": topic, "params": {topic: content}})

    # --- requests ---

    def _read_requests(self) -> None:
        """As pyln's loop, but in large pieces; a request that Python cannot read is refused and ends nothing."""
        frames, source = Frames(), self.stdin.fileno()
        while chunk := os.read(source, _CHUNK_BYTES):
            # The answers that need no other thread leave together: a burst of HTLCs costs the node one wake-up.
            with self._outlet.together():
                for message in frames.of(chunk):
                    self._dispatch(message)

    def _dispatch(self, message: bytes) -> None:
        try:
            request = self._parse_request(json.loads(message))
        except (ValueError, RecursionError):  # a number of thousands of digits, or lists thousands deep
            self._refuse_unread(message)
            return
        if request.id is None:
            self._dispatch_notification(request)
        else:
            self._dispatch_request(request)

    def _refuse_unread(self, message: bytes) -> None:
        match = _REQUEST_ID.search(message)
        if match is not None:
            reason = "the parameters cannot be read: they are nested too deep, or a number in them is too long"
            error = {"code": BadParameter.code, "message": reason}
            self._write_locked({"jsonrpc": "2.0", "id": json.loads(match[1]), "error": error})

    def _dispatch_request(self, request: Request) -> None:
        if request.method in self._hooks:
            self._hooks[request.method](request)
        elif request.method in COMMANDS or request.method == "check":
            self._command(request)
        else:
            super()._dispatch_request(request)

    def _command(self, request: Request) -> None:
        try:
            name, given = request.method, request.params
            if name == "check":
                name, given = _checked(request.params)
            command = COMMANDS[name]
            arguments = parameters.bind(command.parameters, given)
            if request.method == "check":
                self._answer(request, {"command_to_check": name})
                return
            services = self._services
            if services is None:
                raise SidecarUnavailable(self._why_not)
        except Exception as e:
            self._refuse(request, e)
            return
        if command.pool is Pool.NONE:
            self._run(request, command, services, arguments)
        else:
            self._pools.submit(command.pool.value, self._run, request, command, services, arguments)

    def _run(self, request: Request, command: Command, services: Services, arguments: dict[str, Any]) -> None:
        if command.watched:
            arguments["progress"] = _ProgressBar(request)
        try:
            answer = command.run(services, **arguments)
        except Exception as e:
            self._refuse(request, e)
            return
        if isinstance(answer, Future):
            answer.add_done_callback(lambda future: self._answer_future(request, future))
        else:
            self._answer(request, answer)

    def _answer_future(self, request: Request, future: Future[dict[str, Any]]) -> None:
        error = future.exception()
        if error is None:
            self._answer(request, future.result())
        else:
            self._refuse(request, error)

    def _answer(self, request: Request, result: Any) -> None:
        self._write_locked({"jsonrpc": "2.0", "id": request.id, "result": result})

    def _refuse(self, request: Request, error: BaseException) -> None:
        """The one place where errors become answers."""
        if isinstance(error, PaycodesError):
            answer: dict[str, Any] = {"code": error.code, "message": error.message}
            if error.data is not None:
                answer["data"] = error.data
        else:
            log.error("%s failed: %s", request.method, describe(error))
            answer = {
                "code": _INTERNAL_ERROR,
                "message": "an unexpected error, nothing was promised: the node's log names its place",
            }
        self._write_locked({"jsonrpc": "2.0", "id": request.id, "error": answer})

    # --- the hooks ---

    def _htlc(self, request: Request) -> None:
        """Answer once: at once for what is not ours, else when the desk has decided."""
        services = self._services
        if services is None:
            self._answer(request, _CONTINUE)
            return
        once = _Once(partial(self._answer, request))
        try:
            services.desk.take(request.params, once)
        except Exception as e:
            log.error("the htlc_accepted hook failed: %s", describe(e))
            once(_CONTINUE)

    def _hook(self, request: Request) -> None:
        """Answer `continue`, always and once: when the intent is on disk, or when its time is up."""
        once = partial(_Once(partial(self._answer, request)), _CONTINUE)
        try:
            slot = _slot_of(request.params.get("payment"))
            if slot is None or self._services is None:
                once()
                return
            preimage = bytes.fromhex(request.params["payment"]["preimage"])
            self._services.desk.note_settling(hashlib.sha256(preimage).digest())
            self._services.timer.after(HOOK_DEADLINE_S, once)
            self._services.payments.intend(slot).add_done_callback(lambda _: self._intended(once))
        except Exception as e:
            log.error("the invoice_payment hook failed: %s", describe(e))
            once()

    @staticmethod
    def _intended(once: Callable[[], None]) -> None:
        once()
        crash.point("hook:answered")

    # --- notifications ---

    def _dispatch_notification(self, request: Request) -> None:
        handler = self._topics.get(request.method)
        if handler is None:
            return
        try:
            handler(request.params.get(request.method, request.params))
        except Exception as e:
            log.error("a notification of %s was not handled: %s", request.method, describe(e))

    def _invoice_paid(self, payment: Any) -> None:
        services, slot = self._services, _slot_of(payment)
        if services is None:
            return
        if slot is not None:
            services.looker.look(slot)
        elif (label := _label_of(payment)) is not None and offer_id_of(label) is not None:
            self._submit(self._look_offer, services, label)

    @staticmethod
    def _look_offer(services: Services, label: str) -> None:
        try:
            services.offers.look(label)
        except Exception as e:
            log.info("a payment by an offer is looked at again by reconcile: %s", describe(e))
            services.watcher.wake()

    def _block_added(self, block: Any) -> None:
        if self._services is not None:
            self._services.decisions.on_block(int(block["height"]))

    def _outgoing_changed(self, payment: Any) -> None:
        # A failure notification does not have the hash where a success has it.
        data = payment.get("data", payment) if isinstance(payment, Mapping) else {}
        payment_hash = data.get("payment_hash")
        if isinstance(payment_hash, str) and self._services is not None:
            self._submit(self._look_outgoing, self._services, payment_hash)

    def _look_outgoing(self, services: Services, payment_hash: str) -> None:
        try:
            _, quiet = services.payments.look_outgoing(payment_hash)
        except PaycodesError:
            services.watcher.wake()
        except Exception as e:
            log.error("an outgoing payment is looked at again by reconcile: %s", describe(e))
            services.watcher.wake()
        else:
            if not quiet:
                again = partial(self._submit, self._look_outgoing, services, payment_hash)
                services.timer.after(QUIET_S + 1, again)

    def _shut_down(self, _: Any) -> None:
        # Not on the loop's stack: run() goes on reading until the process ends.
        threading.Thread(target=self.stop, name="paycodes-stop").start()

    # --- life ---

    def run(self) -> None:
        """Until stdin ends: lightningd is gone, or has had enough of us. Without lightningd, say what this is."""
        # What is loaded by now stays: the collector need not look through it again and again.
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER)
        if os.environ.get("LIGHTNINGD_PLUGIN") == "1":
            self._read_requests()
        else:
            self.print_usage()
        self.stop()

    def stop(self) -> None:
        """Bring what is under way to the disk and end the process, without waiting for threads that the network
        holds.
        """
        self._stopping.set()
        services, self._services = self._services, None
        self._why_not = "the plugin is stopping"
        if services is not None:
            services.stop()
        self._pools.stop()
        os._exit(0)


class _ProgressBar:
    """Tells the caller how far a long method is, if it wants to know: lightningd drops what nobody asked for."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._told_at = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        # lightning-cli counts from 0, and divides by what is left of a total of 1.
        if total < 2 or done < 1 or (now - self._told_at < PROGRESS_INTERVAL_S and done < total):
            return
        self._told_at = now
        self._request.progress(done - 1, total)


class _Once:
    """A callable that takes its first call only, whichever thread makes it."""

    def __init__(self, answer: Callable[[Mapping[str, str]], None]) -> None:
        self._answer = answer
        self._free = threading.Lock()

    def __call__(self, result: Mapping[str, str]) -> None:
        if self._free.acquire(blocking=False):
            self._answer(result)


def _dispatched_elsewhere(**_: Any) -> None:
    """Stands in pyln's tables for hooks and subscriptions, which `PaycodesPlugin` dispatches itself."""


def _checked(params: Any) -> tuple[str, Any]:
    """The command that `check` is about, and its parameters."""
    if isinstance(params, Mapping):
        name = params.get("command_to_check")
        given: Any = {key: value for key, value in params.items() if key != "command_to_check"}
    else:
        name, given = (params[0], params[1:]) if params else (None, [])
    if not isinstance(name, str) or name not in COMMANDS:
        raise BadParameter("command_to_check: it is not a method of this plugin")
    return name, given


def _slot_of(payment: Any) -> Slot | None:
    """The slot whose label a hook or notification names; None when it is not ours or not as expected."""
    label = _label_of(payment)
    return None if label is None else parse_label(label)


def _label_of(payment: Any) -> str | None:
    label = payment.get("label") if isinstance(payment, Mapping) else None
    return label if isinstance(label, str) else None


def _settings(options: Mapping[str, Any], directory: Path) -> Settings:
    interval = options["paycodes-reconcile-interval"]
    if not 1 <= int(interval) <= 7 * 24 * 3600:
        raise BadParameter("paycodes-reconcile-interval: give 1 to 604800 seconds")
    retention = options["paycodes-outbox-retention"]
    if not 0 <= int(retention) <= 100 * 365 * 24 * 3600:
        raise BadParameter("paycodes-outbox-retention: give a number of seconds, or 0 to keep events for ever")
    return Settings(
        database=directory / (options["paycodes-db"] or _DATABASE),
        reconcile_interval_s=int(interval),
        outbox_retention_s=int(retention),
        http=read_settings(options),
    )
