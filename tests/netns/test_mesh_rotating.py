"""Sessions replaced while packets flow: real daemons on a ring.

n1 (founder) - n2 - n3 - n4 - n5 - n6 - n1
"""

import os
from collections.abc import Iterator

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.outage import Flow
from tests.netns import mesh
from tests.netns.mesh import dmssd, only_line, until

pytestmark = pytest.mark.netns

NAME = f"kr{os.getpid()}"
NOTICED = ("neighbour.down", "member.suspect", "member.down", "session.failed")
PORT = 40_127


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with mesh.at_rest_from_the_start("ring:6", NAME) as lab:
        yield lab


def sessions(lab: Lab, node: str) -> dict[str, int]:
    found: dict[str, int] = lab.client(node).get("status")["sessions"]
    return found


def rotated(lab: Lab, epoch: int) -> bool:
    shown = [sessions(lab, node) for node in lab.nodes]
    return all(each["epoch"] == epoch and each["with_members"] and not each["behind"] for each in shown)


def noticed(lab: Lab) -> list[str]:
    lines = [line for node in lab.nodes for line in lab.log(node).read_text().splitlines()]
    return [line for line in lines if any(kind in line for kind in NOTICED)]


def test_all_sessions_are_replaced_while_a_flow_runs_and_not_a_datagram_of_it_is_lost(lab: Lab) -> None:
    before, rejected = noticed(lab), {node: mesh.rejected(lab, node) for node in lab.nodes}
    with Flow(lab, "n2", "n5", PORT) as flow:
        until(lambda: flow.received() > 100, "the flow arrives")
        done = dmssd(lab, "n1", "rotate", "sessions", "--lifetime", "6h")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("epoch 1: ")
        until(lambda: any(sessions(lab, node)["behind"] for node in lab.nodes), "some session is of before")
        until(lambda: rotated(lab, 1), "every node has replaced all its sessions")
    assert flow.outage is not None
    assert (flow.outage.lost, flow.outage.gap_ns is None) == (0, False), flow.outage
    assert noticed(lab) == before
    assert {node: mesh.rejected(lab, node) for node in lab.nodes} == rejected
    assert {sessions(lab, node)["lifetime_s"] for node in lab.nodes} == {6 * 3_600}
    assert "at epoch 1; replaced after 6 h" in dmssd(lab, "n4", "status").stdout


def test_a_node_that_was_away_goes_by_the_new_epoch_when_it_is_back_and_so_does_one_that_restarted(lab: Lab) -> None:
    lab.kill("n4")
    until(lambda: mesh.states(lab, "n1")["n4"] == "down", "n4 is missed")
    assert dmssd(lab, "n1", "rotate", "sessions").returncode == 0
    lab.restart("n4")
    lab.restart("n1")
    until(lambda: mesh.all_up(lab), "all are up")
    until(lambda: rotated(lab, 2), "every node has replaced all its sessions")
    assert {sessions(lab, node)["lifetime_s"] for node in lab.nodes} == {6 * 3_600}, "as before"


def test_one_who_is_no_admin_does_not_rotate(lab: Lab) -> None:
    admins = [row["name"] for row in lab.client("n1").get("members") if row["admin"]]
    ordinary = next(node for node in lab.nodes if node not in admins)
    done = dmssd(lab, ordinary, "rotate", "sessions")
    assert done.returncode == 1
    assert "admin capability" in only_line(done.stderr)
    assert dmssd(lab, "n1", "rotate", "sessions", "--lifetime", "59s").returncode == 2
