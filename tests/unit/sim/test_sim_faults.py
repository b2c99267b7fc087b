import pytest

from dmssd.sim import faults
from dmssd.sim.clock import seeded
from dmssd.sim.faults import Fault
from dmssd.sim.world import address_of
from sansio.instant import SECOND

KINDS = [
    Fault("link-down", 0, 1, (1,)),
    Fault("silent-drop", 0, 1, (1,)),
    Fault("one-way-drop", 0, 1, (1,), 1.0),
    Fault("partition", 0, 1, (0, 1)),
    Fault("loss-burst", 0, 1, (), 0.5),
    Fault("crash-daemon", 0, 1, (1,)),
    Fault("crash-machine", 0, 1, (1,)),
    Fault("stall-daemon", 0, 1, (1,)),
    Fault("clock", 0, 1, (1,), 86_400.0),
]


def state(world):
    cables = [(cable.unplugged, *cable.drops, *cable.bursts) for cable in world.network.cables]
    machines = [(m.powered, m.daemon is None, m.stalled, m.wall_error_s) for m in world.machines]
    carriers = [i.carrier for machine in world.machines for i in machine.kernel.interfaces.values()]
    return cables, machines, carriers


@pytest.mark.parametrize("fault", KINDS, ids=lambda fault: fault.kind)
def test_the_end_of_a_fault_undoes_its_beginning_and_nothing_else(toys, fault):
    world = toys.start(toys.build("ring:4"))
    before = state(world)
    faults.begin(world, fault)
    during = state(world)
    assert during != before
    faults.begin(world, fault)
    faults.end(world, fault)
    assert (during[0] == state(world)[0]) or fault.kind == "crash-daemon"
    faults.end(world, fault)
    assert state(world) == before


def test_a_partition_cuts_exactly_the_cables_between_the_sides(toys):
    world = toys.build("ring:4")
    faults.begin(world, Fault("partition", 0, 1, (0, 1)))
    assert [cable.usable for cable in world.network.cables] == [True, False, True, False]


def test_one_way_drop_silences_one_side_only(toys):
    world = toys.build("line:2")
    faults.begin(world, Fault("one-way-drop", 0, 1, (0,), 0.0))
    assert world.network.passes((0, 2), address_of(1, 2)) is None
    assert world.network.passes((1, 2), address_of(0, 2)) == (0, 2)


def test_a_drawn_plan_is_repeated_by_its_seed_and_ends_in_time(toys):
    world = toys.build("grid:4x4")
    plans = [faults.draw(seeded(f"{seed}"), world, 5, 10 * SECOND, 40 * SECOND) for seed in range(50)]
    assert plans[0] == faults.draw(seeded("0"), world, 5, 10 * SECOND, 40 * SECOND)
    assert all(len(plan) == 5 + 1 for plan in plans)
    assert all(10 * SECOND <= fault.begin < fault.end <= 40 * SECOND for plan in plans for fault in plan)
    assert all([fault.kind for fault in plan].count("clock") == 1 for plan in plans)
    assert {fault.kind for plan in plans for fault in plan} == {fault.kind for fault in KINDS} | {"torn-daemon"}


def test_an_unknown_fault_is_refused_with_those_there_are(toys):
    with pytest.raises(ValueError, match="there are link-down"):
        faults.begin(toys.build("line:2"), Fault("gremlin", 0, 1))
