"""Many Swim cores in virtual time: what must come about, and what must not."""

import random
from typing import Any

import pytest

from gossip.messages import PAYLOAD_BYTES_MAX
from gossip.swim import Left, MemberLeft, MemberSuspected, MemberUp, PathChanged, State, Swim
from sansio.ids import NodeId
from sansio.instant import SECOND
from tests.unit.gossip.swim_net import Net


def settled(count: int, seed: int, **options: float) -> Net:
    net = Net(count, seed, **options)  # type: ignore[arg-type]
    assert net.run(60, net.all_alive), f"seed {seed}: not all know all"
    net.run(5)
    return net


@pytest.mark.parametrize("seed", range(12))
def test_a_chain_of_acquaintances_becomes_a_mesh_where_all_know_all(seed: int) -> None:
    net = Net(24, seed)
    assert net.run(5, net.all_alive)
    names = {member.node: member.name for member in net.cores[net.nodes[0]].members()}
    assert names == net.names
    assert not net.refusals()


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_member_is_declared_dead_by_all_and_nobody_else_is(seed: int) -> None:
    net = settled(16, seed)
    victim = net.nodes[seed]
    start = net.now
    net.kill(victim)
    assert net.run(60, lambda: net.all_hold(victim, State.DEAD))
    assert net.now - start < 60 * SECOND
    net.run(30)
    assert sorted(node for _, node, _ in net.deaths()) == sorted(set(net.nodes) - {victim})
    assert {notice.node for _, _, notice in net.deaths()} == {victim}


@pytest.mark.parametrize(("seed", "loss"), [(1, 0.0), (3, 0.1), (4, 0.1), (5, 0.1)])
def test_nobody_is_declared_dead_who_is_not(seed: int, loss: float) -> None:
    net = settled(24, seed, loss=loss)
    net.run(90)
    assert not net.deaths()
    suspicions = [notice for _, _, notice in net.notices if isinstance(notice, MemberSuspected)]
    assert loss or not suspicions, "and without loss nobody is even suspected"
    assert net.longest <= PAYLOAD_BYTES_MAX


@pytest.mark.parametrize("seed", range(3))
def test_a_frozen_member_that_wakes_in_time_refutes_and_was_never_down(seed: int) -> None:
    net = settled(16, seed)
    victim = net.nodes[3]
    net.freeze(victim)
    assert net.run(20, lambda: net.all_hold(victim, State.SUSPECT))
    net.thaw(victim)
    assert net.run(10, net.all_alive)
    net.run(30)
    assert not net.deaths()


@pytest.mark.parametrize("seed", range(3))
def test_a_frozen_member_that_wakes_too_late_comes_back_and_takes_nobody_down(seed: int) -> None:
    net = settled(16, seed)
    victim = net.nodes[3]
    net.freeze(victim)
    assert net.run(60, lambda: net.all_hold(victim, State.DEAD))
    net.run(20)
    before = len(net.deaths())
    net.thaw(victim)
    assert net.run(20, net.all_alive)
    net.run(30)
    assert len(net.deaths()) == before, "its own old probes judge nobody"


@pytest.mark.parametrize("seed", range(3))
def test_a_partition_heals_and_the_healing_takes_nobody_down(seed: int) -> None:
    net = settled(16, seed)
    for index, node in enumerate(net.nodes):
        net.side[node] = index % 2
    net.run(90)
    assert len(net.deaths()) == 16 * 8, "each side holds the other dead"
    net.side.clear()
    assert net.run(30, net.all_alive)
    net.run(30)
    assert len(net.deaths()) == 16 * 8


def test_a_long_partition_heals() -> None:
    net = settled(6, 1)
    for index, node in enumerate(net.nodes):
        net.side[node] = index % 2
    net.run(1200)
    net.side.clear()
    assert net.run(60, net.all_alive)


def test_a_returning_route_heals_a_partition_at_once() -> None:
    net = settled(16, 1)
    for index, node in enumerate(net.nodes):
        net.side[node] = index % 2
    net.run(90)
    net.side.clear()
    start = net.now
    for node in net.nodes:
        for other in net.nodes:
            net.event(node, PathChanged(other))
    assert net.run(60, net.all_alive)
    assert net.now - start < 2 * SECOND


@pytest.mark.parametrize(("seed", "loss"), [(1, 0.0), (2, 0.0), (3, 0.1), (4, 0.1)])
def test_a_leaver_is_left_everywhere_and_dead_nowhere(seed: int, loss: float) -> None:
    net = settled(16, seed, loss=loss)
    leaver = net.nodes[5]
    net.leave(leaver)
    assert net.run(30, lambda: leaver in net.halted and net.all_hold(leaver, State.LEFT))
    net.run(90)
    assert net.all_hold(leaver, State.LEFT)
    assert not net.deaths()
    assert sorted(n for _, n, notice in net.notices if notice == MemberLeft(leaver)) == sorted(net.running())
    assert [n for _, n, notice in net.notices if isinstance(notice, Left)] == [leaver]


