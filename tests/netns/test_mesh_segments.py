"""A segment that many nodes share, with real daemons: few adjacencies, its designated member lost, its links changed.

s1n1 - s1n2        eight nodes n1 .. n8 on one bridge, ``lan``; two routed sites of two, each by two links
  |      |         (the second site the same, at n3 and n4)
 n1 ... n2 ... n8
"""

import functools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from dmssd.lab.outage import Flow
from tests.netns import mesh
from tests.netns.mesh import arcs, dmssd, routes_become, until

pytestmark = pytest.mark.netns

NAME = f"sg{os.getpid()}"
LAN = "to-lan"


@pytest.fixture(scope="module")
def campus() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("segment:8+2x2", NAME, tp=2) as lab:
        yield lab


@pytest.fixture
def lab(campus: Lab) -> Iterator[Lab]:
    """Everybody up, by the routes of the whole, over one segment of two speakers; mended afterwards."""
    until(lambda: mesh.all_up(campus), "every node sees every other up")
    until(lambda: len(segment(campus, "n1").get("speakers", ())) == 2, "two nodes speak for the segment")
    routes_become(campus, arcs(campus))
    yield campus
    campus.heal()
    campus.start_daemons()
    campus.wait_ready()


def segment(lab: Lab, node: str) -> dict[str, Any]:
    """The one segment as a node sees it; empty where there is none."""
    found: list[dict[str, Any]] = lab.client(node).get("network/global")["segments"]
    return found[0] if found else {}


def adjacencies(lab: Lab, node: str, interface: str = LAN) -> list[str]:
    """With whom a node is adjacent on an interface."""
    rows = lab.client(node).get("status")["neighbours"]
    return sorted(row["name"] for row in rows if row["interface"] == interface and row["state"] == "up")


def adjacent_to(lab: Lab, node: str, others: set[str]) -> bool:
    return set(adjacencies(lab, node)) == others


def on_lan(lab: Lab) -> list[str]:
    return [link.a for link in lab.design.links if link.b == "lan"]


def test_all_are_one_segment_of_which_only_the_speakers_are_adjacent_to_everyone(lab: Lab) -> None:
    members = on_lan(lab)
    seen = segment(lab, "s2n2")
    assert seen["members"] == sorted(members)
    for node in members:
        expected = set(members) if node in seen["speakers"] else set(seen["speakers"])
        claim = functools.partial(adjacent_to, lab, node, expected - {node})
        until(claim, f"{node} is adjacent to {expected}")
    edges = lab.client("n1").get("network/global")["edges"]
    assert len([edge for edge in edges if edge["to"] == seen["name"]]) == len(members)
    mesh.everybody_pings(lab)
    assert "1 segment" in dmssd(lab, "n1", "network", "global").stdout


def test_the_designated_member_lost_no_pair_of_others_on_the_segment_loses_more_than_a_packet(lab: Lab) -> None:
    designated, backup = segment(lab, "n1")["speakers"]
    others = [node for node in on_lan(lab) if node not in (designated, backup)]
    source, destination = others[-2:]
    with Flow(lab, source, destination, 6000) as flow:
        until(lambda: flow.received() > 0, "the flow arrives")
        lab.drop_node(designated)
        until(lambda: segment(lab, source).get("designated") == backup, "the backup is designated")
        until(lambda: len(segment(lab, source)["speakers"]) == 2, "another one speaks beside it")
        until(lambda: designated not in segment(lab, source)["members"], "the lost one is off the segment")
    assert flow.outage is not None
    assert (flow.outage.gap_ns or 0) < 3_000_000_000, "ten times one detection"
    lab.heal()
    until(lambda: designated in segment(lab, source)["members"], "it is back on the segment")
    # Until its new LSA is there the old one counts, with the rank that it had.
    until(lambda: segment(lab, source)["designated"] == backup, "it displaces nobody")


def test_the_designated_members_daemon_killed_nothing_moves_and_it_keeps_its_seat(lab: Lab) -> None:
    # What changes shortly before a daemon is missed counts as if after: then its neighbours give it up.
    until(lambda: mesh.at_rest(lab, 6), "nothing has changed for a while")
    before = segment(lab, "n1")["speakers"]
    observer = next(node for node in on_lan(lab) if node not in before)
    table = mesh.programmed(lab, observer, 4)
    lab.kill(before[0])
    until(lambda: "restarting" in mesh.neighbour_states(lab, observer, before[0]), "its daemon is missed")
    assert mesh.programmed(lab, observer, 4) == table
    assert mesh.pings(lab, observer, before[0])
    lab.start_daemons([before[0]])
    lab.wait_ready([before[0]])
    until(lambda: mesh.neighbour_states(lab, observer, before[0]) == ["up"], "it is back")
    assert mesh.programmed(lab, observer, 4) == table
    until(lambda: set(segment(lab, observer)["speakers"]) == set(before), "the same two speak")
