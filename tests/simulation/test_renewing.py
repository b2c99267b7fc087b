"""Certificates renewed by themselves while months go by, members away included; nobody loses a session over it."""

from dmssd.sim import mesh, shapes
from dmssd.sim.world import World
from sansio.instant import SECOND
from tests.simulation.test_expelling import until
from tests.simulation.test_join import answer, rest, token

LIFETIME_S = 400 * 86_400
BEGIN_S = 1_800_000_000


def expiry(world: World, number: int) -> int:
    return mesh.secure_of(world.machines[number].daemon).credentials.certificate.expiry


def test_members_show_new_certificates_long_before_the_old_expire_and_nothing_else_changes():
    years = [0.0]

    def with_clock(secure) -> None:
        secure.renewals._wall = lambda: BEGIN_S + years[0] * LIFETIME_S

    world = mesh.build(3, shapes.parse("ring:4", 3), mesh.MeshOptions(admitted=False, plant=with_clock))
    for machine in world.machines:
        world.start(machine)
    world.run_for(SECOND)
    answer(world, world.machines[0], "init", name="sim")
    ticket = token(world, uses=4)
    for machine in world.machines[1:]:
        answer(world, machine, "join", peer=f"n{machine.number - 1}", token=ticket)
    rest(world, 20 * SECOND)
    before = [expiry(world, number) for number in range(4)]
    assert before == [0] + [BEGIN_S + LIFETIME_S] * 3
    world.run_for(30 * SECOND)
    away = world.machines[3]
    world.stop_daemon(away)
    years[0] = 0.6
    up = {number: world.machines[number].starts for number in range(3)}
    world.run_for(3_700 * SECOND)
    for number in (1, 2):
        assert expiry(world, number) == int(BEGIN_S + 1.6 * LIFETIME_S)
    world.start(away)
    until(world, lambda: expiry(world, 3) == int(BEGIN_S + 1.6 * LIFETIME_S), 60 * SECOND)
    rest(world, 60 * SECOND)
    assert {number: world.machines[number].starts for number in range(3)} == up
