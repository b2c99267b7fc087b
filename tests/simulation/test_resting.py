"""A mesh at rest spares the disks of its boards: nothing is written and nothing logged though LSAs are renewed."""

from dmssd.sim import mesh, shapes
from dmssd.sim.mesh import secure_of
from dmssd.sim.world import World
from sansio.instant import SECOND, Duration

SEED = 3
"""One whose cables lose nothing."""
AWAKE_S, REST_S = 60, 25 * 60
"""LSAs are renewed after some twenty minutes."""


def test_a_mesh_at_rest_writes_nothing_and_says_nothing_while_lsas_are_renewed() -> None:
    world = mesh.build(SEED, shapes.parse("ring:4", SEED))
    for machine in world.machines:
        world.start(machine)
    world.run_for(Duration(AWAKE_S * SECOND))
    writes = [machine.disk.writes for machine in world.machines]
    assert all(writes), "what came up was not written down: there is nothing to compare with"
    sequences = own_sequences(world)
    world.notices.clear()

    world.run_for(Duration(REST_S * SECOND))

    assert all(now > before for now, before in zip(own_sequences(world), sequences, strict=True))
    assert [machine.disk.writes for machine in world.machines] == writes
    assert [(name, notice.kind) for _, name, notice in world.notices] == []


def own_sequences(world: World) -> list[int]:
    """Of each node's own LSA."""
    nodes = [secure_of(machine.daemon).node for machine in world.machines]
    return [node.linkstate.lsdb[node.me].sequence for node in nodes]
