"""Segments that many nodes share: how few adjacencies they take, and what it costs to lose a member."""

import msgspec
import pytest

from benchmarks.soak import run_seed
from dmssd.sim import mesh, packets, shapes
from dmssd.sim.checkers import unrest
from dmssd.sim.network import Quality
from routing.pseudonode import segments, topology
from sansio.instant import MILLISECOND, SECOND, Duration

DETECTION = Duration(450 * MILLISECOND)
"""Three echoes of 100 ms with their jitter, the wait for the last, a flood, and a little."""


def settled(text, seed=1):
    world = mesh.build(seed, shapes.parse(text, seed), mesh.MeshOptions(quality=Quality()))
    for machine in world.machines:
        world.start(machine)
    world.run_for(Duration(5 * SECOND))
    assert not unrest(world, mesh.VIEWS)
    return world


def node(machine):
    return mesh.secure_of(machine.daemon).node


def segment(world, seen_by):
    (found,) = segments(node(seen_by).linkstate.lsdb)
    return found


def speakers(world, seen_by):
    return [world.by_node[port.node] for port in segment(world, seen_by).speakers]


def lost(world, machines):
    """The (source, destination) pairs among ``machines`` that some packet does not get across now."""
    return {
        (source, other.number)
        for other in machines
        for source, trace in packets.spread(world, other.prefixes[0]).items()
        if trace.problem and source in {machine.number for machine in machines}
    }


