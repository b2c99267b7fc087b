"""Links that go and come back, and a kernel that forgets: what the daemons put right.

     b
1  // \\  1      a - b is doubled: metric 1, and metric 2 for the time when the first is gone.
 a      d      a - d goes by b and by c at equal cost.
1  \\   /  1
     c
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmssd.lab import plumbing
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.mesh import FAMILIES, Arc, Table, arcs, dmssd, ip_json, routes_become, states, until

pytestmark = pytest.mark.netns

NAME = f"kl{os.getpid()}"
DIAMOND = [("a", "b", 1), ("a", "c", 1), ("b", "d", 1), ("c", "d", 1), ("a", "b", 2)]


@pytest.fixture(scope="module")
def diamond(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up(str(_gml(tmp_path_factory.mktemp("diamond"))), NAME, tp=1, weight="metric") as lab:
        yield lab


def _gml(directory: Path) -> Path:
    names = "abcd"
    nodes = "".join(f'node [ id {number} label "{name}" ]\n' for number, name in enumerate(names))
    edges = "".join(
        f"edge [ source {names.index(a)} target {names.index(b)} key {key} metric {metric} ]\n"
        for key, (a, b, metric) in enumerate(DIAMOND)
    )
    file = directory / "diamond.gml"
    file.write_text(f"graph [\nmultigraph 1\n{nodes}{edges}]\n")
    return file


@pytest.fixture
def lab(diamond: Lab) -> Iterator[Lab]:
    """The diamond with everybody up by the routes of the whole; mended afterwards."""
    until(lambda: mesh.all_up(diamond), "every node sees every other up")
    routes_become(diamond, arcs(diamond))
    yield diamond
    diamond.heal()
    for node in diamond.nodes:
        for interface in mesh.far_ends(diamond, node):
            set_link(diamond, node, interface, up=True)
    diamond.start_daemons()
    diamond.wait_ready()


def set_link(lab: Lab, node: str, interface: str, *, up: bool) -> None:
    plumbing.set_link(lab.design.node(node).namespace, interface, up=up)


def without(edges: list[Arc], lab: Lab, node: str, interface: str) -> list[Arc]:
    """The arcs less both directions of one link."""
    (far,) = mesh.far_ends(lab, node)[interface]
    return [arc for arc in edges if (arc.near, arc.interface) not in ((node, interface), far)]


def test_the_dearer_of_two_parallel_links_is_unused_until_the_cheaper_goes_down(lab: Lab) -> None:
    edges = arcs(lab)
    cheap = mesh.expected(edges, "a")["b"]
    assert cheap == {("to-b", "b")}
    set_link(lab, "a", "to-b", up=False)
    rest = without(edges, lab, "a", "to-b")
    assert mesh.expected(rest, "a")["b"] == {("to-b-2", "b")}
    routes_become(lab, rest)
    assert mesh.pings(lab, "a", "b")
    assert states(lab, "a")["b"] == "up"
    set_link(lab, "a", "to-b", up=True)
    routes_become(lab, edges)


def test_a_parallel_link_takes_over_from_one_that_drops_silently(lab: Lab) -> None:
    edges = arcs(lab)
    rules = 'add table netdev k; add chain netdev k in { type filter hook ingress device "to-b" priority 0; }'
    assert lab.exec("a", ["nft", f"{rules}; add rule netdev k in drop"]).returncode == 0
    try:
        routes_become(lab, without(edges, lab, "a", "to-b"))
        assert mesh.pings(lab, "a", "b")
    finally:
        assert lab.exec("a", ["nft", "delete table netdev k"]).returncode == 0
    routes_become(lab, edges)


@pytest.mark.parametrize("end", ["near", "far"])
def test_a_link_that_loses_its_carrier_and_gets_it_back_has_its_share_of_equal_cost_ways_again(
    lab: Lab, end: str
) -> None:
    edges = arcs(lab)
    assert mesh.expected(edges, "a")["d"] == {("to-b", "b"), ("to-c", "c")}
    node, interface = ("a", "to-c") if end == "near" else ("c", "to-a")
    set_link(lab, node, interface, up=False)
    routes_become(lab, without(edges, lab, node, interface))
    assert mesh.pings(lab, "a", "d")
    set_link(lab, node, interface, up=True)
    routes_become(lab, edges)
    assert mesh.pings(lab, "a", "c")


@pytest.mark.parametrize("end", ["near", "far"])
def test_a_flap_too_short_to_be_noticed_by_anyone_leaves_no_route_missing(lab: Lab, end: str) -> None:
    """The kernel removes routes over a link within the flap, and announces only the link (FACTS)."""
    edges = arcs(lab)
    node, interface = ("a", "to-c") if end == "near" else ("c", "to-a")
    for _ in range(3):
        set_link(lab, node, interface, up=False)
        set_link(lab, node, interface, up=True)
    routes_become(lab, edges)
    assert mesh.pings(lab, "a", "d")
    assert mesh.pings(lab, "a", "c")


@pytest.fixture
def reminded(lab: Lab) -> Iterator[Lab]:
    """Afterwards a link of ``a`` has changed, which has its daemon read the kernel's tables in any case."""
    yield lab
    set_link(lab, "a", "to-b-2", up=False)
    set_link(lab, "a", "to-b-2", up=True)
    routes_become(lab, arcs(lab))


