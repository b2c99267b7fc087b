"""Machines get another key while packets flow through them: real daemons on a ring.

n1 (founder) - n2 - n3 - n4 - n5 - n6 - n1
"""

import contextlib
import json
import os
from collections.abc import Iterator

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.outage import Flow
from tests.netns import mesh
from tests.netns.mesh import dmssd, until

pytestmark = pytest.mark.netns

NAME = f"kk{os.getpid()}"
PORTS = range(40_127, 40_131)
"""Four flows, so that both ways around the ring carry some."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with mesh.at_rest_from_the_start("ring:6", NAME) as lab:
        yield lab


def ids(lab: Lab, seen_by: str) -> dict[str, str]:
    return {member["name"]: member["node"] for member in lab.client(seen_by).get("members")}


def rotated(lab: Lab, node: str) -> tuple[str, str]:
    """The id before and the id now."""
    done = dmssd(lab, node, "rotate", "key", "--output", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    until(
        lambda: all(ids(lab, each)[node] == answer["node"] for each in lab.nodes) and mesh.all_up(lab),
        f"everybody knows {node} under its new id alone",
    )
    return answer["before"], answer["node"]


def admins(lab: Lab) -> set[str]:
    return {row["name"] for row in lab.client("n1").get("members") if row["admin"]}


def resigned(lab: Lab, before: str) -> bool:
    """Whether every node has heard the resignation of an old id."""
    return all(
        any("member.resigned" in line and before in line for line in lab.log(node).read_text().splitlines())
        for node in lab.nodes
    )


@pytest.mark.parametrize("node", ["n3", "n1", "n2", "n5"])
def test_a_machine_on_the_way_or_at_an_end_changes_its_key_and_not_a_datagram_is_lost(lab: Lab, node: str) -> None:
    before = {"ids": ids(lab, "n4"), "admins": admins(lab), "addresses": lab.client(node).get("addresses")}
    with contextlib.ExitStack() as stack:
        flows = [stack.enter_context(Flow(lab, "n2", "n5", 6_000 + index, port)) for index, port in enumerate(PORTS)]
        until(lambda: flows[0].received() > 400, "the flows arrive")
        old, new = rotated(lab, node)
        until(lambda: resigned(lab, old), "everybody knows that the old id has resigned")
    assert [(flow.outage.lost, flow.outage.gap_ns is None) for flow in flows if flow.outage] == [(0, False)] * len(
        flows
    )
    assert old == before["ids"][node] != new
    assert admins(lab) == before["admins"]
    blocks = [(row["block"], row["holds"]) for row in before["addresses"] if row["name"] == node]
    after = [(row["block"], row["holds"]) for row in lab.client(node).get("addresses") if row["node"] == new]
    assert after == blocks
    assert {each["state"] for each in lab.client(node).get("status")["neighbours"]} == {"up"}


def test_whoever_starts_with_a_copy_of_the_old_disk_is_no_member(lab: Lab) -> None:
    state = lab.log("n4").parent / "state"
    stolen = {path.name: path.read_bytes() for path in state.iterdir() if path.is_file()}
    old, _ = rotated(lab, "n4")
    until(lambda: resigned(lab, old), "everybody knows that the old id has resigned")
    lab.kill("n4")
    for path in list(state.iterdir()):
        path.unlink()
    for name, content in stolen.items():
        (state / name).write_bytes(content)
    lab.start_daemons(["n4"])
    lab.wait_ready(["n4"])
    until(
        lambda: any("expelled from the mesh" in reason for reason in lab.client("n4").get("status")["reasons"]),
        "the old key is told that it is not a member's any more",
    )
    others = [lab.client(node).get("members") for node in lab.nodes if node != "n4"]
    assert not any(row["node"] == old and row["state"] == "up" for rows in others for row in rows)
