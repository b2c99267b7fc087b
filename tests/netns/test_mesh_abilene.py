"""Eleven real daemons on Abilene: what they program, lose, and get back. One lab for the whole file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from dmssd.lab.outage import Flow
from tests.netns import mesh
from tests.netns.mesh import FAMILIES, Table, arcs, dmssd, everybody_pings, routes_become, states, until

pytestmark = pytest.mark.netns

NAME = f"ka{os.getpid()}"
WEST, EAST = "sunnyvale", "washington-dc"
FLOWS_MAX = 64
"""Flows hashed to one of two even ways until both were seen; the odds of missing one are 2**-63."""


@dataclass
class Abilene:
    """The lab, and what every kernel held before the first daemon started."""

    lab: Lab
    before: dict[str, Table]


@pytest.fixture(scope="module")
def abilene() -> Iterator[Abilene]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.build("abilene", NAME) as lab:
        until(lambda: all(mesh.linked(lab, node) for node in lab.nodes), "every link has its link-local address")
        before = {node: Table.read(lab, node) for node in lab.nodes}
        lab.start_daemons()
        lab.wait_ready()
        lab.found()
        lab.admit_all()
        lab.wait_converged()
        yield Abilene(lab, before)


@pytest.fixture
def lab(abilene: Abilene) -> Iterator[Lab]:
    """The lab at rest: everybody up, by the routes of the whole network."""
    lab = abilene.lab
    until(lambda: mesh.all_up(lab), "every node sees every other up")
    yield lab
    lab.heal()
    lab.start_daemons()
    lab.wait_ready()


def test_before_the_first_daemon_every_table_holds_only_the_nodes_own_links(abilene: Abilene) -> None:
    for node, table in abilene.before.items():
        interfaces = {"lo", *mesh.far_ends(abilene.lab, node)}
        assert table.nexthops == ()
        assert {interface for interface, _ in table.addresses} <= interfaces
        assert all(a.startswith("fe80::") or a in ("127.0.0.1", "::1") for _, a in table.addresses)
        elsewhere = [route for route in table.routes if " via " in route or "nhid" in route or "proto 201" in route]
        assert elsewhere == []


def test_only_routes_of_protocol_201_and_own_addresses_were_added(abilene: Abilene, lab: Lab) -> None:
    for node, before in abilene.before.items():
        now = Table.read(lab, node)
        own = {lab.address4(node), lab.address6(node)}
        assert set(now.addresses) - set(before.addresses) == {("lo", address) for address in own}
        assert set(before.addresses) <= set(now.addresses)
        assert [nexthop for nexthop in now.nexthops if "proto 201" not in nexthop] == []
        added = [route for route in now.routes if route not in before.routes and "proto 201" not in route]
        # The kernel's own, for lo's addresses and because it forwards now: all of them deliver here and nowhere else.
        elsewhere = [route for route in added if " table local " not in route and not own & set(route.split())]
        assert elsewhere == []
        assert [route for route in added if "proto kernel" not in route] == []
        assert [route for route in before.routes if route not in now.routes] == []


def test_every_pair_pings_over_both_families(lab: Lab) -> None:
    everybody_pings(lab)


def test_kernel_routes_are_those_of_a_naive_computation_on_the_edge_list(lab: Lab) -> None:
    edges = arcs(lab)
    routes_become(lab, edges)
    assert len(mesh.expected(edges, WEST)[EAST]) == 2  # the comparison has met an equal-cost pair


@pytest.mark.parametrize("family", FAMILIES)
def test_trace_shows_both_equal_cost_ways_coast_to_coast_and_no_other(lab: Lab, family: int) -> None:
    routes_become(lab, arcs(lab), [WEST])
    want = mesh.ways(arcs(lab), WEST, EAST)
    assert len(want) == 2
    seen: set[tuple[str | None, ...]] = set()
    for flow in range(50_000, 50_000 + FLOWS_MAX):
        answer = lab.client(WEST).post("trace", {"destination": EAST, "family": family, "flow": flow}, 60)
        assert answer["reached"]
        # A hop whose answer was lost on a busy machine shows no way.
        if all(hop["name"] for hop in answer["hops"]):
            seen.add(tuple(hop["name"] for hop in answer["hops"]))
        if len(seen) == len(want):
            break
    assert seen == want


def test_trace_as_typed_names_every_hop(lab: Lab) -> None:
    done = dmssd(lab, WEST, "trace", EAST, "-6", "--flow", "50000")
    assert done.returncode == 0, done.stderr
    assert EAST in done.stdout
    assert lab.address6(EAST) in done.stdout


def test_a_killed_daemon_forwards_on_is_seen_restarting_and_takes_its_routes_over(lab: Lab) -> None:
    """Fail static: SIGKILL and restart of a transit node lose no packet and touch nothing of anyone else's."""
    victim = "kansas-city"
    left, right = "denver", "indianapolis"
    edges = arcs(lab)
    routes_become(lab, edges)
    assert mesh.ways(edges, left, right) == {(victim, right)}
    out = next(interface for interface, [(far, _)] in mesh.far_ends(lab, victim).items() if far == left)
    foreign = [
        ["nexthop", "add", "id", "4242", "via", "fe80::4242", "dev", out, "proto", "static"],
        ["route", "add", "192.0.2.0/24", "nhid", "4242", "proto", "static"],
        ["-6", "route", "add", "2001:db8::/32", "dev", out, "proto", "static"],
    ]
    for command in foreign:
        assert lab.exec(victim, ["ip", *command]).returncode == 0, command
    # Within some seconds of another change the neighbours must suspect that the dead one had not heard of it.
    until(lambda: mesh.at_rest(lab, mesh.REST_S), "nothing has changed for a while")
    before = Table.read(lab, victim)
    try:
        with Flow(lab, left, right, 40_000) as flow:
            until(lambda: flow.received() > 50, "probes arrive")
            lab.kill(victim)
            for neighbour in (left, right):
                mesh.until_neighbour(lab, neighbour, victim, "restarting")
            assert Table.read(lab, victim) == before
            mark = flow.received()
            until(lambda: flow.received() > mark + 400, "two seconds of probes more arrive")
            lab.start_daemons([victim])
            lab.wait_ready([victim])
            for neighbour in (left, right):
                mesh.until_neighbour(lab, neighbour, victim, "up")
            until(lambda: mesh.all_up(lab), "all members up everywhere")
            mark = flow.received()
            until(lambda: flow.received() > mark + 400, "two seconds of probes more arrive")
        outage = flow.outage
        assert outage is not None
        said = {node: lab.log(node).read_text()[-2500:] for node in (left, victim, right)}
        assert outage.lost == 0, "\n".join([str(outage), *(f"== {node}\n{words}" for node, words in said.items())])
        routes_become(lab, edges)
        after = Table.read(lab, victim)
        assert [line for line in before.routes + before.nexthops if "proto static" in line] == [
            line for line in after.routes + after.nexthops if "proto static" in line
        ]
        assert len([line for line in after.routes + after.nexthops if "proto static" in line]) == len(foreign)
    finally:
        lab.exec(victim, ["ip", "-6", "route", "del", "2001:db8::/32"])
        lab.exec(victim, ["ip", "nexthop", "del", "id", "4242"])


