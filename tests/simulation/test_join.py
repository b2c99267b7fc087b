"""Worlds in which everybody founds a mesh of one and joins by token, through real sessions and admission."""

import pytest

from dmssd.sim import mesh, shapes
from dmssd.sim.checkers import unrest
from dmssd.sim.world import Machine, World
from sansio.instant import MILLISECOND, SECOND


def founded(text: str, seed: int) -> World:
    world = mesh.build(seed, shapes.parse(text, seed), mesh.MeshOptions(admitted=False))
    for machine in world.machines:
        world.start(machine)
    world.run_for(SECOND)
    return world


def answer(world: World, machine: Machine, verb: str, within: int = 70 * SECOND, **arguments: object) -> object:
    number = world.request(machine, verb, **arguments)
    deadline = world.now + within
    while number not in machine.replies:
        assert world.now < deadline, f"{machine} never answered {verb}"
        world.run_for(10 * MILLISECOND)
    reply = machine.replies[number]
    assert reply.error is None, reply.error
    return reply.value


def token(world: World, uses: int = 1) -> str:
    return answer(world, world.machines[0], "token", uses=uses, ttl_s=600)["token"]


def rest(world: World, within: int) -> None:
    deadline = world.now + within
    while reasons := unrest(world, mesh.VIEWS):
        assert world.now < deadline, [str(reason) for reason in reasons]
        world.run_for(100 * MILLISECOND)


@pytest.mark.parametrize("text", ["line:5", "star:5", "random:8"])
def test_all_join_one_after_another_mostly_through_members_and_the_mesh_comes_to_rest(text):
    world = founded(text, 3)
    answer(world, world.machines[0], "init", name="sim")
    ticket = token(world, uses=len(world.machines))
    admitted = {0}
    through: set[str] = set()
    while len(admitted) < len(world.machines):
        machine, peer = next_joiner(world, admitted)
        value = answer(world, machine, "join", peer=peer.name, token=ticket)
        assert value["mesh_name"] == "sim"
        admitted.add(machine.number)
        through.add(peer.name)
    assert text == "star:5" or through - {"n0"}
    rest(world, 10 * SECOND)


def next_joiner(world: World, admitted: set[int]) -> tuple[Machine, Machine]:
    for cable in world.network.cables:
        for side in (0, 1):
            inside, outside = cable.ends[side][0], cable.ends[1 - side][0]
            if inside in admitted and outside not in admitted:
                return world.machines[outside], world.machines[inside]
    raise AssertionError("the shape is not connected")


def test_all_ask_at_once_and_wait_for_their_neighbours_to_become_members():
    world = founded("line:5", 4)
    answer(world, world.machines[0], "init", name="sim")
    ticket = token(world, uses=4)
    asked = [
        (machine, world.request(machine, "join", peer=f"n{machine.number - 1}", token=ticket))
        for machine in reversed(world.machines[1:])
    ]
    world.run_for(30 * SECOND)
    for machine, number in asked:
        assert machine.replies[number].error is None
    rest(world, 10 * SECOND)


def test_a_token_of_one_use_admits_one_and_the_refused_one_stays_in_its_own_mesh():
    world = founded("line:3", 5)
    ticket = token(world)
    answer(world, world.machines[1], "join", peer="n0", token=ticket)
    late = world.machines[2]
    number = world.request(late, "join", peer="n1", token=ticket, timeout_s=20)
    world.run_for(30 * SECOND)
    assert late.replies[number].error
    assert mesh.secure_of(late.daemon).credentials.mesh != mesh.secure_of(world.machines[0].daemon).credentials.mesh
    first, second = world.machines[:2]
    assert set(mesh.VIEWS.members(first.daemon)) == {first.node, second.node}


def test_a_member_that_joined_is_one_still_after_its_machine_crashed():
    world = founded("line:3", 6)
    ticket = token(world, uses=2)
    for number in (1, 2):
        answer(world, world.machines[number], "join", peer=f"n{number - 1}", token=ticket)
    rest(world, 10 * SECOND)
    world.stop_machine(world.machines[1])
    world.run_for(5 * SECOND)
    world.start(world.machines[1])
    rest(world, 20 * SECOND)


def test_a_member_that_leaves_is_left_and_not_dead_and_its_addresses_go():
    world = founded("ring:4", 7)
    ticket = token(world, uses=3)
    for number in (1, 2, 3):
        answer(world, world.machines[number], "join", peer=f"n{number - 1}", token=ticket)
    rest(world, 10 * SECOND)
    gone = world.machines[2]
    world.request(gone, "leave")
    world.run_for(5 * SECOND)
    assert gone.daemon is None
    for machine in (world.machines[0], world.machines[1], world.machines[3]):
        assert mesh.VIEWS.members(machine.daemon)[gone.node] == "left"


def test_who_asked_somebody_who_leads_nowhere_is_let_in_through_the_next_one():
    world = founded("ring:4", 8)
    founder, lost, newcomer, good = world.machines
    answer(world, founder, "init", name="sim")
    ticket = token(world, uses=4)
    answer(world, lost, "join", peer="n0", token=ticket)
    answer(world, good, "join", peer="n0", token=ticket)
    world.run_for(5 * SECOND)
    # The ring is open but for the newcomer: its one neighbour reaches nobody else.
    cable = next(each for each in world.network.cables if {each.ends[0][0], each.ends[1][0]} == {0, 1})
    world.unplug(cable)
    world.run_for(5 * SECOND)
    failed = world.request(newcomer, "join", peer="n1", token=ticket, timeout_s=5)
    world.run_for(10 * SECOND)
    assert "cannot be reached" in newcomer.replies[failed].error
    assert answer(world, newcomer, "join", peer="n3", token=ticket)["mesh_name"] == "sim"
