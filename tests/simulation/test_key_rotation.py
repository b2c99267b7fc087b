"""A machine gets another key while it runs: simulated meshes in which every packet is followed all the while."""

import pytest

from dmssd.rules.rotation import LINGER
from dmssd.sim import mesh, shapes
from dmssd.sim.checkers import Bounds, Forwarding, unrest
from dmssd.sim.mesh import MeshOptions, secure_of
from dmssd.sim.world import Machine, World
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration

SETTLED = Duration(15 * SECOND)
RESIGNED = Duration(10 * SECOND)


def at_rest(text: str, seed: int) -> World:
    world = mesh.build(seed, shapes.parse(text, seed), MeshOptions())
    for machine in world.machines:
        world.start(machine)
    world.run_for(SETTLED)
    assert unrest(world, mesh.VIEWS) == []
    return world


def watched(world: World, time: int) -> Forwarding:
    """Let time go on, and follow all packets each millisecond."""
    forwarding = Forwarding(world, Bounds())
    assert forwarding.check() == []
    for _ in range(time // MILLISECOND):
        world.run_for(Duration(MILLISECOND))
        forwarding.check()
    return forwarding


def rotated(world: World, machine: Machine) -> tuple[NodeId, NodeId]:
    before = machine.node
    asked = world.request(machine, "rotate-key")
    forwarding = watched(world, RESIGNED)
    reply = machine.replies[asked]
    assert reply.error is None
    assert reply.value == {"node": machine.node.hex(), "before": before.hex(), "name": machine.name}
    assert (forwarding.worst_hole, forwarding.worst_loop) == (0, 0)
    return before, machine.node


def addresses(machine: Machine) -> tuple:
    return secure_of(machine.daemon).node.addresses


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("line:5", 2),
        ("line:5", 0),
        ("ring:5", 3),
        ("grid:3x3", 4),
        ("segment:8", 0),
        ("segment:8", 5),
        ("campus:10", 3),
    ],
)
def test_no_packet_is_lost_while_a_machine_changes_its_key_and_everybody_knows_it_under_the_new_one(text, number):
    world = at_rest(text, number)
    machine = world.machines[number]
    claimed = addresses(machine)
    before, now = rotated(world, machine)
    assert before != now
    assert addresses(machine) == claimed
    assert unrest(world, mesh.VIEWS) == []
    for each in world.machines:
        secure = secure_of(each.daemon)
        assert before in secure.membership.standing.expelled
        assert before not in mesh.VIEWS.members(each.daemon)
        assert secure.node.names.called(machine.name) == [now]


def test_what_an_admin_did_under_its_old_key_counts_and_it_is_an_admin_still():
    world = at_rest("ring:6", 1)
    founder = world.machines[0]
    rotated(world, founder)
    assert secure_of(founder.daemon).membership.is_admin
    asked = world.request(founder, "expel", node="n4")
    world.run_for(Duration(10 * SECOND))
    assert founder.replies[asked].value["expelled"]
    for each in world.machines:
        assert world.machines[4].node in secure_of(each.daemon).membership.standing.expelled


def test_a_key_is_changed_again_and_again():
    world = at_rest("line:3", 2)
    machine = world.machines[2]
    seen = {machine.node}
    for _ in range(3):
        seen.add(rotated(world, machine)[1])
    assert len(seen) == 4
    assert unrest(world, mesh.VIEWS) == []


def test_all_machines_change_their_keys_at_once_and_the_mesh_comes_to_rest():
    world = at_rest("grid:3x3", 3)
    before = {machine.node for machine in world.machines}
    asked = {machine.name: (machine, world.request(machine, "rotate-key")) for machine in world.machines}
    world.run_for(Duration(30 * SECOND))
    assert all(machine.replies[number].error is None for machine, number in asked.values())
    assert not before & {machine.node for machine in world.machines}
    assert unrest(world, mesh.VIEWS) == []


def test_without_an_admin_the_old_key_serves_until_one_is_there():
    world = at_rest("line:4", 4)
    machine = world.machines[3]
    for admin in world.machines[:2]:
        world.stop_daemon(admin)
    world.run_for(Duration(5 * SECOND))
    before = machine.node
    asked = world.request(machine, "rotate-key", timeout_s=5)
    world.run_for(Duration(10 * SECOND))
    assert "no admin of the mesh has answered" in (machine.replies[asked].error or "")
    assert secure_of(machine.daemon).node.me == before
    # A restart forgets nothing of it.
    world.stop_daemon(machine)
    world.start(machine)
    world.start(world.machines[1])
    world.run_for(Duration(60 * SECOND))
    assert machine.node != before
    assert secure_of(machine.daemon).node.me == machine.node
    world.start(world.machines[0])
    world.run_for(Duration(30 * SECOND))
    assert unrest(world, mesh.VIEWS) == []


@pytest.mark.parametrize("delay_ms", [0, 50, 120, 180, 240, 250, 270, 300, 400, 2_000])
def test_a_crash_at_any_moment_leaves_the_machine_with_one_of_its_keys_and_the_mesh_whole(delay_ms):
    world = at_rest("ring:5", 5)
    machine = world.machines[2]
    before = machine.node
    world.request(machine, "rotate-key")
    world.run_for(Duration(delay_ms * MILLISECOND))
    world.stop_daemon(machine, torn=True)
    world.run_for(Duration(2 * SECOND))
    world.start(machine)
    world.run_for(Duration(60 * SECOND))
    assert secure_of(machine.daemon).node.me == machine.node
    assert machine.node != before  # once stated, it is carried through
    assert unrest(world, mesh.VIEWS) == []


def test_a_member_that_keeps_its_old_key_is_voted_out_of_it_after_an_hour():
    world = at_rest("line:3", 6)
    machine = world.machines[2]
    before = machine.node
    world.request(machine, "rotate-key")
    world.run_for(Duration(SECOND))
    assert machine.node != before
    # Its daemon is gone for good before the old key has resigned, and so is what it would say at the next start.
    admin, *others = world.machines
    for other in others:
        world.stop_daemon(other)
    membership = secure_of(admin.daemon).membership
    world.run_for(Duration(10 * SECOND))
    assert before not in membership.standing.expelled
    world.run_for(Duration(LINGER + 60 * SECOND))
    assert membership.standing.expelled.keys() == {before}