@pytest.mark.parametrize("kind", ["topology processor", "forwarder only"])
def test_any_node_that_goes_silent_and_dies_leaves_every_other_pair_connected_and_comes_back(
    lab: Lab, kind: str
) -> None:
    processors = [node for node in lab.design.tps if node != lab.design.founder]
    others = [node for node in lab.nodes if node not in lab.design.tps]
    victim = processors[0] if kind == "topology processor" else others[len(others) // 2]
    rest = [node for node in lab.nodes if node != victim]
    lab.drop_node(victim)
    lab.kill(victim)
    everybody_pings(lab, rest)
    routes_become(lab, arcs(lab, without=[victim]), rest)
    for node in rest:
        until(lambda node=node: states(lab, node)[victim] == "down", f"{node} sees {victim} down")
        assert [name for name, state in states(lab, node).items() if state != "up"] == [victim]
    lab.heal(victim)
    lab.start_daemons([victim])
    lab.wait_ready([victim])
    until(lambda: mesh.all_up(lab), f"{victim} is up everywhere again")
    everybody_pings(lab)
    routes_become(lab, arcs(lab))


def test_the_founder_is_no_more_needed_than_any_other(lab: Lab) -> None:
    founder = lab.design.founder
    rest = [node for node in lab.nodes if node != founder]
    lab.drop_node(founder)
    lab.kill(founder)
    everybody_pings(lab, rest)
    routes_become(lab, arcs(lab, without=[founder]), rest)
    lab.heal(founder)
    lab.start_daemons([founder])
    lab.wait_ready([founder])
    until(lambda: mesh.all_up(lab), f"{founder} is up everywhere again")
    everybody_pings(lab)
