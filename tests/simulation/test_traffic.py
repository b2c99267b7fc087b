"""Drain, live metrics, gateways and lost disks in whole simulated meshes.

n0 - n1
 |    |      a ring: n0 and n2 have two ways of equal cost to each other
n3 - n2
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from dmssd.secure import MEMBERSHIP_KEY
from dmssd.settings import NodeSettings
from dmssd.sim import mesh, shapes
from dmssd.sim.checkers import unrest
from dmssd.sim.disk import Disk
from dmssd.sim.network import Quality
from dmssd.sim.world import Machine, World, prefixes_of
from routing.lsa import METRIC_MAX, Prefix
from sansio.instant import MILLISECOND, SECOND, Duration

DEFAULT = Prefix.parse("0.0.0.0/0")


def ring(adjust: Callable[[int, NodeSettings], NodeSettings] | None = None, shape: str = "ring:4") -> World:
    options = mesh.MeshOptions(processors=1, adjust=adjust or (lambda number, settings: settings))
    drawn = shapes.parse(shape, 5)
    alike = replace(drawn, edges=tuple(replace(edge, metric_a=10, metric_b=10) for edge in drawn.edges))
    world = mesh.build(5, alike, options)
    for machine in world.machines:
        world.start(machine)
    settled(world)
    return world


def settled(world: World) -> None:
    """All databases hold everybody and are equal, and every forwarder's row is made of them."""

    def alike() -> bool:
        nodes = [node(world, machine.number) for machine in world.machines]
        whole = all(len(one.linkstate.lsdb) == len(nodes) for one in nodes)
        return whole and len({one.linkstate.digest for one in nodes}) == 1 and all(_is_current(one) for one in nodes)

    until(world, alike)


def _is_current(one) -> bool:
    row = {entry.origin: entry.sequence for entry in one.forwarder.row.entries} if one.forwarder.row else {}
    return row == {origin: lsa.sequence for origin, lsa in one.linkstate.lsdb.items()}


def at_rest(world: World) -> None:
    until(world, lambda: not unrest(world, mesh.VIEWS), lambda: unrest(world, mesh.VIEWS))


def until(world: World, claim: Callable[[], object], said: Callable[[], object] = lambda: "") -> None:
    deadline = world.now + 60 * SECOND
    while not claim():
        assert world.now < deadline, said()
        world.run_for(100 * MILLISECOND)


def node(world: World, number: int):
    return mesh.secure_of(world.machines[number].daemon).node


def ways(world: World, source: int, prefix: Prefix) -> set[str]:
    """The neighbours that a machine's kernel sends that prefix to."""
    machine = world.machines[source]
    who = {gateway: found for (found, _), gateway in node(world, source).forwarder._gateways.items()}
    return {world.by_node[who[gateway]].name for gateway, _ in machine.kernel.gateways(prefix)}


def to(number: int) -> Prefix:
    return prefixes_of(number)[0]


def ask(world: World, machine: Machine, verb: str, **arguments: object) -> object:
    number = world.request(machine, verb, **arguments)
    until(world, lambda: number in machine.replies)
    return machine.replies[number]


def metric(world: World, at: int, a: int, b: int, value: int | None) -> object:
    ends = {"a": world.machines[a].node.hex(), "b": world.machines[b].node.hex()}
    return ask(world, world.machines[at], "metric", **ends, metric=value)


def test_traffic_leaves_a_draining_node_which_stays_reachable_and_comes_back_when_it_is_undrained():
    world = ring()
    assert ways(world, 0, to(2)) == {"n1", "n3"}
    assert ask(world, world.machines[1], "drain", on=True).error is None
    until(world, lambda: ways(world, 0, to(2)) == ways(world, 2, to(0)) == {"n3"})
    assert ways(world, 0, to(1)) == {"n1"}
    assert ways(world, 2, to(1)) == {"n1"}
    settled(world)
    world.stop_daemon(world.machines[1])
    world.run_for(SECOND)
    world.start(world.machines[1])
    world.run_for(10 * SECOND)
    assert ways(world, 0, to(2)) == {"n3"}, "it drains on after a restart"
    ask(world, world.machines[1], "drain", on=False)
    until(world, lambda: ways(world, 0, to(2)) == {"n1", "n3"})
    at_rest(world)


def test_a_draining_node_that_is_the_only_way_goes_on_forwarding():
    world = ring(shape="line:3")
    ask(world, world.machines[1], "drain", on=True)
    until(world, lambda: node(world, 0).linkstate.lsdb[world.machines[1].node].draining)
    world.run_for(5 * SECOND)
    settled(world)
    assert ways(world, 0, to(2)) == {"n1"}


def test_a_metric_set_anywhere_by_an_admin_holds_at_both_ends_and_over_their_restart():
    world = ring()
    reply = metric(world, 0, 2, 3, 90)
    assert reply.error is None
    until(world, lambda: ways(world, 0, to(2)) == {"n1"} and ways(world, 2, to(0)) == {"n1"})
    for number in (2, 3):
        world.stop_daemon(world.machines[number])
        world.start(world.machines[number])
    world.run_for(10 * SECOND)
    settled(world)
    assert ways(world, 0, to(2)) == {"n1"}
    assert metric(world, 0, 2, 3, None).error is None
    until(world, lambda: ways(world, 0, to(2)) == {"n1", "n3"})


