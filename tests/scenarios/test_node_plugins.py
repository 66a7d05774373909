"""How a node treats the plugin it runs, on every kind of node."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from network import KINDS, Network, StartFailed, open_network, why_unavailable
from network.background import in_background
from network.daemon import poll_until
from pyln.client import RpcError
from recording import Recorded, connected, error_of, parked


def test_manifest_and_init_calls(shared_recorded: Recorded) -> None:
    """What a plugin is told when it starts, and where it runs."""
    node = shared_recorded.node
    [manifest] = shared_recorded.wait_for("call", "getmanifest")[:1]
    [init] = shared_recorded.wait_for("call", "init")[:1]
    configuration = init["configuration"]

    assert manifest == {"allow-deprecated-apis": False}
    assert init["options"] == {"recorder-word": "none", "recorder-shutdown": False}
    assert configuration["lightning-dir"] == str(node.network_dir) == init["cwd"]
    assert configuration["rpc-file"] == "lightning-rpc"
    assert configuration["startup"] is True
    assert configuration["network"] == "regtest"
    assert configuration["feature_set"]["invoice"] == "02000002024100"
    assert init["environment"] == {"LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": node.call("getinfo")["version"]}


def test_parameters_reach_a_method_as_they_were_given(shared_recorded: Recorded) -> None:
    """A list stays a list, an object an object, and the plugin sees an id with the caller's in it."""
    node = shared_recorded.node
    by_position = node.call("recorder-echo", 1, "two", None)
    by_name = node.call("recorder-echo", a={"x": [1.5, None]}, b=True)

    assert by_position["params"] == [1, "two", None]
    assert by_name["params"] == {"a": {"x": [1.5, None]}, "b": True}
    assert "/cln:recorder-echo#" in by_name["id"]


def test_error_of_a_method_reaches_the_caller_whole(shared_recorded: Recorded) -> None:
    """Code, message and data."""
    assert error_of(shared_recorded.node, "recorder-fail") == {
        "code": 3101,
        "message": "unknown paycode",
        "data": {"paycode": "x"},
    }


def test_unknown_method(shared_recorded: Recorded) -> None:
    """-32601."""
    assert error_of(shared_recorded.node, "nonesuch") == {
        "code": -32601,
        "message": "Unknown command 'nonesuch'",
    }


def test_check_of_a_plugin_that_cannot(shared_recorded: Recorded) -> None:
    """Everything passes, and the log says so."""
    node = shared_recorded.node

    assert node.call("check", command_to_check="recorder-fail") == {"command_to_check": "recorder-fail"}
    node.wait_for_log("UNUSUAL.*Plugin does not support check command for recorder-fail")


