"""Random worlds: 16 nodes, 60 simulated seconds, 5 faults, drawn by the seed. `make soak` runs more of them."""

import pytest

from benchmarks.soak import run_seed

NODES, SECONDS, FAULTS = 16, 60, 5


@pytest.mark.parametrize("seed", range(20))
def test_a_random_world_is_safe_under_faults_and_heals(seed):
    command, report, _ = run_seed(seed, NODES, SECONDS, FAULTS, None)
    findings = "\n".join(map(str, report.findings))
    assert not report.findings, f"{findings}\nrepeat with: {command}"
    assert len(report.plan) == FAULTS + 1  # and a clock
    assert report.cold_start_s is not None
    assert report.healed_s is not None


def test_the_seeds_cover_every_shape_and_every_fault():
    from dmssd.sim import faults, mesh, shapes
    from dmssd.sim.scenario import draw_plan, timeline_of_seconds

    drawn = set()
    kinds = set()
    for seed in range(20):
        shape = shapes.parse(shapes.by_seed(seed, NODES), seed)
        kinds.add(shape.text.partition(":")[0])
        world = mesh.build(seed, shape)
        drawn |= {fault.kind for fault in draw_plan(world, timeline_of_seconds(SECONDS), FAULTS)}
    assert kinds == {"grid", "ring", "random"}
    assert drawn == set(faults.KINDS)