def watch(world, machines, length):
    """For how long in all some pair among ``machines`` was cut."""
    cut = 0
    for _ in range(length // MILLISECOND // 5):
        world.run_for(Duration(5 * MILLISECOND))
        cut += 5 * MILLISECOND if lost(world, machines) else 0
    return cut


def test_twenty_nodes_on_one_segment_have_twenty_adjacencies_to_it_and_not_190():
    world = settled("segment:20")
    graph = topology(node(world.machines[0]).linkstate.lsdb)
    assert len([edge for edge in graph.edges if edge.v in graph.pseudonodes]) == 20
    assert len(graph.edges) == 40
    counts = sorted(len(node(machine).linkstate.mine.adjacencies) for machine in world.machines)
    assert counts == [2] * 18 + [19] * 2


def test_the_designated_member_lost_is_replaced_at_once_and_no_pair_of_others_loses_a_packet():
    world = settled("segment:12")
    designated, backup = speakers(world, world.machines[0])
    others = [machine for machine in world.machines if machine is not designated]
    world.stop_machine(designated)
    assert watch(world, others, Duration(2 * SECOND)) == 0
    now_speaking = speakers(world, others[0])
    assert now_speaking[0] is backup
    assert len(now_speaking) == 2
    assert all(designated not in speakers(world, machine) for machine in others)


def test_a_lost_member_is_forwarded_to_by_nobody_after_one_detection():
    world = settled("segment:12")
    victim = next(machine for machine in world.machines if machine not in speakers(world, machine))
    others = [machine for machine in world.machines if machine is not victim]
    world.stop_machine(victim)
    world.run_for(DETECTION)
    gone = {interface.packed for interface in victim.kernel.interfaces.values()}
    for machine in others:
        assert gone.isdisjoint(gateway.address for gateway in machine.kernel.installed().nexthops.values())
    assert not lost(world, others)


def test_the_designated_members_daemon_restarts_and_nothing_moves():
    world = settled("segment:8")
    designated, _ = speakers(world, world.machines[0])
    changes = [machine.kernel.changes for machine in world.machines]
    world.stop_daemon(designated)
    assert watch(world, world.machines, Duration(4 * SECOND)) == 0
    world.start(designated)
    assert watch(world, world.machines, Duration(6 * SECOND)) == 0
    assert [machine.kernel.changes for machine in world.machines] == changes
    assert speakers(world, world.machines[0])[0] is designated


def test_both_speakers_lost_together_are_replaced_and_all_is_well_again():
    world = settled("segment:8")
    both = speakers(world, world.machines[0])
    others = [machine for machine in world.machines if machine not in both]
    for machine in both:
        world.stop_machine(machine)
    world.run_for(Duration(3 * SECOND))
    assert not lost(world, others)
    assert len(speakers(world, others[0])) == 2


def test_a_segment_that_shrinks_to_two_nodes_is_a_plain_link_again():
    world = settled("segment:3")
    third = next(machine for machine in world.machines if machine not in speakers(world, machine))
    world.stop_machine(third)
    world.run_for(Duration(2 * SECOND))
    left = [machine for machine in world.machines if machine is not third]
    assert all(node(machine).linkstate.mine.attachments == () for machine in left)
    assert not lost(world, left)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", ["segment:10", "campus:14"])
def test_a_random_world_with_segments_is_safe_under_faults_and_heals(shape, seed):
    # The healed third is longer than a lost statement waits for the next comparison (gossip.replica.SYNC_INTERVAL).
    command, report, _ = run_seed(seed, 0, 75, 4, shape)
    findings = "\n".join(map(str, report.findings))
    assert not report.findings, f"{findings}\nrepeat with: {command}"


def older(name, installed):
    """A plant: while ``installed`` holds the name, that node's LSA is that of 0.1.0, which knows no segments."""

    def plant(secure):
        if secure.node.settings.name != name or name not in installed:
            return
        linkstate = secure.node.linkstate
        compose = linkstate._compose
        linkstate._compose = lambda sequence: msgspec.structs.replace(compose(sequence), protocol=1, attachments=())

    return plant


def test_with_one_node_of_protocol_1_all_pairs_are_adjacent_and_changing_over_loses_no_packet():
    installed = ["n2"]
    options = mesh.MeshOptions(quality=Quality(), plant=older("n2", installed))
    world = mesh.build(1, shapes.parse("segment:6", 1), options)
    for machine in world.machines:
        world.start(machine)
    world.run_for(Duration(6 * SECOND))
    assert not unrest(world, mesh.VIEWS)
    assert segments(node(world.machines[0]).linkstate.lsdb) == ()
    assert {len(node(machine).linkstate.mine.adjacencies) for machine in world.machines} == {5}
    upgraded = world.machines[2]
    for known, adjacencies in (((), [2, 2, 2, 2, 5, 5]), (("n2",), [5] * 6)):
        installed[:] = known
        world.stop_daemon(upgraded)
        world.start(upgraded)
        assert watch(world, world.machines, Duration(8 * SECOND)) == 0
        assert sorted(len(node(machine).linkstate.mine.adjacencies) for machine in world.machines) == adjacencies
        assert not unrest(world, mesh.VIEWS)


def test_a_member_that_restarts_is_adjacent_to_both_speakers_again_at_once():
    """Its neighbours have known it for long and do not begin a session; nor may it wait for their next greeting."""
    for seed in range(1, 5):
        world = settled("segment:6", seed)
        both = speakers(world, world.machines[0])
        member = min((machine for machine in world.machines if machine not in both), key=lambda machine: machine.node)
        world.stop_daemon(member)
        world.run_for(Duration(2 * SECOND))
        world.start(member)
        world.run_for(Duration(SECOND))
        beside = {adjacency.neighbour for adjacency in node(member).linkstate.mine.adjacencies}
        assert beside >= {speaker.node for speaker in both}


def test_two_members_that_were_cut_off_one_after_the_other_pair_when_the_segment_ends():
    """Each has forgotten where it met the other, and there is a session: that must not keep them from meeting again."""
    installed = []
    world = mesh.build(1, shapes.parse("segment:6", 1), mesh.MeshOptions(plant=older("n5", installed)))
    for machine in world.machines:
        world.start(machine)
    world.run_for(Duration(5 * SECOND))
    spoken = {speaker.number for speaker in speakers(world, world.machines[0])}
    for cable in [cable for cable in world.network.cables if cable.ends[0][0] not in spoken][:2]:
        for count, length in ((1, 1500 * MILLISECOND), (-1, 3 * SECOND)):
            world.drop(cable, 0, count)
            world.drop(cable, 1, count)
            world.run_for(Duration(length))
    world.run_for(Duration(10 * SECOND))
    assert sorted(len(node(machine).linkstate.mine.adjacencies) for machine in world.machines) == [2] * 4 + [5] * 2
    installed.append("n5")
    world.stop_daemon(world.machines[5])
    world.start(world.machines[5])
    world.run_for(Duration(10 * SECOND))
    assert {len(node(machine).linkstate.mine.adjacencies) for machine in world.machines} == {5}
    assert not unrest(world, mesh.VIEWS)
