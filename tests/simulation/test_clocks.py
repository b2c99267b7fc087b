"""Clocks are not trusted: whatever they show and wherever they jump, not one event of a world is another."""

import random

from dmssd.sim import mesh, shapes
from dmssd.sim.checkers import unrest
from dmssd.sim.faults import CLOCK_JUMP_S, Fault
from dmssd.sim.scenario import Scenario, timeline_of_seconds
from dmssd.sim.world import WALL_ERRORS_S, World
from sansio.instant import SECOND, Duration, Instant, seconds
from tests.simulation.test_join import answer, rest, token

SEED, SHAPE, SECONDS = 7, "random:10", 18


def world_with(errors_s: list[float]) -> World:
    world = mesh.build(SEED, shapes.parse(SHAPE, SEED))
    for machine, error_s in zip(world.machines, errors_s, strict=True):
        machine.wall_error_s = error_s
    return world


def history(world: World, clocks: tuple[Fault, ...] = ()) -> tuple[str, int]:
    """What happened in a world with a crash and a cut, beside ``clocks``."""
    trouble = (
        Fault("crash-daemon", Instant(seconds(5)), Instant(seconds(7)), (3,)),
        Fault("silent-drop", Instant(seconds(6)), Instant(seconds(9)), (0,)),
    )
    report = Scenario(world, mesh.VIEWS, timeline_of_seconds(SECONDS)).run(plan=(*trouble, *clocks))
    assert report.findings == []
    return report.digest, report.events


RIGHT = [0.0] * 10


def test_boards_that_boot_in_1970_or_a_day_off_live_the_same_life_to_the_nanosecond() -> None:
    wrong = world_with([*WALL_ERRORS_S, *WALL_ERRORS_S, 0.0, 0.0])
    assert min(wrong.wall(machine) for machine in wrong.machines) < 2  # 1970
    assert history(wrong) == history(world_with(RIGHT))


def test_worlds_have_wrong_clocks_by_their_seed() -> None:
    worlds = [mesh.build(seed, shapes.parse("line:4", seed)) for seed in range(5)]
    assert {machine.wall_error_s for world in worlds for machine in world.machines} == set(WALL_ERRORS_S)


def test_a_clock_that_jumps_a_day_either_way_under_load_changes_nothing() -> None:
    jumps = tuple(
        Fault("clock", Instant(seconds(begin)), Instant(seconds(begin + 2)), (node,), amount)
        for node, begin, amount in ((0, 4, CLOCK_JUMP_S), (1, 5.5, -CLOCK_JUMP_S), (3, 6, CLOCK_JUMP_S), (2, 8, -1e9))
    )
    assert history(world_with(RIGHT), jumps) == history(world_with(RIGHT))


def test_a_daemon_that_goes_by_the_time_of_day_would_be_found_out() -> None:
    """The planted bug: jitter that hangs on the clock."""

    def planted(errors_s: list[float]) -> World:
        world = world_with(errors_s)
        boot = world._boot

        def boot_by_the_clock(start):
            daemon = boot(start)
            mesh.secure_of(daemon).node.swim._ground.rng = random.Random(start.wall())
            return daemon

        world._boot = boot_by_the_clock
        return world

    assert history(planted(RIGHT)) != history(planted([0.0, 86_400.0, *RIGHT[2:]]))


def test_members_that_join_while_clocks_jump_past_every_expiry_stay_members() -> None:
    """Certificates carry an expiry by their issuer's clock; it leads to renewal, never to eviction."""
    world = mesh.build(4, shapes.parse("ring:4", 4), mesh.MeshOptions(admitted=False))
    for machine, error_s in zip(world.machines, (86_400.0, -86_400.0, 0.0, -1.9e9), strict=True):
        machine.wall_error_s = error_s
        world.start(machine)
    world.run_for(SECOND)
    answer(world, world.machines[0], "init", name="sim")
    ticket = token(world, uses=4)
    for machine in world.machines[1:]:
        answer(world, machine, "join", peer=f"n{machine.number - 1}", token=ticket)
        world.shift_wall(machine, 2 * 400 * 86_400.0)
    rest(world, 20 * SECOND)
    world.shift_wall(world.machines[0], -2 * 400 * 86_400.0)
    world.run_for(Duration(20 * SECOND))
    assert unrest(world, mesh.VIEWS) == []
    lost = [name for _, name, notice in world.notices if notice.kind in ("member.suspect", "member.down")]
    assert lost == []
