"""Real daemons whose time of day is wrong, and jumps: nothing follows from it but what people read.

n1 - n2
 |    |      n1 boots in 1970, n2 is a day ahead, n3 a day behind, n4 is right.
n4 - n3
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.mesh import Table, arcs, dmssd, routes_become, until

pytestmark = pytest.mark.netns

NAME = f"kk{os.getpid()}"
DAY = 86_400
TROUBLE = ("neighbour.down", "neighbour.restarting", "member.suspect", "member.down", "session.failed", "plan.source")


@pytest.fixture(scope="module")
def ring() -> Iterator[Lab]:
    """Founded and joined while every clock is wrong."""
    mesh.require_lab()
    take_down(NAME)
    with Lab.build("ring:4", NAME, tp=1) as lab:
        for node, seconds in (("n1", -round(time.time())), ("n2", DAY), ("n3", -DAY)):
            lab.shift_clock(node, seconds)
        lab.start_daemons()
        lab.wait_ready()
        lab.found()
        lab.admit_all()
        lab.wait_converged()
        yield lab


@pytest.fixture
def lab(ring: Lab) -> Lab:
    until(lambda: mesh.all_up(ring), "every node sees every other up")
    routes_become(ring, arcs(ring))
    until(lambda: mesh.at_rest(ring, mesh.REST_S), "nothing of the beginning is under way any more")
    return ring


def told(lab: Lab) -> dict[str, list[str]]:
    """What each daemon has said of trouble so far."""
    logs = {node: lab.log(node).read_text().splitlines() for node in lab.nodes}
    return {node: [line for line in lines if any(kind in line for kind in TROUBLE)] for node, lines in logs.items()}


def test_boards_with_wrong_clocks_found_a_mesh_join_it_and_forward(lab: Lab) -> None:
    mesh.everybody_pings(lab)
    assert all(dmssd(lab, node, "status").returncode == 0 for node in lab.nodes)


def event_time(lab: Lab, node: str, cause: Callable[[], object]) -> float:
    """By what time of day a node's daemon tells of something that ``cause`` makes happen."""
    command = [*lab.exec_argv(node, ["env", f"DMSSD_SOCKET={lab.socket(node)}"]), *mesh_command("event", "watch")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=mesh.REPOSITORY) as watching:
        try:
            assert watching.stdout is not None
            lines: list[dict[str, Any]] = []
            os.set_blocking(watching.stdout.fileno(), False)

            def heard() -> bool:
                cause()
                lines.extend(json.loads(line) for line in watching.stdout or ())
                return bool(lines)

            until(heard, "an event is told")
            return float(lines[0]["time_s"])
        finally:
            watching.terminate()


def mesh_command(*arguments: str) -> list[str]:
    import sys

    return [sys.executable, "-m", "dmssd", *arguments, "-o", "json"]


def test_the_clock_of_a_daemon_in_the_lab_is_really_wrong(lab: Lab) -> None:
    """Else all other tests here would hold for want of a fault."""
    for node, error_s in (("n2", DAY), ("n3", -DAY)):
        at = event_time(lab, node, lambda node=node: lab.client(node).post("reload"))
        assert abs(at - error_s - time.time()) < DAY / 24, node


@pytest.mark.parametrize("jump_s", [DAY, -DAY])
def test_a_clock_that_jumps_a_day_under_load_loses_no_packet_no_session_no_member_and_no_route(
    lab: Lab, jump_s: int
) -> None:
    before, tables = told(lab), {node: Table.read(lab, node) for node in lab.nodes}
    # 200 pings a second to and fro over the node whose clock jumps, and through its neighbours.
    pings = [
        subprocess.Popen(
            lab.exec_argv(source, ["ping", "-n", "-q", "-i", "0.005", "-c", "600", lab.address4(to)]),
            stdout=subprocess.PIPE,
            text=True,
        )
        for source, to in (("n1", "n2"), ("n2", "n3"), ("n1", "n3"), ("n2", "n4"))
    ]
    jumped = dmssd(None, "", "lab", "fault", "clock", "--name", lab.name, "n2", str(jump_s))
    assert jumped.returncode == 0, jumped.stderr
    for ping in pings:
        assert " 0% packet loss" in ping.communicate(timeout=60)[0]
    assert told(lab) == before
    assert {node: Table.read(lab, node).programmed for node in lab.nodes} == {
        node: table.programmed for node, table in tables.items()
    }
    assert mesh.rejected(lab, "n2").get("unknown session", 0) == 0


def test_a_token_is_good_for_its_time_whatever_its_issuers_clock_does(lab: Lab, tmp_path: Path) -> None:
    """Seven days ahead a token of ten minutes would have expired; a day back one of a second would not have."""
    long = str(lab.client(lab.design.founder).post("token", {"uses": 1, "ttl_s": 600})["token"])
    short = str(lab.client(lab.design.founder).post("token", {"uses": 1, "ttl_s": 1})["token"])
    expires = time.monotonic() + 1.1
    lab.shift_clock(lab.design.founder, -DAY)
    lab.shift_clock(lab.design.founder, 8 * DAY)
    lab.stop_daemons(["n4"])
    state = lab.log("n4").parent / "state"
    for file in state.iterdir():
        file.unlink()
    lab.start_daemons(["n4"])
    lab.wait_ready(["n4"])
    peer = next(admission for admission in lab.design.admissions if admission.node == "n4")
    until(lambda: time.monotonic() > expires, "the short one has expired")
    refused = dmssd(lab, "n4", "join", f"%{peer.interface}", "--token", short)
    assert (refused.returncode, "expired" in refused.stderr) == (1, True), refused.stderr
    joined = dmssd(lab, "n4", "join", f"%{peer.interface}", "--token", long)
    assert joined.returncode == 0, joined.stderr
