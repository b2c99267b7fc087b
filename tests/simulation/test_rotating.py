"""All sessions of a mesh replaced while it works: every message arrives, nobody notices, and there is no storm."""

from collections import Counter
from dataclasses import dataclass, field

import pytest

from dmssd.secure import SecureNode
from dmssd.security.sessions import Opened, Outgoing, SessionUp, Transmit
from dmssd.sim import mesh, shapes
from dmssd.sim.world import Machine, World
from sansio.ids import NodeId
from sansio.instant import SECOND, Instant
from tests.simulation.test_expelling import cut, until
from tests.simulation.test_join import answer, rest

HANDSHAKES_PER_SECOND_MAX = 20
NOTICED = ("neighbour.down", "neighbour.up", "member.suspect", "member.down", "session.failed")


@dataclass
class Wiretap:
    """Stands at the door of each node's sessions."""

    said: Counter[tuple[NodeId, NodeId, bytes]] = field(default_factory=Counter)
    heard: Counter[tuple[NodeId, NodeId, bytes]] = field(default_factory=Counter)
    begun: Counter[tuple[NodeId, int]] = field(default_factory=Counter)
    up: list[SessionUp] = field(default_factory=list)

    def plant(self, secure: SecureNode) -> None:
        handle, me = secure.sessions.handle, secure.credentials.identity.node

        def tapped(event, now: Instant):
            if isinstance(event, Outgoing):
                self.said[me, event.peer, event.plaintext] += 1
            actions = handle(event, now)
            for action in actions:
                match action:
                    case Opened(peer, _, plaintext):
                        self.heard[peer, me, plaintext] += 1
                    case Transmit(_, payload) if payload[1] == 1:
                        self.begun[me, now // SECOND] += 1
                    case SessionUp():
                        self.up.append(action)
            return actions

        secure.sessions.handle = tapped

    def clear(self) -> None:
        self.__init__()


def at_rest(text: str, seed: int) -> tuple[World, Wiretap]:
    tap = Wiretap()
    world = mesh.build(seed, shapes.parse(text, seed), mesh.MeshOptions(plant=tap.plant))
    for machine in world.machines:
        world.start(machine)
    world.run_for(5 * SECOND)
    rest(world, 20 * SECOND)
    return world, tap


def epochs(world: World) -> set[int]:
    return {mesh.secure_of(machine.daemon).terms.epoch for machine in world.machines if machine.daemon}


def behind(world: World) -> int:
    return sum(mesh.secure_of(machine.daemon).sessions.ages()[1] for machine in world.machines if machine.daemon)


@pytest.mark.parametrize(("text", "seed"), [("ring:6", 1), ("random:12", 2), ("star:16", 3)])
def test_a_rotation_loses_no_message_flaps_nothing_and_is_no_storm(text: str, seed: int):
    world, tap = at_rest(text, seed)
    world.run_for(60 * SECOND)
    tap.clear()
    world.notices.clear()
    rejected = Counter(world.rejected)
    assert answer(world, world.machines[0], "rotate-sessions", lifetime_s=3_600) == {"epoch": 1, "lifetime_s": 3_600}
    until(world, lambda: epochs(world) == {1}, 5 * SECOND)
    assert behind(world) > len(world.machines)
    until(world, lambda: behind(world) == 0, 120 * SECOND)
    said = Counter(tap.said)
    world.run_for(SECOND)
    assert not said - tap.heard, "whatever was said during the rotation was heard"
    assert not Counter(world.rejected) - rejected
    assert not [notice for _, _, notice in world.notices if notice.kind in NOTICED]
    assert not [up for up in tap.up if up.restarted]
    assert 0 < max(tap.begun.values()) <= HANDSHAKES_PER_SECOND_MAX
    sessions = sum(mesh.secure_of(machine.daemon).sessions.ages()[0] for machine in world.machines) // 2
    assert sum(tap.begun.values()) <= 1.2 * sessions + 1, "about one handshake for each"


def test_sessions_are_replaced_again_when_they_have_grown_old():
    world, tap = at_rest("ring:4", 5)
    answer(world, world.machines[1], "rotate-sessions", lifetime_s=120)
    until(world, lambda: epochs(world) == {1} and behind(world) == 0, 60 * SECOND)
    tap.clear()
    world.notices.clear()
    world.run_for(110 * SECOND)
    quiet = sum(tap.begun.values())
    world.run_for(900 * SECOND)
    sessions = sum(mesh.secure_of(machine.daemon).sessions.ages()[0] for machine in world.machines) // 2
    assert quiet < sessions
    assert 6 * sessions <= sum(tap.begun.values()) <= 9 * sessions
    assert not [notice for _, _, notice in world.notices if notice.kind in NOTICED]


def test_members_that_were_away_or_cut_off_rotate_when_they_are_back():
    world, _ = at_rest("ring:6", 7)
    away = world.machines[4]
    world.stop_daemon(away)
    cables = cut(world, {2})
    world.run_for(10 * SECOND)
    answer(world, world.machines[0], "rotate-sessions")
    world.run_for(10 * SECOND)
    assert epochs(world) == {0, 1}
    world.start(away)
    for cable in cables:
        world.plug(cable)
    until(world, lambda: epochs(world) == {1} and behind(world) == 0, 120 * SECOND)
    rest(world, 20 * SECOND)
    world.stop_machine(world.machines[0])
    world.run_for(SECOND)
    world.start(world.machines[0])
    until(world, lambda: epochs(world) == {1} and behind(world) == 0, 120 * SECOND)


def test_only_an_admin_rotates_and_two_at_once_come_to_the_same():
    world, _ = at_rest("ring:4", 8)
    number = world.request(world.machines[3], "rotate-sessions")
    assert "admin" in world.machines[3].replies[number].error
    numbers = [world.request(world.machines[n], "rotate-sessions", lifetime_s=600 * (n + 1)) for n in (0, 1)]
    world.run_for(2 * SECOND)
    assert [world.machines[n].replies[numbers[n]].value["epoch"] for n in (0, 1)] == [1, 1]
    (terms,) = {mesh.secure_of(machine.daemon).terms for machine in world.machines}
    assert terms.lifetime_s == 600 * (1 + max((0, 1), key=lambda n: world.machines[n].node))


def test_terms_outlive_the_key_of_the_admin_that_stated_them():
    world, _ = at_rest("ring:4", 9)
    admin = world.machines[1]
    answer(world, admin, "rotate-sessions", lifetime_s=7_200)
    until(world, lambda: epochs(world) == {1} and behind(world) == 0, 60 * SECOND)
    before = mesh.secure_of(admin.daemon).node.me
    answer(world, admin, "rotate-key")
    until(world, lambda: all(before in expelled_ids(world, machine) for machine in world.machines), 60 * SECOND)
    world.run_for(10 * SECOND)
    terms = {mesh.secure_of(machine.daemon).terms for machine in world.machines}
    assert {(each.epoch, each.lifetime_s) for each in terms} == {(1, 7_200)}
    assert behind(world) == 0


def expelled_ids(world: World, machine: Machine) -> set[NodeId]:
    return set(mesh.secure_of(machine.daemon).membership.standing.expelled)