def test_check_of_a_plugin_that_can(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin gets the parameters of check as they are, and its answer is the answer."""
    node = recorded.node
    node.stop()
    monkeypatch.setenv("RECORDER_CANCHECK", "1")
    node.start()
    good = node.call("check", command_to_check="recorder-fail", a=1)
    bad = error_of(node, "check", command_to_check="recorder-fail", bad=1)

    assert good == {
        "command_to_check": "recorder-fail",
        "params": {"command_to_check": "recorder-fail", "a": 1},
    }
    assert bad == {"code": -32602, "message": "bad: should not be there"}


def test_progress_reaches_who_asked_for_it(shared_recorded: Recorded) -> None:
    """A message from the handler comes before the answer, under the caller's id, once notifications are on."""
    enable = {"jsonrpc": "2.0", "id": "on", "method": "notifications", "params": {"enable": True}}
    ask = {"jsonrpc": "2.0", "id": "me", "method": "recorder-progress", "params": {}}
    with connected(shared_recorded.node) as (send, receive):
        send(json.dumps(ask))
        quiet = next(receive)
        send(json.dumps(enable))
        enabled = next(receive)
        send(json.dumps(ask))
        message, answer = next(receive), next(receive)

    assert quiet["result"] == {"done": True}
    assert enabled["result"] == {}
    assert message["method"] == "message"
    assert message["params"] == {"id": "me", "level": "info", "message": "half way"}
    assert answer["id"] == "me"


def test_custom_notification_names_its_origin(shared_recorded: Recorded, unique: str) -> None:
    """Announced topics reach subscribers, others do not."""
    node = shared_recorded.node
    node.call(
        "recorder-emit",
        what=[
            {"method": "recorder_unknown", "params": {"word": unique}},
            {"method": "recorder_custom", "params": {"word": unique}},
        ],
    )
    [noted] = shared_recorded.wait_for("notification", "recorder_custom", unique)

    assert noted == {
        "jsonrpc": "2.0",
        "method": "recorder_custom",
        "origin": "recorder.py",
        "params": {"word": unique},
    }
    node.wait_for_log('UNUSUAL.*topic "recorder_unknown" it hasn\'t declared')


@pytest.mark.parametrize(
    ("level", "printed"),
    [("debug", "DEBUG"), ("info", "INFO"), ("warn", "UNUSUAL"), ("error", r"\*\*BROKEN\*\*")],
)
def test_log_levels(shared_recorded: Recorded, unique: str, level: str, printed: str) -> None:
    """An error of a plugin is BROKEN in the log; every line is a line."""
    params = {"level": level, "message": f"one {unique}\ntwo {unique}"}
    shared_recorded.node.call("recorder-emit", what=[{"method": "log", "params": params}])

    for word in ("one", "two"):
        shared_recorded.node.wait_for_log(rf"{printed} +plugin-recorder.py: {word} {unique}")


def test_call_in_flight_gets_minus_4_when_the_plugin_dies(recorded: Recorded) -> None:
    """And the method is gone until the plugin is started again."""
    node = recorded.node
    with parked(node, "recorder-hang", []) as answer:
        node.kill_plugin()
        error = answer()["error"]
    gone = error_of(node, "recorder-echo")
    node.start_plugin()

    assert error == {"code": -4, "message": "Plugin terminated before replying to RPC call."}
    assert gone["code"] == -32601
    assert node.call("recorder-echo", 1)["params"] == [1]


def test_plugin_stop_kills_at_once(recorded: Recorded) -> None:
    """Without a subscription to shutdown; a call in flight gets -4."""
    node = recorded.node
    with parked(node, "recorder-hang", []) as answer:
        stopped = node.call("plugin", "stop", "recorder.py")
        error = answer()["error"]

    assert stopped == {"command": "stop", "result": "Successfully stopped recorder.py."}
    assert error["code"] == -4
    assert error_of(node, "plugin", "stop", "recorder.py") == {
        "code": -32602,
        "message": "Could not find plugin recorder.py",
    }


def test_plugin_start_takes_options_by_name(recorded: Recorded) -> None:
    """Typed as the plugin declares them; startup is false."""
    node = recorded.node
    node.stop_plugin()
    started = node.call(
        "plugin",
        subcommand="start",
        plugin=str(node.network_dir.parents[1] / "recorder.py"),
        **{"recorder-word": "w", "recorder-number": 5, "recorder-flag": True, "recorder-shutdown": True},
    )
    init = recorded.wait_for("call", "init", count=2)[1]

    assert started["command"] == "start"
    assert started["plugins"][-1]["active"] is True
    assert init["options"] == {
        "recorder-word": "w",
        "recorder-number": 5,
        "recorder-flag": True,
        "recorder-shutdown": True,
    }
    assert init["configuration"]["startup"] is False


def test_plugin_start_refuses_what_it_does_not_know(recorded: Recorded, tmp_path: Path) -> None:
    """-3 for an unknown option, -32602 for a file that cannot be run or runs already."""
    node = recorded.node
    path = str(tmp_path / "recorder.py")
    twice = error_of(node, "plugin", subcommand="start", plugin=path)
    node.stop_plugin()
    unknown = error_of(node, "plugin", subcommand="start", plugin=path, nonsense=1)
    not_there = error_of(node, "plugin", subcommand="start", plugin=str(tmp_path / "none.py"))

    assert twice["code"] == -32602
    assert twice["message"].startswith(f"{path}: ")
    assert unknown == {"code": -3, "message": f"{path}: unknown parameter nonsense"}
    assert not_there["code"] == -32602
    assert "is not executable: No such file or directory" in not_there["message"]


def test_plugin_that_subscribes_is_told_of_shutdown(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """By plugin stop and by stop; it ends by itself, and RPC works meanwhile."""
    node = recorded.node
    node.stop()
    monkeypatch.setenv("RECORDER_SHUTDOWN", "1")
    node.start()
    stopped = node.call("plugin", "stop", "recorder.py")
    told = recorded.wait_for("notification", "shutdown")
    node.start_plugin()
    node.stop()
    told_again = recorded.wait_for("notification", "shutdown", count=2)

    assert stopped["result"] == "Successfully stopped recorder.py."
    assert told[0] == told_again[1] == {"jsonrpc": "2.0", "method": "shutdown", "params": {"shutdown": {}}}


def test_unknown_option_keeps_the_node_from_starting(recorded: Recorded) -> None:
    """An option that no plugin declares is an error, not a surprise later."""
    node = recorded.node
    node.stop()
    with pytest.raises(StartFailed, match="recorder-nonsense"):
        node.start(recorder_nonsense="x")
    node.start(recorder_nonsense=None, recorder_word="fine", recorder_flag=True)
    init = recorded.wait_for("call", "init", count=2)[-1]

    assert init["options"]["recorder-word"] == "fine"
    assert init["options"]["recorder-flag"] is True


def test_option_of_the_wrong_type_keeps_the_node_from_starting(recorded: Recorded) -> None:
    """The node looks before the plugin does, and says which one."""
    node = recorded.node
    node.stop()
    with pytest.raises(StartFailed, match="'many' is not a number"):
        node.start(recorder_number="many")
    node.start(recorder_number=5)
    init = recorded.wait_for("call", "init", count=2)[-1]

    assert init["options"]["recorder-number"] == 5


_ANSWER = """#!{python}
import json, os, sys, time
def answer(result):
    request = json.loads(os.read(0, 1 << 20))
    print(json.dumps({{"jsonrpc": "2.0", "id": request["id"], "result": result}}), flush=True)
"""
_MANIFEST = 'answer({"rpcmethods": [], "options": []})\n'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit(1)", "exited before replying to getmanifest"),
        ("answer({})\ntime.sleep(60)", '"result.options" was not found in the manifest'),
        ('answer({"options": []})\ntime.sleep(60)', '"result.rpcmethods" missing'),
        (_MANIFEST + "os.read(0, 1)\nsys.exit(1)", "exited before replying to init"),
        (_MANIFEST + 'answer({"disable": "no use"})\ntime.sleep(60)', "disabled itself at init: no use"),
    ],
    ids=["dies", "no-options", "no-methods", "dies-in-init", "disables-itself"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_node_starts_without_a_plugin_that_does_not(kind: str, body: str, reason: str, tmp_path: Path) -> None:
    """The log says why, and that is all: a broken plugin keeps nobody from being paid."""
    if unavailable := why_unavailable(kind):
        pytest.skip(f"{kind}: {unavailable}")
    plugin = tmp_path / "broken.py"
    plugin.write_text(_ANSWER.format(python=sys.executable) + body)
    plugin.chmod(0o755)
    with open_network(kind, tmp_path, plugin) as network:
        listed = network.merchant.call("plugin", "list")["plugins"]
        log = network.merchant.log()

    assert str(plugin) not in [entry["name"] for entry in listed]
    assert f"plugin-broken.py: Killing plugin: {reason}" in log


def test_death_of_the_plugin_leaves_the_node_alone(recorded: Recorded) -> None:
    """It is no important-plugin: invoices go on."""
    recorded.node.kill_plugin()

    assert recorded.node.call("invoice", 1000, "alone", "d")["created_index"] == 1


def test_stop_answers_and_ends(recorded: Recorded) -> None:
    """The caller of stop gets an answer, after which the process goes."""
    node = recorded.node
    answer = node.call("stop")
    node.wait_for_exit()

    assert answer == {"result": "Shutdown complete"}
    assert not node.is_running()


def test_two_callers_of_one_plugin_do_not_mix(shared_recorded: Recorded) -> None:
    """Answers find their callers by id."""
    calls = [in_background(lambda i=i: shared_recorded.node.call("recorder-echo", i)) for i in range(20)]

    assert [call.result(15)["params"] for call in calls] == [[i] for i in range(20)]


def test_plugin_list_names_the_plugin(shared_recorded: Recorded) -> None:
    """By path, active and dynamic."""
    network: Network = shared_recorded.network
    entries = network.merchant.call("plugin", "list")["plugins"]
    [mine] = [entry for entry in entries if entry["name"].endswith("/recorder.py")]

    assert mine["active"] is True
    assert mine["dynamic"] is True
    poll_until(lambda: network.merchant.plugin_pid() > 0, 5.0, "the plugin has no process")
    with pytest.raises(RpcError):
        network.merchant.call("plugin", "nonsense")