@pytest.mark.parametrize("seed", range(3))
def test_a_restarted_member_is_alive_everywhere_at_a_higher_incarnation(seed: int) -> None:
    net = settled(16, seed)
    victim = net.nodes[6]
    old = net.cores[victim].incarnation
    net.kill(victim)
    assert net.run(60, lambda: net.all_hold(victim, State.DEAD))
    net.start(victim)
    net.meet(victim, net.nodes[7])
    assert net.run(10, net.all_alive)
    assert net.cores[victim].incarnation > old
    assert len(net.deaths()) == 15


def test_a_member_that_lost_its_disk_learns_its_incarnation_from_the_first_answer() -> None:
    net = settled(8, 1)
    victim = net.nodes[6]
    for _ in range(3):  # three lives, so that it is held at an incarnation above a first one
        net.kill(victim)
        net.start(victim)
        net.meet(victim, net.nodes[5])
        assert net.run(10, net.all_alive)
    held = net.cores[victim].incarnation
    net.kill(victim)
    assert net.run(60, lambda: net.all_hold(victim, State.DEAD))
    net.stored.clear()
    net.start(victim)
    net.meet(victim, net.nodes[5])
    assert net.run(10, net.all_alive)
    assert net.cores[victim].incarnation > held


def test_one_that_left_comes_back() -> None:
    net = settled(8, 1)
    leaver = net.nodes[2]
    net.leave(leaver)
    assert net.run(10, lambda: net.all_hold(leaver, State.LEFT))
    net.start(leaver)
    net.meet(leaver, net.nodes[3])
    assert net.run(10, net.all_alive)
    assert not net.deaths()


def test_a_quick_restart_goes_unnoticed_by_all_but_its_incarnation() -> None:
    net = settled(8, 1)
    victim = net.nodes[2]
    net.kill(victim)
    net.start(victim)
    net.meet(victim, net.nodes[3])
    assert net.run(10, net.all_alive)
    net.run(60)
    assert not net.deaths()


def test_one_deaf_member_takes_nobody_down() -> None:
    """It hears nothing and suspects all (Lifeguard's case): local health slows it, and the others refute."""
    net = settled(16, 1)
    deaf = net.nodes[4]
    real = net.cores[deaf]

    class Deaf(Swim):
        pass

    rng = random.Random(1)
    start = net.now
    while net.now - start < 60 * SECOND:
        # Nine of ten seconds deaf, then a gulp.
        net.freeze(deaf)
        net.run(0.9 + rng.random() / 10)
        net.thaw(deaf)
        net.run(0.1)
    assert real.local_health > 0
    assert all(
        net.view(node)[other] is State.ALIVE for node in net.nodes for other in net.nodes if deaf not in (node, other)
    )
    assert {notice.node for _, _, notice in net.deaths()} <= {deaf}


def test_without_refutations_that_count_live_members_are_declared_dead() -> None:
    """The same network with a planted bug: the checks above can fail."""

    def stubborn(*arguments: Any) -> Swim:
        core = Swim(*arguments)
        core._claims._refute = lambda update, now: []
        return core

    net = Net(16, 1, loss=0.25, swim=stubborn)
    net.run(240)
    assert net.deaths()


def test_the_same_seed_gives_the_same_history() -> None:
    one, other = Net(12, 9, loss=0.1), Net(12, 9, loss=0.1)
    one.run(40)
    other.run(40)
    assert one.notices == other.notices
    assert one.sent_bytes == other.sent_bytes


def test_at_rest_a_member_sends_a_ping_and_an_ack_a_period() -> None:
    net = settled(16, 1)
    net.run(30)
    before, bytes_before = dict(net.sent), dict(net.sent_bytes)
    net.run(140)
    periods = 200
    for node in net.nodes:
        assert (net.sent[node] - before[node]) / periods < 2.2
        assert (net.sent_bytes[node] - bytes_before[node]) / periods < 40
    assert not [n for at, _, n in net.notices if isinstance(n, MemberUp) and at > 60 * SECOND]


def test_lost_news_is_repaired_by_push_pull() -> None:
    net = settled(8, 1)
    outside: NodeId = net.nodes[0]
    net.side[outside] = 1
    net.run(2)  # too short for anyone to die
    leaver = net.nodes[5]
    net.leave(leaver)
    net.run(1)
    net.side.clear()
    assert net.run(90, lambda: net.all_hold(leaver, State.LEFT))
