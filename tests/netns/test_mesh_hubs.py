"""What joins the same nodes twice, and a disk that was lost.

lan1 ── a, b, c          two bridges, each with the same three nodes: every pair has a way over either
lan2 ── a, b, c
        a ══ d           two links of equal cost between one pair
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmssd.driver.daemon import IDENTITY_KEY
from dmssd.lab import design, plumbing
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from dmssd.secure import MEMBERSHIP_KEY
from routing.linkstate import SEQUENCE_KEY
from tests.netns import mesh
from tests.netns.mesh import Arc, arcs, routes_become, until

pytestmark = pytest.mark.netns

NAME = f"kh{os.getpid()}"
PLACES = ("a", "b", "c", "d", "lan1", "lan2")
CABLES = [*((node, hub) for hub in ("lan1", "lan2") for node in "abc"), ("a", "d"), ("a", "d")]


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up(str(_gml(tmp_path_factory.mktemp("hubs"))), NAME, tp=1) as lab:
        yield lab


def _gml(directory: Path) -> Path:
    nodes = "".join(
        f'node [ id {number} label "{name}"{" segment 1" if name.startswith("lan") else ""} ]\n'
        for number, name in enumerate(PLACES)
    )
    edges = "".join(
        f"edge [ source {PLACES.index(a)} target {PLACES.index(b)} key {key} ]\n" for key, (a, b) in enumerate(CABLES)
    )
    file = directory / "hubs.gml"
    file.write_text(f"graph [\nmultigraph 1\n{nodes}{edges}]\n")
    return file


@pytest.fixture
def lab(hubs: Lab) -> Iterator[Lab]:
    """Everybody up by the routes of the whole; mended afterwards."""
    until(lambda: mesh.all_up(hubs), "every node sees every other up")
    routes_become(hubs, arcs(hubs))
    yield hubs
    hubs.heal()
    for node in hubs.nodes:
        for interface in mesh.far_ends(hubs, node):
            plumbing.set_link(hubs.design.node(node).namespace, interface, up=True)
    hubs.start_daemons()
    hubs.wait_ready()


def without(lab: Lab, node: str, interface: str) -> list[Arc]:
    """All arcs less those that begin or end at one port."""
    ends = mesh.far_ends(lab, node)[interface]
    return [
        arc
        for arc in arcs(lab)
        if (arc.near, arc.interface) != (node, interface)
        and not (arc.far == node and (arc.near, arc.interface) in ends)
    ]


def segments(lab: Lab, node: str) -> list[list[str]]:
    """Who is on each segment, as a node sees it."""
    return sorted(found["members"] for found in lab.client(node).get("network/global")["segments"])


def cut(lab: Lab, node: str, interface: str, how: str) -> None:
    if how == "carrier":
        plumbing.set_link(lab.design.node(node).namespace, interface, up=False)
        return
    rules = f'add table netdev k; add chain netdev k in {{ type filter hook ingress device "{interface}" priority 0; }}'
    assert lab.exec(node, ["nft", f"{rules}; add rule netdev k in drop"]).returncode == 0


def mend(lab: Lab, node: str, interface: str, how: str) -> None:
    if how == "carrier":
        plumbing.set_link(lab.design.node(node).namespace, interface, up=True)
    else:
        assert lab.exec(node, ["nft", "delete table netdev k"]).returncode == 0


def test_two_hubs_with_the_same_nodes_are_two_segments_and_both_are_used(lab: Lab) -> None:
    until(lambda: segments(lab, "d") == [["a", "b", "c"]] * 2, "two segments, each of the same three")
    assert mesh.expected(arcs(lab), "a")["b"] == {("to-lan1", "b"), ("to-lan2", "b")}
    assert mesh.programmed(lab, "a", 4)["b"] == {("to-lan1", "b"), ("to-lan2", "b")}
    mesh.everybody_pings(lab)


@pytest.mark.parametrize("how", ["carrier", "silent"])
def test_a_node_cut_from_one_of_two_hubs_is_reached_over_the_other_alone(lab: Lab, how: str) -> None:
    rest = without(lab, "a", "to-lan1")
    assert mesh.expected(rest, "b")["a"] == {("to-lan2", "a")}
    cut(lab, "a", "to-lan1", how)
    try:
        routes_become(lab, rest)
        mesh.everybody_pings(lab)
    finally:
        mend(lab, "a", "to-lan1", how)
    routes_become(lab, arcs(lab))


def test_of_two_equal_links_between_a_pair_both_are_used_and_one_cut_leaves_the_other(lab: Lab) -> None:
    assert mesh.programmed(lab, "d", 6)["a"] == {("to-a", "a"), ("to-a-2", "a")}
    rest = without(lab, "d", "to-a")
    cut(lab, "d", "to-a", "silent")
    try:
        routes_become(lab, rest)
        assert mesh.programmed(lab, "d", 6)["a"] == {("to-a-2", "a")}
        mesh.everybody_pings(lab, ("a", "d"))
    finally:
        mend(lab, "d", "to-a", "silent")
    routes_become(lab, arcs(lab))


def reserved(lab: Lab, node: str) -> int:
    """Below this are all sequence numbers that a node has used in its LSAs; 0 if it has none on disk."""
    file = design.node_directory(NAME, node) / "state" / SEQUENCE_KEY
    return int.from_bytes(file.read_bytes(), "big") if file.exists() else 0


def test_a_node_that_lost_all_but_its_identity_speaks_above_what_it_had_said(lab: Lab) -> None:
    before = reserved(lab, "b")
    lab.stop_daemons(["b"])
    state = design.node_directory(NAME, "b") / "state"
    kept = {IDENTITY_KEY, MEMBERSHIP_KEY}
    lost = [file for file in state.iterdir() if file.name not in kept]
    assert {file.name for file in state.iterdir()} >= {*kept, SEQUENCE_KEY}
    for file in lost:
        file.unlink()
    lab.start_daemons(["b"])
    lab.wait_ready(["b"])
    until(lambda: reserved(lab, "b") > before, "b has met what it said before, and gone above it")
    until(lambda: mesh.all_up(lab), "every node sees every other up")
    routes_become(lab, arcs(lab))
    mesh.everybody_pings(lab)
