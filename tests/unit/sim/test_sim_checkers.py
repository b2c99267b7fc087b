from dataclasses import replace

import pytest

from dmssd.settings import NodeSettings
from dmssd.sim import packets
from dmssd.sim.checkers import Bounds, FalseDeaths, Forwarding, unrest
from dmssd.sim.world import Errand
from routing.fib import Gateway, SetGroup, SetNexthop
from routing.lsa import Lsa, Prefix
from sansio.instant import MILLISECOND, SECOND

GRACE = Bounds().death_grace


def settled(toys, text="grid:3x3", seed=1):
    world = toys.start(toys.build(text, seed))
    toys.settle(world)
    return world


def watch(world, checker, duration):
    findings = []
    for _ in range(duration // (100 * MILLISECOND)):
        world.run_for(100 * MILLISECOND)
        findings += checker.check()
    return findings


def misroute(world, number, port_of, destination):
    """Have one machine send what is for ``destination`` out of the link towards ``port_of``."""
    kernel = world.machines[number].kernel
    for cable in world.network.cables:
        for side in (0, 1):
            (node, link), (peer, remote) = cable.ends[side], cable.ends[1 - side]
            if (node, peer) == (number, port_of):
                gateway = Gateway(link, world.machines[peer].kernel.interfaces[remote].packed)
                kernel.perform((SetNexthop(900, gateway), SetGroup(1000 + destination, ((900, 1),))))
                return
    raise AssertionError("no such cable")


# At rest


def test_a_perfect_world_is_at_rest(toys):
    assert unrest(settled(toys), toys.views) == []


@pytest.mark.parametrize("seed", range(6))
def test_packets_arrive_in_perfect_random_worlds(toys, seed):
    world = settled(toys, "random:12", seed)
    assert unrest(world, toys.views) == []
    for machine in world.machines:
        for prefix in machine.prefixes:
            assert not any(trace.problem for trace in packets.spread(world, prefix).values())


@pytest.mark.parametrize("state", ["suspect", "dead", "left"])
def test_a_member_not_held_alive_is_unrest(toys, state):
    world = settled(toys)
    world.machines[3].daemon.members[toys.node_of(5)] = state
    assert [finding.text for finding in unrest(world, toys.views)] == [f"n3 holds n5 {state}, which runs"]


def test_a_missing_and_a_differing_lsa_are_unrest(toys):
    world = settled(toys)
    del world.machines[0].daemon.lsdb[toys.node_of(1)]
    other = Lsa(toys.node_of(2), 1, "n2", (), ())
    world.machines[4].daemon.lsdb[toys.node_of(2)] = other
    texts = [finding.text for finding in unrest(world, toys.views)]
    assert texts == ["n0 has no LSA of n1", "n4 has sequence 1 [] of n2, which says sequence 1 []"]


def test_a_longer_way_is_unrest(toys):
    world = settled(toys, "ring:3", 4)
    misroute(world, 0, 1, 2)
    misroute(world, 1, 2, 0)
    texts = [finding.text for finding in unrest(world, toys.views) if finding.checker == "fib"]
    assert texts
    assert all("Bellman-Ford by" in text for text in texts)


def test_a_metric_that_the_routes_do_not_follow_is_unrest(toys):
    world = settled(toys, "ring:4")
    world.network.cables[0].metrics = (100, 100)
    assert {finding.checker for finding in unrest(world, toys.views)} == {"fib"}


def test_a_stranger_in_a_database_or_among_the_members_is_unrest_and_that_it_is_missing_is_none(toys):
    world = settled(toys, "ring:4")
    stranger, holder = world.machines[2], world.machines[0]
    world.set_outside(stranger, True)
    for machine in world.machines:
        machine.daemon.members[stranger.node] = "dead"
        lsa = machine.daemon.lsdb.pop(stranger.node)
    toys.program(world)
    assert unrest(world, toys.views) == []
    holder.daemon.members[stranger.node] = "suspect"
    holder.daemon.lsdb[stranger.node] = lsa
    assert [finding.text for finding in unrest(world, toys.views)] == [
        "n0 has an LSA of n2, which is no member",
        "n0 holds n2 a member, which it is not",
    ]


def test_what_an_operator_still_waits_for_is_unrest(toys):
    world = settled(toys)
    world.errands.append(Errand("n3 has its old key still"))
    assert [finding.text for finding in unrest(world, toys.views)] == ["n3 has its old key still"]
    world.errands[0].done = True
    assert unrest(world, toys.views) == []


def test_members_that_hold_other_statements_are_unrest(toys):
    world = settled(toys)
    behind = world.machines[4].daemon
    views = replace(toys.views, statements=lambda daemon: b"old" if daemon is behind else b"new")
    assert [finding.text for finding in unrest(world, views)] == ["other statements than n0 hold n4"]


def test_a_route_to_an_announced_prefix_that_is_not_programmed_is_unrest(toys):
    world = settled(toys, "line:3")
    behind = Prefix.parse("198.51.100.0/24")
    world.machines[2].settings = NodeSettings(name="n2", announce=(behind,))
    texts = [finding.text for finding in unrest(world, toys.views)]
    assert texts == [f"n{number} sends {behind} (n2) by [], Bellman-Ford by [{number + 2}]" for number in (0, 1)]


# False deaths


def test_a_death_that_nothing_excuses_is_found(toys):
    world = settled(toys)
    checker = FalseDeaths(world, toys.views, Bounds())
    assert watch(world, checker, GRACE + SECOND) == []
    world.machines[3].daemon.members[toys.node_of(5)] = "dead"
    world.run_for(100 * MILLISECOND)
    assert [finding.checker for finding in checker.check()] == ["false death"]


@pytest.mark.parametrize("excuse", ["crash", "stall", "partition", "burst"])
def test_a_death_within_the_grace_of_an_excuse_is_none_but_a_lasting_one_is(toys, excuse):
    world = settled(toys, "line:3")
    checker = FalseDeaths(world, toys.views, Bounds())
    watch(world, checker, GRACE + SECOND)
    victim, cable = world.machines[2], world.network.cables[1]
    begins = {
        "crash": lambda: world.stop_daemon(victim),
        "stall": lambda: world.stall(victim),
        "partition": lambda: world.drop(cable, 0, 1),
        "burst": lambda: world.begin_burst(cable, 0.2),
    }
    ends = {
        "crash": lambda: world.start(victim),
        "stall": lambda: world.resume(victim),
        "partition": lambda: world.drop(cable, 0, -1),
        "burst": lambda: world.end_burst(cable, 0.2),
    }
    begins[excuse]()
    assert watch(world, checker, 2 * SECOND) == []
    world.machines[0].daemon.members[toys.node_of(2)] = "dead"
    ends[excuse]()
    assert watch(world, checker, GRACE - SECOND) == []
    assert watch(world, checker, 2 * SECOND) != []


def test_a_cut_cable_with_a_way_round_excuses_nobody(toys):
    world = settled(toys, "ring:4")
    checker = FalseDeaths(world, toys.views, Bounds())
    watch(world, checker, GRACE + SECOND)
    world.unplug(world.network.cables[0])
    world.machines[0].daemon.members[toys.node_of(1)] = "dead"
    assert watch(world, checker, SECOND) != []


# Forwarding


def test_a_loop_that_lasts_is_found_and_named_once(toys):
    world = settled(toys, "line:4")
    checker = Forwarding(world, Bounds())
    watch(world, checker, 10 * SECOND)
    misroute(world, 2, 1, 3)
    assert watch(world, checker, Bounds().loop - SECOND) == []
    found = watch(world, checker, 2 * SECOND)
    assert {finding.checker for finding in found} == {"lasting loop"}
    assert any("n1 > n2 > n1" in finding.text for finding in found)
    assert watch(world, checker, 5 * SECOND) == []


def test_a_hole_that_lasts_is_found_and_says_where(toys):
    world = settled(toys, "line:4")
    checker = Forwarding(world, Bounds())
    watch(world, checker, 10 * SECOND)
    world.machines[1].kernel.forget()
    found = watch(world, checker, Bounds().hole + SECOND)
    assert {finding.checker for finding in found} == {"lasting black hole"}
    assert any("n0 > n1: no route" in finding.text for finding in found)


def test_a_hole_on_one_of_two_equal_cost_ways_is_found_whatever_the_flow_hash(toys):
    world = toys.start(toys.build("ring:4"))
    for cable in world.network.cables:
        cable.metrics = (1, 1)
    toys.settle(world)
    checker = Forwarding(world, Bounds())
    watch(world, checker, 10 * SECOND)
    world.machines[1].kernel.perform(())
    misroute(world, 1, 0, 2)
    assert any("n0 to n2 has looped" in finding.text for finding in watch(world, checker, 4 * SECOND))


def test_a_short_hole_is_measured_and_not_found(toys):
    world = settled(toys, "line:3")
    checker = Forwarding(world, Bounds())
    watch(world, checker, 10 * SECOND)
    world.machines[1].kernel.forget()
    assert watch(world, checker, SECOND) == []
    toys.program(world)
    assert watch(world, checker, 10 * SECOND) == []
    assert 0.8 * SECOND < checker.worst_hole <= SECOND


def test_unconnected_machines_are_not_judged(toys):
    world = settled(toys, "line:3")
    checker = Forwarding(world, Bounds())
    watch(world, checker, 10 * SECOND)
    world.drop(world.network.cables[0], 0, 1)
    assert watch(world, checker, 20 * SECOND) == []


def test_what_must_pass_a_machine_without_a_daemon_is_not_judged_and_what_need_not_is(toys):
    world = toys.start(toys.build("ring:4"))
    metrics = {0: (1, 1), 1: (1, 1), 2: (9, 9), 3: (9, 9)}
    for number, cable in enumerate(world.network.cables):
        cable.metrics = metrics[number]
    toys.settle(world)
    checker = Forwarding(world, Bounds())
    watch(world, checker, 10 * SECOND)
    world.stop_daemon(world.machines[1])
    world.machines[1].kernel.forget()  # 0 to 2 goes over 1, in truth too
    assert watch(world, checker, 20 * SECOND) == []
    misroute(world, 3, 0, 2)  # 3 to 2 is direct, but now goes over 1
    assert {finding.text[:8] for finding in watch(world, checker, 20 * SECOND)} == {"n3 to n2"}


@pytest.mark.parametrize("disturbed", [True, False])
def test_a_machine_without_a_daemon_must_stay_reachable_until_something_changes(toys, disturbed):
    world = settled(toys, "line:4")
    checker = Forwarding(world, Bounds())
    watch(world, checker, 10 * SECOND)
    world.stop_daemon(world.machines[3])
    world.run_for(SECOND)
    if disturbed:
        world.drop(world.network.cables[0], 0, 1)
        world.drop(world.network.cables[0], 0, -1)
    world.machines[2].kernel.forget()
    findings = watch(world, checker, 20 * SECOND)
    assert any(finding.text.startswith("n1 to n3") for finding in findings) != disturbed
    assert any(finding.text.startswith("n2 to n0") for finding in findings)


def test_a_packet_that_goes_round_uses_up_its_hop_limit(toys):
    world = settled(toys, "line:3")
    misroute(world, 1, 0, 2)
    trace = packets.send(world, 0, world.machines[2].prefixes[0], flow=1, hop_limit=10)
    assert trace.is_loop
    assert len(trace.path) == 11
