"""Other settings for a running daemon: taken live, refused whole, tried and undone. Real daemons, real files.

n1 - n2 - n3, all three forwarders; n2's links are what is cut.
"""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.mesh import arcs, dmssd, neighbour_states, only_line, programmed, routes_become, until

pytestmark = pytest.mark.netns

NAME = f"ku{os.getpid()}"
TO_N3 = '\n[[links]]\nmatch = "to-n3"\nmetric = 1\n'


@pytest.fixture(scope="module")
def line() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("line:3", NAME, tp=1) as lab:
        yield lab


@pytest.fixture
def lab(line: Lab) -> Iterator[Lab]:
    """The line at rest, by the files that it was made with; put back afterwards."""
    before = {node: config(line, node).read_text() for node in line.nodes}
    until(lambda: mesh.all_up(line), "every node sees every other up")
    routes_become(line, arcs(line))
    yield line
    for node, text in before.items():
        config(line, node).write_text(text)
    line.start_daemons()
    line.wait_ready()
    for node in line.nodes:
        if line.client(node).get("trials"):
            line.client(node).post("undo")
        line.client(node).post("reload")
    routes_become(line, arcs(line))


def config(lab: Lab, node: str) -> Path:
    return lab.log(node).parent / "config.toml"


def cut_off(lab: Lab) -> None:
    """Leave n2 without its link to n3: n3 is then cut off from the rest."""
    file = config(lab, "n2")
    text = file.read_text()
    assert TO_N3 in text
    file.write_text(text.replace(TO_N3, ""))


def pid_of(lab: Lab, node: str) -> int:
    return lab.running()[node]


def test_another_metric_is_taken_without_a_restart_and_without_losing_the_adjacency(lab: Lab) -> None:
    before = pid_of(lab, "n2")
    said = lab.log("n3").read_text().count("neighbour.down")
    file = config(lab, "n2")
    file.write_text(file.read_text().replace(TO_N3, TO_N3.replace("metric = 1", "metric = 7")))
    shown = dmssd(lab, "n2", "config", "diff")
    assert only_line(shown.stdout) == 'links["to-n3"].metric: 1 -> 7  [now]'
    done = dmssd(lab, "n2", "config", "reload")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 setting changed")
    until(lambda: {"from": "n2", "to": "n3", "metric": 7}.items() <= edge(lab, "n1", "n2", "n3").items(), "n1 knows")
    assert pid_of(lab, "n2") == before
    assert lab.log("n3").read_text().count("neighbour.down") == said
    assert dmssd(lab, "n2", "config", "diff").stdout == "nothing differs\n"


def edge(lab: Lab, asked: str, near: str, far: str) -> dict[str, object]:
    edges = lab.client(asked).get("network/global")["edges"]
    return next((one for one in edges if (one["from"], one["to"]) == (near, far)), {})


def test_a_dry_run_tells_what_would_change_and_changes_nothing(lab: Lab) -> None:
    cut_off(lab)
    done = dmssd(lab, "n2", "config", "reload", "--dry-run")
    order, *gone, verdict = done.stdout.splitlines()
    assert order == "links: [to-n1, to-n3] -> [to-n1]  [now]"
    assert 'links["to-n3"].metric: 1 -> not set  [now]' in gone
    assert all(line.startswith('links["to-n3"].') for line in gone)
    assert verdict == f"{1 + len(gone)} settings would change; nothing was changed"
    assert neighbour_states(lab, "n2", "n3") == ["up"]
    assert lab.client("n2").get("trials") == []


@pytest.mark.parametrize("by", ["command", "SIGHUP"])
def test_a_file_that_cannot_be_used_changes_nothing_and_is_told(lab: Lab, by: str) -> None:
    cut_off(lab)
    file = config(lab, "n2")
    file.write_text(file.read_text() + "[liveness]\necho_misses = 0\n")
    if by == "command":
        done = dmssd(lab, "n2", "config", "reload", "--confirm", "60s")
        assert done.returncode == 1
        told = only_line(done.stderr)
    else:
        os.kill(pid_of(lab, "n2"), signal.SIGHUP)
        until(lambda: "was not taken" in lab.log("n2").read_text(), "the daemon says so")
        told = lab.log("n2").read_text()
    assert f"{file}: liveness.echo_misses: must be an integer from 1 to 20, got 0; nothing was changed" in told
    assert neighbour_states(lab, "n2", "n3") == ["up"]
    assert lab.client("n2").get("trials") == []


def test_sighup_takes_what_the_files_hold(lab: Lab) -> None:
    file = config(lab, "n2")
    file.write_text(file.read_text() + "[liveness]\nhello_interval_ms = 700\n")
    os.kill(pid_of(lab, "n2"), signal.SIGHUP)
    until(lambda: lab.client("n2").get("config")["liveness"]["hello_interval_ms"] == 700, "it is in effect")


