"""Expulsions in simulated meshes: partitions, admins who expel each other, restarts; all through real sessions."""

import pytest

from dmssd.sim import mesh
from dmssd.sim.world import Machine, World
from sansio.instant import MILLISECOND, SECOND
from tests.simulation.test_join import answer, founded, rest, token


def joined(text: str, seed: int) -> World:
    """Everybody in one mesh; the first three are admins."""
    world = founded(text, seed)
    answer(world, world.machines[0], "init", name="sim")
    ticket = token(world, uses=len(world.machines))
    for machine in world.machines[1:]:
        answer(world, machine, "join", peer=f"n{machine.number - 1}", token=ticket)
    rest(world, 20 * SECOND)
    return world


def expelled(world: World, machine: Machine) -> set[str]:
    standing = mesh.secure_of(machine.daemon).membership.standing
    return {world.by_node[node].name for node in standing.expelled}


def known(world: World, machine: Machine) -> set[str]:
    members = mesh.VIEWS.members(machine.daemon)
    return {world.by_node[node].name for node, state in members.items() if state in ("alive", "suspect")}


def until(world: World, claim, within: int) -> None:
    deadline = world.now + within
    while not claim():
        assert world.now < deadline
        world.run_for(100 * MILLISECOND)


def cut(world: World, side: set[int]) -> list:
    cables = [c for c in world.network.cables if len({c.ends[0][0] in side, c.ends[1][0] in side}) == 2]
    for cable in cables:
        world.unplug(cable)
    return cables


@pytest.mark.parametrize("seed", range(3))
def test_all_cut_an_expelled_member_off_and_their_databases_forget_it(seed: int):
    world = joined("ring:6", seed)
    out = world.machines[4]
    assert answer(world, world.machines[1], "expel", node="n4")["expelled"]
    rest_of = [machine for machine in world.machines if machine is not out]
    until(world, lambda: all(expelled(world, m) == {"n4"} for m in world.machines), 20 * SECOND)
    world.run_for(5 * SECOND)
    for machine in rest_of:
        assert known(world, machine) == {m.name for m in rest_of}
        assert out.node not in mesh.VIEWS.lsdb(machine.daemon)
    assert mesh.secure_of(out.daemon).membership.standing.expelled


@pytest.mark.parametrize("seed", range(3))
def test_a_member_expelled_while_it_was_cut_off_is_refused_and_told_when_it_comes_back(seed: int):
    world = joined("ring:6", seed)
    out = world.machines[4]
    cables = cut(world, {4})
    world.run_for(10 * SECOND)
    assert answer(world, world.machines[0], "expel", node="n4")["expelled"]
    world.run_for(5 * SECOND)
    for cable in cables:
        world.plug(cable)
    until(world, lambda: expelled(world, out) == {"n4"}, 30 * SECOND)
    for machine in world.machines:
        if machine is not out:
            assert "n4" not in known(world, machine)


@pytest.mark.parametrize("seed", range(4))
def test_admins_who_expel_each_other_in_a_partition_are_judged_alike_once_it_heals(seed: int):
    world = joined("line:3", seed)
    cables = cut(world, {2})
    world.run_for(10 * SECOND)
    # Each side has heard of nothing from the other; three members: one vote suffices.
    assert answer(world, world.machines[2], "expel", node="n0")["expelled"]
    assert answer(world, world.machines[0], "expel", node="n2")["expelled"]
    world.run_for(10 * SECOND)
    assert expelled(world, world.machines[1]) == {"n2"}
    assert expelled(world, world.machines[2]) == {"n0"}
    for cable in cables:
        world.plug(cable)
    until(world, lambda: all(expelled(world, m) == {"n2"} for m in world.machines), 60 * SECOND)
    until(
        world, lambda: known(world, world.machines[0]) == known(world, world.machines[1]) == {"n0", "n1"}, SECOND * 60
    )


def test_a_vote_to_expel_an_admin_waits_for_the_second_and_may_be_withdrawn():
    world = joined("ring:5", 1)
    first, second = world.machines[:2]
    assert not answer(world, first, "expel", node="n2")["expelled"]
    answer(world, first, "expel", node="n2", withdraw=True)
    world.run_for(5 * SECOND)
    assert answer(world, second, "expel", node="n2")["voters"] == ["n1"]
    answer(world, first, "expel", node="n2")
    until(world, lambda: all(expelled(world, m) == {"n2"} for m in world.machines), 20 * SECOND)


def test_every_member_knows_of_every_admission():
    world = joined("ring:8", 2)
    world.run_for(30 * SECOND)
    digests = {mesh.secure_of(machine.daemon).node.replica.digest for machine in world.machines}
    assert len(digests) == 1
    standing = mesh.secure_of(world.machines[5].daemon).membership.standing
    assert set(standing.admitted) == {machine.node for machine in world.machines}
