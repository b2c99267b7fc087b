"""One identity on two machines at both ends of a line: they never meet, and everybody sees where both are.

And what must not be taken for it: restarts, lost and restored disks, partitions.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from dmssd import queries
from dmssd.sim import mesh, shapes
from dmssd.sim.disk import Disk
from dmssd.sim.world import Machine, World, prefixes_of
from routing.contest import SHOWN_FOR
from sansio.instant import SECOND
from tests.simulation.test_expelling import cut, until
from tests.simulation.test_join import rest

MEMBERSHIP = ("membership",)


def build(text: str, seed: int, monkeypatch: pytest.MonkeyPatch | None = None) -> World:
    """With ``monkeypatch``, the last machine has the identity and the addresses of the first; it is not started."""
    options = mesh.MeshOptions()
    shape = shapes.parse(text, seed)
    last = shape.nodes - 1
    if monkeypatch is not None:
        seed_of = mesh.identity_seed
        monkeypatch.setattr(mesh, "identity_seed", lambda seed, number: seed_of(seed, number % last))
        options = replace(
            options,
            adjust=lambda number, settings: (
                replace(settings, name="n0", prefixes=prefixes_of(0)) if number == last else settings
            ),
        )
    world = mesh.build(seed, shape, options)
    for machine in world.machines[:last] if monkeypatch else world.machines:
        world.start(machine)
    world.run_for(10 * SECOND)
    return world


def reasons(world: World, machine: Machine) -> list[str]:
    secure = mesh.secure_of(machine.daemon)
    status = queries.status(secure, queries.Surroundings("", world.now), {}, world.now)
    return [reason for reason in status["reasons"] if "two machines" in reason or "another machine" in reason]


def all_show(world: World, claim: Callable[[str], bool]) -> bool:
    return all(len(said := reasons(world, machine)) == 1 and claim(said[0]) for machine in world.machines)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("keeps", [None, MEMBERSHIP])
def test_clones_at_both_ends_of_a_line_are_shown_by_everybody_with_both_places(monkeypatch, seed, keeps):
    world = build("line:5", seed, monkeypatch)
    first, clone = world.machines[0], world.machines[4]
    disk = first.disk.read()
    clone.disk = Disk({key: value for key, value in disk.items() if keeps is None or key in keeps})
    world.start(clone)
    until(world, lambda: all_show(world, lambda said: "next to n1" in said and "next to n3" in said), 60 * SECOND)
    assert "this one, next to n1 (10.5.0.1, fd05::1), and one next to n3" in reasons(world, first)[0]
    assert "this one, next to n3 (10.5.0.1, fd05::1), and one next to n1" in reasons(world, clone)[0]
    sequence = mesh.secure_of(first.daemon).node.linkstate.mine.sequence
    world.run_for(60 * SECOND)
    assert mesh.secure_of(first.daemon).node.linkstate.mine.sequence - sequence < 240, "a few LSAs a second"
    world.stop_machine(clone)
    world.run_for(SHOWN_FOR + 30 * SECOND)
    assert reasons(world, first) == []
    for machine in world.machines[:4]:
        assert not any(lsa.contested for lsa in mesh.VIEWS.lsdb(machine.daemon).values())
        # Whoever took the second machine's session for a later start refuses the first one's, and says so.
        assert not [reason for reason in reasons(world, machine) if "next to" in reason]


def none_taken_for_two(world: World) -> bool:
    running = [machine for machine in world.machines if machine.daemon is not None]
    return not any(reasons(world, machine) for machine in running) and not any(
        lsa.contested for machine in running for lsa in mesh.VIEWS.lsdb(machine.daemon).values()
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lost", ["nothing", "all", "what came since"])
def test_restarts_in_quick_succession_with_lost_or_restored_disks_are_no_second_machine(seed, lost):
    world = build("ring:6", seed)
    victim = world.machines[3]
    old = victim.disk.read()
    for _ in range(8):
        world.stop_machine(victim)
        world.run_for(SECOND)
        if lost == "all":
            victim.disk = Disk({key: value for key, value in old.items() if key in MEMBERSHIP})
        elif lost == "what came since":
            victim.disk = Disk(old)
        world.start(victim)
        for _ in range(20):
            world.run_for(SECOND // 5)
            assert none_taken_for_two(world)
    rest(world, 60 * SECOND)
    assert none_taken_for_two(world)


@pytest.mark.parametrize("seed", range(3))
def test_parts_of_a_mesh_that_each_kept_another_lsa_of_one_who_lost_its_disk_are_no_second_machine(seed):
    world = build("star:9", seed)
    hub = world.machines[0]
    disk = {key: value for key, value in hub.disk.read().items() if key in MEMBERSHIP}
    cables = []
    for leaf in range(1, 9):
        cables += cut(world, {leaf})
        world.run_for(SECOND)  # each leaf keeps a later LSA of the hub than the one before
    world.stop_machine(hub)
    hub.disk = Disk(disk)
    world.run_for(SECOND)
    world.start(hub)
    for cable in cables:
        world.plug(cable)
        for _ in range(5):
            world.run_for(SECOND // 5)
            assert none_taken_for_two(world)
    rest(world, 60 * SECOND)
    assert none_taken_for_two(world)