def test_a_change_that_cuts_a_node_off_is_undone_by_itself(lab: Lab) -> None:
    cut_off(lab)
    done = dmssd(lab, "n2", "config", "reload", "--confirm", "3s")
    assert done.stdout.splitlines()[-1] == "on trial: undone in 3 s unless you say dmssd config confirm"
    until(lambda: not programmed(lab, "n1", 4).get("n3"), "n3 is cut off")
    status = dmssd(lab, "n2", "status")
    assert "a change of config is on trial" in status.stdout
    routes_become(lab, arcs(lab))
    assert mesh.pings(lab, "n1", "n3")
    status = dmssd(lab, "n2", "status")
    assert "the configuration files hold a change that was undone" in status.stdout


def test_an_undone_change_stays_undone_over_a_restart_until_it_is_asked_for_again(lab: Lab) -> None:
    cut_off(lab)
    lab.client("n2").post("reload", {"confirm_s": 3600})
    until(lambda: neighbour_states(lab, "n2", "n3") == [], "n2 has dropped its link")
    assert dmssd(lab, "n2", "config", "undo").stdout == "undone: config\n"
    routes_become(lab, arcs(lab))
    lab.restart("n2")
    routes_become(lab, arcs(lab))
    assert dmssd(lab, "n2", "config", "reload").returncode == 0
    until(lambda: not programmed(lab, "n1", 4).get("n3"), "n3 is cut off, as was asked for")
    assert "undone" not in dmssd(lab, "n2", "status").stdout


def test_a_confirmed_change_stays_and_so_does_it_over_a_restart(lab: Lab) -> None:
    cut_off(lab)
    lab.client("n2").post("reload", {"confirm_s": 3600})
    assert dmssd(lab, "n2", "config", "confirm").stdout == "kept: config\n"
    assert lab.client("n2").get("trials") == []
    again = dmssd(lab, "n2", "config", "confirm")
    assert (again.returncode, "nothing is on trial" in again.stderr) == (1, True)
    lab.restart("n2")
    assert lab.client("n2").get("trials") == []
    assert [rule["match"] for rule in lab.client("n2").get("config")["links"]] == ["to-n1"]


def test_a_change_on_trial_is_undone_although_the_daemon_was_killed_and_started_meanwhile(lab: Lab) -> None:
    cut_off(lab)
    lab.client("n2").post("reload", {"confirm_s": 3})
    lab.kill("n2")
    lab.start_daemons(["n2"])
    lab.wait_ready(["n2"])
    routes_become(lab, arcs(lab))
    assert mesh.pings(lab, "n1", "n3")
    assert lab.client("n2").get("trials") == []


def test_a_trial_that_ended_while_the_daemon_was_away_is_never_begun_by(lab: Lab) -> None:
    cut_off(lab)
    lab.client("n2").post("reload", {"confirm_s": 1})
    lab.kill("n2")
    ended = time.monotonic() + 1.2
    until(lambda: time.monotonic() > ended, "the trial has ended")
    lab.start_daemons(["n2"])
    lab.wait_ready(["n2"])
    assert [rule["match"] for rule in lab.client("n2").get("config")["links"]] == ["to-n1", "to-n3"]
    routes_become(lab, arcs(lab))


def test_what_takes_a_restart_is_said_and_undone_by_one(lab: Lab) -> None:
    file = config(lab, "n3")
    file.write_text("port = 4800\n" + file.read_text())
    done = dmssd(lab, "n3", "config", "reload", "--confirm", "1h")
    assert done.stdout.splitlines()[0] == "port: 4747 -> 4800  [after a restart]"
    assert lab.client("n3").get("config")["port"] == 4747
    lab.restart("n3")
    assert lab.client("n3").get("config")["port"] == 4800  # nobody else speaks there: n3 has cut itself off
    before = pid_of(lab, "n3")
    assert dmssd(lab, "n3", "config", "undo").returncode == 0
    until(lambda: lab.client("n3").get("config")["port"] == 4747, "it went back")
    assert pid_of(lab, "n3") == before  # by itself: nobody had to start it
    routes_become(lab, arcs(lab))


def test_a_second_change_is_refused_while_one_is_on_trial(lab: Lab) -> None:
    file = config(lab, "n2")
    file.write_text(file.read_text() + "[liveness]\nhello_interval_ms = 700\n")
    lab.client("n2").post("reload", {"confirm_s": 3600})
    done = dmssd(lab, "n2", "config", "reload")
    assert done.returncode == 1
    assert "a change of config is on trial: dmssd config confirm keeps it" in done.stderr


