"""``dmssd lab`` as typed, on a real lab without daemons."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from dmssd.lab import plumbing
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import all_labs, take_down

pytestmark = pytest.mark.netns

NAME = f"c{os.getpid()}"


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    if os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("ip") is None:
        why = "needs root, ip and nft"
        if os.environ.get("DMSSD_REQUIRE_NETNS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    yield
    take_down(NAME)


def dmssd(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "dmssd", *arguments], capture_output=True, text=True, timeout=60)


def built(shape: str = "line:3") -> Lab:
    lab = Lab.build(shape, NAME)
    lab.release()
    return lab


def test_status_shows_nodes_links_and_faults_as_json() -> None:
    built().drop("n1", "n2", one_way=True)
    report = json.loads(dmssd("lab", "status", NAME, "-o", "json").stdout)
    assert [node["name"] for node in report["nodes"]] == ["n1", "n2", "n3"]
    assert report["nodes"][1]["neighbours"] == ["n1", "n3"]
    assert [node["pid"] for node in report["nodes"]] == [None] * 3
    assert report["links"][0] == {
        "from": "n1",
        "from_interface": "to-n2",
        "to": "n2",
        "to_interface": "to-n1",
        "metric": 1,
        "metric_back": 1,
    }
    assert [fault["text"] for fault in report["faults"]] == ["drop n1 n2 --one-way"]


def test_exec_runs_in_the_nodes_network_and_passes_on_its_exit_code() -> None:
    lab = built()
    shown = dmssd("lab", "exec", "--name", NAME, "n2", "--", "ip", "-o", "link")
    assert shown.stdout == lab.exec("n2", ["ip", "-o", "link"]).stdout
    ended = dmssd("lab", "exec", "--name", NAME, "n2", "--", "sh", "-c", "echo $DMSSD_SOCKET; exit 7")
    assert (ended.returncode, ended.stdout.strip()) == (7, str(lab.socket("n2")))


def test_faults_are_made_and_healed_by_command() -> None:
    lab = built()
    for fault in (["drop", "n1", "n2"], ["drop-node", "n3"], ["link-down", "n2", "n3"], ["loss", "30", "n2"]):
        assert dmssd("lab", "fault", fault[0], "--name", NAME, *fault[1:]).returncode == 0
    made = [str(fault) for fault in lab.state().faults]
    assert made == ["drop n1 n2", "drop-node n3", "link-down n2 n3", "loss 30 n2"]
    assert "to-n3" in lab.exec("n2", ["nft", "list", "ruleset"]).stdout
    assert dmssd("lab", "fault", "heal", "--name", NAME).stdout.count("healed: ") == 4
    assert lab.state().faults == []
    assert lab.exec("n2", ["nft", "list", "ruleset"]).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lab", "exec", "--name", NAME, "n9", "--", "true"], "has no node 'n9'"),
        (["lab", "fault", "drop", "--name", NAME, "n1", "n3"], "no link joins n1 and n3"),
        (["lab", "fault", "kill", "--name", NAME, "n1"], "dmssd lab fault restart n1"),
        (["lab", "up", "line:2", "--name", NAME], f"dmssd lab down {NAME}"),
        (["lab", "up", "hexagon"], "is no shape and no file"),
        (["lab", "status", "no_such"], "dmssd lab up SHAPE --name no_such"),
    ],
)
def test_what_cannot_be_done_is_one_line_that_says_what_to_do(arguments: list[str], says: str) -> None:
    built()
    done = dmssd(*arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_down_takes_the_lab_away_and_says_so_once() -> None:
    built()
    assert dmssd("lab", "down", NAME).stdout == f"lab {NAME} is down\n"
    assert plumbing.existing(NAME) == []
    again = dmssd("lab", "down", NAME)
    assert (again.returncode, again.stdout) == (0, f"there is no lab {NAME}; nothing to do\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_lab_is_held_takes_it_down(number: signal.Signals) -> None:
    script = f"""
        import time
        from dmssd.lab.interrupts import interruptible
        from dmssd.lab.lab import Lab
        from dmssd.lab.lifecycle import cleaned
        with interruptible(), cleaned({NAME!r}):
            lab = Lab.build("ring:4", {NAME!r})
            print("ready", flush=True)
            time.sleep(60)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(number)
    child.send_signal(number)
    assert child.wait(20) == 128 + number
    assert NAME not in all_labs()


def test_without_root_up_says_that_it_needs_root() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-m", "dmssd", "lab", "up", "line:2"],
        capture_output=True,
        text=True,
    )
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("this tree cannot be read by another user")
    assert done.returncode == 1
    assert "needs root" in done.stderr