@pytest.mark.parametrize("flushed", ["route flush", "-6 route flush", "nexthop flush"])
def test_what_is_flushed_from_the_kernel_behind_the_daemons_back_is_put_back(reminded: Lab, flushed: str) -> None:
    assert reminded.exec("a", ["ip", *flushed.split(), "proto", "201"]).returncode == 0
    routes_become(reminded, arcs(reminded), ["a"], seconds=20)
    assert mesh.pings(reminded, "a", "d")
    assert reminded.client("a").get("status")["plan"]["taken"] > 0
    assert "gone from the kernel" in dmssd(reminded, "a", "status").stdout


@pytest.mark.parametrize("flushed", ["route flush", "-6 route flush", "nexthop flush"])
def test_what_was_flushed_is_put_back_at_the_latest_when_a_link_changes(lab: Lab, flushed: str) -> None:
    assert lab.exec("a", ["ip", *flushed.split(), "proto", "201"]).returncode == 0
    set_link(lab, "a", "to-b-2", up=False)
    routes_become(lab, without(arcs(lab), lab, "a", "to-b-2"), ["a"])
    assert mesh.pings(lab, "a", "d")


def test_between_nodes_that_are_not_adjacent_there_is_no_way_but_what_dmssd_programs(lab: Lab) -> None:
    lab.stop_daemons()
    assert mesh.pings(lab, "a", "d")  # routes stay when daemons stop
    assert mesh.pings(lab, "d", "a")
    held = {node: Table.read(lab, node) for node in lab.nodes}
    for family in FAMILIES:
        assert lab.exec("a", ["ip", f"-{family}", "route", "flush", "proto", "201"]).returncode == 0
    for family in FAMILIES:
        to = mesh.address(lab, "d", family)
        done = lab.exec("a", ["ping", "-n", "-c", "1", "-W", "1", to])
        assert done.returncode != 0
        assert "unreachable" in (done.stdout + done.stderr).lower()
        assert lab.exec("d", ["ping", "-n", "-c", "1", "-W", "1", mesh.address(lab, "a", family)]).returncode != 0
    lab.start_daemons()
    lab.wait_ready()
    routes_become(lab, arcs(lab))
    assert mesh.pings(lab, "a", "d")
    assert {node: len(Table.read(lab, node).programmed) for node in lab.nodes} == {
        node: len(table.programmed) for node, table in held.items()
    }


def test_stopping_and_starting_a_daemon_leaves_a_foreign_nexthop_with_an_id_of_its_own_kind_alone(lab: Lab) -> None:
    """Ids are the kernel's, shared by all: what another program holds under one is neither taken nor given up."""
    lab.stop_daemons(["a"])
    ours = {entry["id"] for entry in ip_json(lab, "a", "nexthop", "show", "proto", "201")}
    theirs = max(ours) + 1
    add = ["ip", "nexthop", "add", "id", str(theirs), "blackhole", "proto", "static"]
    assert lab.exec("a", add).returncode == 0
    try:
        lab.start_daemons(["a"])
        lab.wait_ready(["a"])
        until(lambda: mesh.all_up(lab), "every node sees every other up")
        set_link(lab, "a", "to-c", up=False)  # makes it write: other groups
        routes_become(lab, without(arcs(lab), lab, "a", "to-c"), ["a"])
        set_link(lab, "a", "to-c", up=True)
        routes_become(lab, arcs(lab), ["a"])
        left = [entry for entry in ip_json(lab, "a", "nexthop", "show") if entry["protocol"] == "static"]
        assert [(entry["id"], "blackhole" in entry) for entry in left] == [(theirs, True)]
    finally:
        lab.exec("a", ["ip", "nexthop", "del", "id", str(theirs)])


def test_a_link_that_drops_silently_costs_no_member_and_status_is_ok_once_it_is_mended(lab: Lab) -> None:
    lab.drop("a", "c")
    routes_become(lab, [arc for arc in arcs(lab) if {arc.near, arc.far} != {"a", "c"}])
    assert states(lab, "a")["c"] == "up"
    lab.heal()
    routes_become(lab, arcs(lab))
    until(lambda: dmssd(lab, "a", "status").returncode == 0, "status of a is ok")