def test_roles_are_taken_and_given_up_while_running(lab: Lab) -> None:
    file = config(lab, "n1")
    text = file.read_text()
    file.write_text(re.sub(r"roles = .*", "roles = []", text))
    lab.client("n1").post("reload")
    until(lambda: not mesh.ip_json(lab, "n1", "nexthop", "show", "proto", "201"), "nothing of ours is in the kernel")
    assert programmed(lab, "n1", 4) == {}
    assert lab.client("n1").get("roles") == []
    file.write_text(text)
    lab.client("n1").post("reload")
    routes_become(lab, arcs(lab))


def test_a_prefix_is_announced_and_withdrawn_while_running(lab: Lab) -> None:
    file = config(lab, "n3")
    text = file.read_text()
    file.write_text('announce = ["10.77.0.0/16"]\n' + text)
    lab.client("n3").post("reload")
    until(lambda: "10.77.0.0/16" in prefixes(lab, "n1"), "n1 has a route to it")
    file.write_text(text)
    lab.client("n3").post("reload")
    until(lambda: "10.77.0.0/16" not in prefixes(lab, "n1"), "the route is gone")


def prefixes(lab: Lab, node: str) -> list[str]:
    return [route["prefix"] for route in lab.client(node).get("routes")["routes"]]


def draining(lab: Lab, asked: str) -> list[str]:
    return [node["name"] for node in lab.client(asked).get("network/global")["nodes"] if node.get("draining")]


def test_a_drain_and_a_metric_on_trial_are_undone_by_themselves_at_both_ends(lab: Lab) -> None:
    shown = dmssd(lab, "n2", "network", "set", "n2-n3", "metric", "50", "--dry-run")
    assert shown.stdout.splitlines()[0] == "metric n2-n3: as configured -> 50  [now]"
    assert edge(lab, "n1", "n2", "n3")["metric"] == 1
    assert dmssd(lab, "n2", "network", "set", "n2-n3", "metric", "50", "--confirm", "1h").returncode == 0
    done = dmssd(lab, "n2", "node", "drain", "--confirm", "2s")
    assert done.stdout.splitlines()[0] == "draining: False -> True  [now]"
    until(lambda: draining(lab, "n1") == [], "n2 has stopped draining by itself")
    assert [trial["subject"] for trial in lab.client("n2").get("trials")] == ["metric n2-n3"]
    lab.restart("n2")
    lab.client("n2").post("undo")  # at once after a start, before n3 can be told: it is told when it can be
    for near, far in (("n2", "n3"), ("n3", "n2")):
        until(lambda near=near, far=far: edge(lab, "n1", near, far).get("metric") == 1, f"{near}-{far} costs 1 again")


def test_a_metric_of_others_is_not_tried_from_afar(lab: Lab) -> None:
    done = dmssd(lab, "n1", "network", "set", "n2-n3", "metric", "50", "--confirm", "60s")
    assert (done.returncode, "only an end of n2-n3" in done.stderr) == (1, True)
    assert edge(lab, "n1", "n2", "n3")["metric"] == 1


@pytest.mark.parametrize("text", ["", "prot = 1\n"], ids=["good", "bad"])
def test_the_service_manager_is_told_when_a_reload_begins_and_ends(lab: Lab, tmp_path: Path, text: str) -> None:
    lab.stop_daemons(["n3"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(mesh.SECONDS)
        run = [sys.executable, "-m", "dmssd", "run", "--config", str(config(lab, "n3"))]
        argv = lab.exec_argv("n3", ["env", f"NOTIFY_SOCKET={tmp_path / 'notify'}", *run])
        with lab.log("n3").open("ab") as log:
            lab.launch("n3", argv, log.fileno(), log.fileno(), config(lab, "n3").parent)
        assert manager.recv(256) == b"READY=1"
        config(lab, "n3").write_text(text + config(lab, "n3").read_text())
        os.kill(pid_of(lab, "n3"), signal.SIGHUP)
        assert manager.recv(256).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(256) == b"READY=1"


def test_another_address_is_taken_while_running_and_the_old_one_given_up(lab: Lab) -> None:
    file, old = config(lab, "n3"), lab.address4("n3")
    file.write_text(file.read_text().replace(f'address4 = "{old}"', 'address4 = "10.5.0.33"'))
    shown = dmssd(lab, "n3", "config", "reload")
    assert shown.stdout.splitlines()[0] == f"address4: {old} -> 10.5.0.33  [now]"
    ping = ["ping", "-n", "-q", "-c", "1", "-W", "1"]
    until(lambda: lab.exec("n1", [*ping, "10.5.0.33"]).returncode == 0, "n3 answers under the new address")
    held = [address["local"] for link in mesh.ip_json(lab, "n3", "addr") for address in link["addr_info"]]
    assert ("10.5.0.33" in held, old in held) == (True, False)
    assert lab.exec("n1", [*ping, old]).returncode != 0