def test_a_member_without_the_capability_sets_its_own_end_alone_and_is_told_so():
    world = ring()
    reply = metric(world, 3, 3, 2, 90)
    assert "n2 refused: only members with the admin capability" in reply.error
    assert reply.error.endswith("it is set at n3")
    assert node(world, 2).traffic.metrics == {}
    reply = metric(world, 3, 1, 2, 90)
    assert reply.error is not None
    assert node(world, 1).traffic.metrics == node(world, 2).traffic.metrics == {}


def test_an_end_that_is_away_does_not_keep_the_asker_waiting_for_ever():
    world = ring()
    world.stall(world.machines[2])
    reply = metric(world, 0, 1, 2, 90)
    assert reply.error is not None
    assert reply.error.startswith("n2 did not answer")
    assert reply.error.endswith("it is set at n1")


def test_traffic_avoids_a_measured_link_that_is_slow_and_the_metric_then_stays():
    drawn = shapes.parse("ring:4", 5)
    alike = replace(drawn, edges=tuple(replace(edge, metric_a=0, metric_b=0) for edge in drawn.edges))
    world = mesh.build(5, alike, mesh.MeshOptions(processors=1))
    slow = next(cable for cable in world.network.cables if {number for number, _ in cable.ends} == {0, 1})
    slow.quality = Quality(delay=Duration(20 * MILLISECOND))
    for machine in world.machines:
        world.start(machine)
    settled(world)
    until(world, lambda: ways(world, 0, to(1)) == {"n3"} and ways(world, 1, to(0)) == {"n2"})
    world.run_for(30 * SECOND)
    before = [node(world, number).linkstate.mine.sequence for number in range(4)]
    world.run_for(120 * SECOND)
    assert [node(world, number).linkstate.mine.sequence for number in range(4)] == before
    metrics = [adjacency.metric for adjacency in node(world, 0).linkstate.mine.adjacencies]
    assert sorted(metrics)[0] <= 22
    assert sorted(metrics)[1] >= 300


def gateway_at(preferences: dict[int, int]) -> Callable[[int, NodeSettings], NodeSettings]:
    def adjust(number: int, settings: NodeSettings) -> NodeSettings:
        if number not in preferences:
            return settings
        return replace(settings, announce=(DEFAULT,), gateway=preferences[number])

    return adjust


def test_the_preferred_gateway_serves_all_and_the_next_takes_over_when_it_leaves():
    world = ring(gateway_at({1: 100, 2: 200}), shape="line:4")
    assert [ways(world, source, DEFAULT) for source in (0, 1, 3)] == [{"n1"}, {"n2"}, {"n2"}]
    number = world.request(world.machines[2], "leave")
    until(world, lambda: number in world.machines[2].replies)
    until(world, lambda: ways(world, 0, DEFAULT) == {"n1"} and ways(world, 1, DEFAULT) == set())


def test_a_route_filter_keeps_a_default_route_out_of_one_node_alone():
    from routing.filter import RouteFilter

    def adjust(number: int, settings: NodeSettings) -> NodeSettings:
        settings = gateway_at({2: 100})(number, settings)
        return replace(settings, filter=RouteFilter(deny_default=True)) if number == 0 else settings

    world = ring(adjust)
    until(world, lambda: ways(world, 1, DEFAULT) == {"n2"} and ways(world, 3, DEFAULT) == {"n2"})
    world.run_for(5 * SECOND)
    assert ways(world, 0, DEFAULT) == set()
    assert ways(world, 0, to(2)) == {"n1", "n3"}


@pytest.mark.parametrize("kept", [(MEMBERSHIP_KEY,), (MEMBERSHIP_KEY, "lsa-sequence")])
def test_a_node_that_lost_its_disk_but_for_its_membership_is_soon_believed_again(kept: tuple[str, ...]):
    """Its new LSAs begin below those that the others hold: it must see that, and go above them."""
    world = ring()
    machine = world.machines[1]
    for value in (20, 30, 40, None):
        metric(world, 1, 1, 2, value)
        world.run_for(SECOND)
    before = node(world, 0).linkstate.lsdb[machine.node].sequence
    world.stop_machine(machine)
    machine.disk = Disk({key: value for key, value in machine.disk.read().items() if key in kept})
    world.run_for(2 * SECOND)
    world.start(machine)
    until(world, lambda: node(world, 0).linkstate.lsdb[machine.node] == node(world, 1).linkstate.mine)
    assert node(world, 0).linkstate.lsdb[machine.node].sequence > before
    at_rest(world)
    assert ways(world, 0, to(2)) == {"n1", "n3"}


def test_a_dead_node_is_purged_everywhere_when_its_last_lsa_has_aged_and_not_before():
    world = ring(shape="ring:3")
    dead = world.machines[1].node
    world.stop_machine(world.machines[1])
    world.run_for(2000 * SECOND)
    assert all(dead in node(world, number).linkstate.lsdb for number in (0, 2))
    world.run_for(1700 * SECOND)
    assert all(len(node(world, number).linkstate.lsdb) == 2 for number in (0, 2))
    assert all(dead not in node(world, number).linkstate.lsdb for number in (0, 2))


def test_the_metric_of_a_draining_node_is_the_greatest_that_there_is():
    world = ring()
    ask(world, world.machines[1], "drain", on=True)
    until(world, lambda: node(world, 3).linkstate.lsdb[world.machines[1].node].draining)
    metrics = {adjacency.metric for adjacency in node(world, 3).linkstate.lsdb[world.machines[1].node].adjacencies}
    assert metrics == {METRIC_MAX}
