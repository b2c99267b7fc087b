"""What operators do in a running mesh comes true, whatever is broken meanwhile, and the checkers know what follows."""

import pytest

from dmssd.secure import SecureNode
from dmssd.sim import faults, mesh, shapes
from dmssd.sim.checkers import unrest
from dmssd.sim.faults import Fault
from dmssd.sim.operators import ANNOUNCED, DEFAULTS
from dmssd.sim.world import World
from routing.lsa import Prefix
from sansio.instant import MILLISECOND, SECOND

NEWCOMER, ADMIN = 3, 0


def started(text: str = "ring:5", strangers: frozenset[int] = frozenset(), plant: mesh.Plant | None = None) -> World:
    options = mesh.MeshOptions(processors=1, strangers=strangers, plant=plant)
    world = mesh.build(4, shapes.parse(text, 4), options)
    for machine in world.machines:
        world.start(machine)
    rest(world)
    return world


def rest(world: World, within: int = 30 * SECOND) -> None:
    deadline = world.now + within
    while reasons := unrest(world, mesh.VIEWS):
        assert world.now < deadline, [str(reason) for reason in reasons]
        world.run_for(100 * MILLISECOND)


def order(kind: str, *targets: int, amount: float = 0.0) -> Fault:
    return Fault(kind, 0, 0, targets, amount)


@pytest.mark.parametrize("approved", [0.0, 1.0])
@pytest.mark.parametrize("broken", ["nothing", "crash-daemon", "lost-disk"])
@pytest.mark.parametrize("at", [NEWCOMER, ADMIN])
def test_a_newcomer_is_let_in_though_a_daemon_or_a_disk_is_lost_meanwhile(approved: float, broken: str, at: int):
    world = started(strangers=frozenset({NEWCOMER}))
    newcomer = world.machines[NEWCOMER]
    assert newcomer.outside
    faults.begin(world, order("join", NEWCOMER, ADMIN, amount=approved))
    assert any(finding.text == "n3 has not been let in" for finding in unrest(world, mesh.VIEWS))
    if broken != "nothing":
        world.run_for(30 * MILLISECOND)
        faults.begin(world, order(broken, at))
        world.run_for(2 * SECOND)
        faults.end(world, order(broken, at))
    rest(world)
    assert not newcomer.outside
    assert all(newcomer.node in mesh.VIEWS.lsdb(machine.daemon) for machine in world.machines)


def test_one_that_is_expelled_while_it_is_cut_off_is_known_to_nobody_once_all_has_healed():
    world = started("ring:6")
    cut = order("partition", 2, 3)
    faults.begin(world, cut)
    world.run_for(3 * SECOND)
    faults.begin(world, order("expel", 3, 1))
    world.run_for(2 * SECOND)
    assert world.machines[3].outside
    faults.end(world, cut)
    assert unrest(world, mesh.VIEWS)
    rest(world)
    assert world.machines[3].running


@pytest.mark.parametrize("kind", ["grant", "rotate-key", "rotate-sessions"])
def test_an_order_to_one_whose_daemon_is_away_is_carried_out_when_it_is_back(kind: str):
    world = started()
    target = 1 if kind == "rotate-sessions" else 2
    before = world.machines[target].node
    crash = order("crash-daemon", target)
    faults.begin(world, crash)
    faults.begin(world, order(kind, target, ADMIN) if kind == "grant" else order(kind, target))
    world.run_for(3 * SECOND)
    assert [errand.done for errand in world.errands] == [False]
    faults.end(world, crash)
    rest(world)
    secure = mesh.secure_of(world.machines[target].daemon)
    if kind == "grant":
        assert secure.membership.is_admin
    elif kind == "rotate-key":
        assert world.machines[target].node != before
    else:
        assert {mesh.secure_of(machine.daemon).terms.epoch for machine in world.machines} == {1}


def test_announced_prefixes_gateways_and_filters_come_into_the_tables_and_go_again():
    world = started()
    orders = [
        order("announce", 1, 3),
        order("gateway", 2, amount=100.0),
        order("filter", 0, amount=2.0),
        order("settings", 4, 1),
    ]
    plain = [machine.kernel.programmed().keys() for machine in world.machines]
    for each in orders:
        faults.begin(world, each)
    assert unrest(world, mesh.VIEWS)
    rest(world)
    assert world.machines[4].kernel.programmed().keys() - plain[4] == {*ANNOUNCED, *DEFAULTS}
    assert world.machines[0].kernel.programmed().keys() == plain[0]
    for each in orders:
        faults.end(world, each)
    assert unrest(world, mesh.VIEWS)
    rest(world)
    assert [machine.kernel.programmed().keys() for machine in world.machines] == plain


def leads_out_by_whoever_is_near(secure: SecureNode) -> None:
    """A plant: a forwarder that forgets what is preferred."""
    forwarder = secure.node.forwarder
    assert forwarder is not None
    reconcile = forwarder._reconcile

    def careless(now):
        others = sorted(prefix for prefix in forwarder.wanted if not prefix.is_default)
        forwarder.wanted |= {prefix: forwarder.wanted[others[0]] for prefix in forwarder.wanted if prefix.is_default}
        return reconcile(now)

    forwarder._reconcile = careless


def test_a_default_route_by_the_wrong_way_is_reported():
    def unsettled(plant: mesh.Plant | None) -> list[str]:
        world = started("line:5", plant=plant)
        faults.begin(world, order("gateway", 4, amount=100.0))
        world.run_for(10 * SECOND)
        return [finding.text for finding in unrest(world, mesh.VIEWS)]

    assert unsettled(None) == []
    default = Prefix.parse("0.0.0.0/0")
    assert any(text.startswith(f"n1 sends {default} (n4)") for text in unsettled(leads_out_by_whoever_is_near))


def test_a_second_link_that_is_plugged_in_is_used_and_not_missed_when_it_is_pulled():
    shape = shapes.parse("ring:4", 4)
    both = (*shape.edges, shapes.Edge(shape.edges[0].a, shape.edges[0].b, 1, 1))
    world = mesh.build(4, shapes.Shape("a ring and one more", 4, both), mesh.MeshOptions(processors=1))
    world.unplug(world.network.cables[-1])
    for machine in world.machines:
        world.start(machine)
    rest(world)
    for act in (faults.begin, faults.end):
        act(world, order("second-link", 4))
        assert unrest(world, mesh.VIEWS)
        rest(world)


@pytest.mark.parametrize("number", [0, 1])
def test_an_admin_that_lost_its_disk_and_changes_its_key_at_once_leaves_all_whom_it_admitted_members(number: int):
    """It must not resign before it has learnt again what it signed: all memberships hang on that (seed 1221)."""
    world = started("line:4")
    lost = order("lost-disk", number)
    faults.begin(world, lost)
    world.run_for(2 * SECOND)
    faults.end(world, lost)
    faults.begin(world, order("rotate-key", number))
    rest(world)
    world.run_for(20 * SECOND)
    assert unrest(world, mesh.VIEWS) == []
    assert all(mesh.secure_of(machine.daemon).membership.standing.expelled for machine in world.machines)
