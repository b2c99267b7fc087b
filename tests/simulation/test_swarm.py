"""A few worlds in which the seed chooses everything; `make soak SEEDS=500` runs more, and says how to repeat one."""

import pytest

from benchmarks.soak import run_swarm
from dmssd.sim import faults, shapes, swarm
from dmssd.sim.scenario import timeline_of_seconds


@pytest.mark.parametrize("seed", [3, 6, 7, 8])
def test_a_swarm_is_safe_under_faults_and_operators_and_heals(seed: int) -> None:
    command, report, _ = run_swarm(seed)
    findings = "\n".join(map(str, report.findings))
    assert not report.findings, f"{findings}\nrepeat with: {command}"
    assert report.healed_s is not None


def test_the_seeds_switch_on_everything_and_never_all_of_it() -> None:
    drawn = [swarm.by_seed(seed) for seed in range(200)]
    assert {kind for each in drawn for kind in each.kinds} == set(faults.KINDS) - {"clock"}
    assert {kind for each in drawn for kind in each.operators} == {"metric", "drain", "leave", "clock"}
    assert {each.liveness for each in drawn} == set(swarm.LIVENESS)
    assert {each.processors for each in drawn} == set(range(5))
    kinds = {each.shape.text.partition(":")[0] for each in drawn}
    assert kinds == {"ring", "random", "grid", "segment", "campus"}
    assert not any(set(each.kinds) == set(faults.KINDS) and len(each.operators) == 4 for each in drawn)


def test_the_same_seed_draws_the_same_plan() -> None:
    plans = []
    for _ in range(2):
        chosen = swarm.by_seed(9)
        plans.append(swarm.plan(chosen, swarm.build(chosen), timeline_of_seconds(chosen.seconds)))
    assert plans[0] == plans[1]


@pytest.mark.parametrize(("text", "node", "spare"), [("line:4", 1, False), ("line:4", 3, True), ("ring:5", 2, True)])
def test_only_a_node_that_the_others_do_not_need_is_let_go(text: str, node: int, spare: bool) -> None:
    assert swarm._is_spare(shapes.parse(text, 1), node) is spare
