"""A few worlds in which the seed chooses everything; `make soak SEEDS=500` runs more, and says how to repeat one."""

from dataclasses import replace

import pytest

from benchmarks.soak import run_swarm
from dmssd.sim import faults, operators, shapes, swarm
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
    assert {kind for each in drawn for kind in each.operators} == {*swarm.OPERATORS, *operators.KINDS}
    assert {each.measured for each in drawn} == {False, True}
    assert {each.liveness for each in drawn} == set(swarm.LIVENESS)
    assert {each.processors for each in drawn} == set(range(5))
    kinds = {each.shape.text.partition(":")[0] for each in drawn}
    assert kinds == {"ring", "random", "grid", "segment", "campus"}
    assert all(len(each.operators) < len(swarm.OPERATORS) + len(operators.KINDS) for each in drawn)


def test_what_was_added_later_leaves_the_faults_of_a_seed_as_they_were() -> None:
    for seed in range(20):
        chosen = swarm.by_seed(seed)
        old = tuple(kind for kind in chosen.operators if kind in swarm.OPERATORS)
        plain = replace(chosen, operators=old, cast={kind: who for kind, who in chosen.cast.items() if kind in old})
        world, timeline = swarm.build(chosen), timeline_of_seconds(chosen.seconds)
        plan = [fault for fault in swarm.plan(chosen, world, timeline) if fault.kind not in operators.KINDS]
        assert tuple(plan) == swarm.plan(plain, world, timeline)


def test_the_same_seed_draws_the_same_plan() -> None:
    plans = []
    for _ in range(2):
        chosen = swarm.by_seed(9)
        plans.append(swarm.plan(chosen, swarm.build(chosen), timeline_of_seconds(chosen.seconds)))
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("text", "nodes", "spare"),
    [
        ("line:4", {1}, False),
        ("line:4", {3}, True),
        ("line:4", {2, 3}, False),
        ("ring:5", {2}, True),
        ("ring:5", {2, 4}, False),
        ("ring:5", {2, 3}, True),
    ],
)
def test_only_nodes_that_the_others_do_not_need_are_let_go(text: str, nodes: set[int], spare: bool) -> None:
    assert swarm._are_spare(shapes.parse(text, 1), nodes) is spare
