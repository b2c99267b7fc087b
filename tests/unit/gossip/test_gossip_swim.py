"""One Swim core, hand-fed."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from gossip import ground, probing, pushpull, speech
from gossip.members import INCARNATION_MAX, Standing
from gossip.messages import (
    MESSAGE_CODEC,
    PAYLOAD_BYTES_MAX,
    Ack,
    Gossip,
    Leave,
    Message,
    Nack,
    Ping,
    PingReq,
    SyncPage,
    SyncRequest,
    Update,
)
from gossip.suspicion import bounds
from gossip.swim import (
    Configured,
    Datagram,
    LeaveRequested,
    Left,
    MemberDown,
    MemberLeft,
    MembersExpelled,
    MemberSuspected,
    MemberUp,
    PathChanged,
    PeerMet,
    Refuted,
    Send,
    Started,
    State,
    Swim,
    SwimAction,
    SwimConfig,
)
from sansio.core import Persist, Rejected, Wake
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant
from tests.unit.gossip.swim_net import identity

ME, A, B, C, D, E = (identity(n) for n in range(1, 7))
CONFIG = SwimConfig()
PERIOD = CONFIG.period


class Bench:
    """A core, its clock, and what it said."""

    def __init__(self, stored: bytes | None = None, hops: Callable[[NodeId], int | None] = lambda _: 1) -> None:
        self.core = Swim(ME, "me", CONFIG, random.Random(1), stored, hops)
        self.now = Instant(0)
        self.actions: list[SwimAction] = []
        self.do(self.core.handle(Started(), self.now))

    def do(self, actions: Sequence[SwimAction]) -> list[SwimAction]:
        self.actions += actions
        return list(actions)

    def meet(self, *nodes: NodeId) -> None:
        for node in nodes:
            self.do(self.core.handle(PeerMet(node, f"name-{node[1]}"), self.now))

    def hear(self, source: NodeId, message: Message) -> list[SwimAction]:
        return self.do(self.core.handle(Datagram(source, MESSAGE_CODEC.encode(message)), self.now))

    def gossip(self, source: NodeId, *updates: Update) -> list[SwimAction]:
        return self.hear(source, Gossip(0, updates))

    def wake(self) -> list[SwimAction]:
        at = self.core.deadline()
        assert at is not None
        self.now = Instant(max(self.now, at))
        return self.do(self.core.handle(Wake(), self.now))

    def until(self, wanted: Callable[[SwimAction], bool], seconds: float = 60.0) -> SwimAction:
        end = self.now + round(seconds * SECOND)
        while True:
            found = [action for action in self.wake() if wanted(action)]
            if found:
                return found[0]
            assert self.now < end, "did not happen"

    def until_all(self, kind: type[Message], count: int) -> list[SwimAction]:
        """Wake until ``count`` messages of that kind were sent, and return everything done meanwhile."""
        done: list[SwimAction] = []
        while len(sent(done, kind)) < count:
            done += self.wake()
        return done

    def answer_syncs(self, seconds: float) -> None:
        """Let time pass while whoever is asked for a push-pull says that nothing differs."""
        end = self.now + round(seconds * SECOND)
        for to, _ in sent(self.actions, SyncRequest):
            self.hear(to, SyncPage(0, (), b"", b"", 0))
        while (at := self.core.deadline()) is not None and at <= end:
            for to, _ in sent(self.wake(), SyncRequest):
                self.hear(to, SyncPage(0, (), b"", b"", 0))

    def idle(self, seconds: float) -> list[SwimAction]:
        end = self.now + round(seconds * SECOND)
        done: list[SwimAction] = []
        while (at := self.core.deadline()) is not None and at <= end:
            done += self.wake()
        self.now = Instant(end)
        return done

    def state(self, node: NodeId) -> State | None:
        return next((member.state for member in self.core.members() if member.node == node), None)


def sent(actions: Sequence[SwimAction], kind: type[Message]) -> list[tuple[NodeId, Message]]:
    pairs = [(a.to, MESSAGE_CODEC.decode(a.payload, "me")) for a in actions if isinstance(a, Send)]
    return [(to, message) for to, message in pairs if isinstance(message, kind)]


def is_sent(kind: type[Message], to: NodeId) -> Callable[[SwimAction], bool]:
    return lambda action: any(target == to for target, _ in sent([action], kind))


def probe(bench: Bench, target: NodeId) -> Ping:
    """Let the core probe ``target`` and return that ping; others are answered."""
    while True:
        for to, ping in sent(bench.wake(), Ping):
            assert isinstance(ping, Ping)
            if to == target:
                return ping
            bench.hear(to, Ack(0, ping.sequence, ()))


def suspected(bench: Bench, node: NodeId, incarnation: int = 0, by: NodeId | None = None) -> Update:
    return Update(node, incarnation, State.SUSPECT, "x", by)


def notices(actions: Sequence[SwimAction]) -> list[SwimAction]:
    return [action for action in actions if not isinstance(action, Send)]


# Acquaintance


def test_start_reserves_incarnations_on_disk_above_those_stored() -> None:
    bench = Bench(stored=(1000).to_bytes(8, "big"))
    [persist] = [action for action in bench.actions if isinstance(action, Persist)]
    assert persist.key == "incarnation"
    assert 1000 < bench.core.incarnation < int.from_bytes(persist.value, "big")


def test_any_first_event_starts_the_core() -> None:
    core = Swim(ME, "me", CONFIG, random.Random(1), None, lambda _: 1)
    assert core.deadline() is None
    assert MemberUp(A, "a") in core.handle(PeerMet(A, "a"), Instant(5))
    assert core.deadline() is not None
    assert core.incarnation > 0


def test_a_peer_met_is_up_and_asked_for_its_table_once() -> None:
    bench = Bench()
    bench.meet(A, A)
    assert notices(bench.actions)[1:] == [MemberUp(A, "name-2")]
    assert [to for to, _ in sent(bench.actions, SyncRequest)] == [A]


def test_members_lists_this_node_first() -> None:
    bench = Bench()
    bench.meet(A)
    assert [(m.node, m.name, m.state) for m in bench.core.members()] == [
        (ME, "me", State.ALIVE),
        (A, "name-2", State.ALIVE),
    ]


def test_meeting_ourselves_changes_nothing() -> None:
    bench = Bench()
    assert bench.do(bench.core.handle(PeerMet(ME, "me"), bench.now)) == []
    assert len(bench.core.members()) == 1


def test_an_authenticated_unknown_source_is_a_member() -> None:
    bench = Bench()
    actions = bench.hear(A, Ping(7, 1, ()))
    assert notices(actions)[0] == MemberUp(A, "")
    assert len(notices(actions)) == 1
    assert sent(actions, Ack)
    bench.meet(A)
    assert bench.core.members()[1].name == "name-2", "its name is filled in when it is known"


def test_unknown_members_in_updates_are_added() -> None:
    bench = Bench()
    bench.meet(A)
    assert MemberUp(B, "b") in bench.gossip(A, Update(B, 3, State.ALIVE, "b"))


def test_a_full_table_refuses_newcomers_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground, "MEMBERS_MAX", 1)
    bench = Bench()
    bench.meet(A, B)
    assert Rejected(B[:4].hex(), "member table is full") in bench.actions
    assert Rejected(A[:4].hex(), "member table is full") in bench.gossip(A, Update(C, 3, State.ALIVE, "c"))
    assert bench.hear(D, Ping(1, 1, ())) == [Rejected(D[:4].hex(), "member table is full")], "and is not answered"
    assert len(bench.core.members()) == 2


def test_an_unsent_sync_is_asked_again_a_bounded_number_of_times() -> None:
    bench = Bench()
    bench.meet(A)
    bench.idle(20)
    asked = len(sent(bench.actions, SyncRequest))
    assert asked == pushpull.SYNC_TRIES_MAX


def test_an_answered_sync_is_not_asked_again() -> None:
    bench = Bench()
    bench.meet(A)
    bench.answer_syncs(2)
    assert len(sent(bench.actions, SyncRequest)) == 2, "one for the meeting, one because the mesh has grown"
    bench.idle(4)
    assert len(sent(bench.actions, SyncRequest)) == 2


def test_a_push_pull_that_found_a_difference_is_followed_by_another_until_none_does() -> None:
    bench = Bench()
    bench.meet(A, B, C)
    bench.answer_syncs(5)
    asked = len(sent(bench.actions, SyncRequest))
    bench.hear(A, SyncPage(0, (), b"", b"\xff" * 20, 1))
    bench.answer_syncs(5)
    assert len(sent(bench.actions, SyncRequest)) == asked + 1


# Bad input


@pytest.mark.parametrize(
    ("source", "payload", "reason"),
    [
        (A, b"", "swim message cannot be decoded"),
        (A, b"\xc1" * 40, "swim message cannot be decoded"),
        (A, b"\x00" * 1300, "swim message is too long"),
        (ME, MESSAGE_CODEC.encode(Gossip(0, ())), "swim message from ourselves"),
    ],
)
def test_bad_datagrams_are_rejected_and_change_nothing(source: NodeId, payload: bytes, reason: str) -> None:
    bench = Bench()
    assert bench.do(bench.core.handle(Datagram(source, payload), bench.now)) == [Rejected(source[:4].hex(), reason)]
    assert len(bench.core.members()) == 1


def test_an_ack_from_a_third_member_ends_no_probe() -> None:
    bench = Bench()
    bench.meet(A, B)
    ping = probe(bench, A)
    assert Rejected(B[:4].hex(), "ack from neither target nor relay") in bench.hear(B, Ack(0, ping.sequence, ()))
    bench.until(lambda action: action == MemberSuspected(A))


# Probes


def test_an_answered_probe_suspects_nobody() -> None:
    bench = Bench()
    bench.meet(A)
    for _ in range(20):
        ping = probe(bench, A)
        bench.hear(A, Ack(0, ping.sequence, ()))
    assert bench.state(A) is State.ALIVE
    assert MemberSuspected(A) not in bench.actions


def test_relays_are_asked_only_when_the_direct_answer_is_late() -> None:
    bench = Bench()
    bench.meet(A, B, C, D, E)
    ping = probe(bench, A)
    start = bench.now
    assert not sent(bench.actions, PingReq)
    bench.until(lambda action: bool(sent([action], PingReq)))
    assert bench.now - start == 300 * MILLISECOND + CONFIG.hop_allowance
    requests = sent(bench.actions, PingReq)
    assert len({to for to, _ in requests}) == CONFIG.indirect_probes
    assert A not in {to for to, _ in requests}
    assert {(m.target, m.sequence) for _, m in requests if isinstance(m, PingReq)} == {(A, ping.sequence)}


def test_a_relays_ack_saves_the_target() -> None:
    bench = Bench()
    bench.meet(A, B)
    ping = probe(bench, A)
    bench.until(is_sent(PingReq, B))
    bench.hear(B, Ack(0, ping.sequence, ()))
    bench.idle(0.5)
    assert bench.state(A) is State.ALIVE


def test_an_unanswered_probe_suspects_and_then_declares_dead() -> None:
    bench = Bench()
    bench.meet(A)
    probe(bench, A)
    start = bench.now
    bench.until(lambda action: action == MemberSuspected(A))
    assert bench.now - start >= PERIOD
    assert bench.state(A) is State.SUSPECT
    bench.until(lambda action: action == MemberDown(A))
    assert bench.now - start >= 4 * PERIOD
    bench.idle(60)
    assert bench.actions.count(MemberDown(A)) == 1


def test_a_change_of_route_restarts_a_probes_timer_once() -> None:
    bench = Bench()
    bench.meet(A, B)
    ping = probe(bench, A)
    wait = 300 * MILLISECOND + CONFIG.hop_allowance
    bench.now = Instant(bench.now + wait - MILLISECOND)
    changed = bench.now
    again = bench.do(bench.core.handle(PathChanged(A), changed))
    assert [m.sequence for _, m in sent(again, Ping) if isinstance(m, Ping)] == [ping.sequence]
    bench.now = Instant(changed + wait // 2)
    assert bench.do(bench.core.handle(PathChanged(A), bench.now)) == [], "the second time it runs on"
    bench.until(is_sent(PingReq, B))
    assert bench.now - changed == wait


def test_a_new_route_to_a_dead_member_pings_it_with_what_is_held_of_it() -> None:
    bench = Bench()
    bench.meet(A)
    bench.until(lambda action: action == MemberDown(A))
    [(to, ping)] = sent(bench.do(bench.core.handle(PathChanged(A), bench.now)), Ping)
    assert to == A
    assert (ping.updates[0].node, ping.updates[0].state) == (A, State.DEAD)
    flaps = [bench.core.handle(PathChanged(A), bench.now) for _ in range(50)]
    assert sum(len(sent(actions, Ping)) for actions in flaps) <= 1, "however often routes flap"


def test_a_route_to_a_member_alive_or_unknown_asks_nothing() -> None:
    bench = Bench()
    bench.meet(A)
    assert bench.do(bench.core.handle(PathChanged(A), bench.now)) == []
    assert bench.do(bench.core.handle(PathChanged(B), bench.now)) == []


# Relaying


def test_a_relay_pings_and_passes_the_ack_on() -> None:
    bench = Bench()
    bench.meet(A, B)
    [(to, ping)] = sent(bench.hear(A, PingReq(0, 77, (), B, 400)), Ping)
    assert to == B
    assert isinstance(ping, Ping)
    [(back, ack)] = sent(bench.hear(B, Ack(0, ping.sequence, ())), Ack)
    assert (back, ack.sequence) == (A, 77)
    assert not [action for action in bench.idle(1) if is_sent(Nack, A)(action)], "an answered relay sends no nack"


def test_a_relay_without_an_answer_sends_a_nack_at_four_fifths_and_a_late_ack_still() -> None:
    bench = Bench()
    bench.meet(A, B)
    start = bench.now
    [(_, ping)] = sent(bench.hear(A, PingReq(0, 77, (), B, 400)), Ping)
    bench.until(is_sent(Nack, A))
    assert bench.now - start == 320 * MILLISECOND
    assert isinstance(ping, Ping)
    assert sent(bench.hear(B, Ack(0, ping.sequence, ())), Ack)[0][0] == A


def test_a_relay_has_forgotten_after_the_askers_wait() -> None:
    bench = Bench()
    bench.meet(A, B)
    [(_, ping)] = sent(bench.hear(A, PingReq(0, 77, (), B, 400)), Ping)
    bench.idle(0.5)
    assert isinstance(ping, Ping)
    assert not sent(bench.hear(B, Ack(0, ping.sequence, ())), Ack)


def test_a_full_relay_sends_its_nack_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "RELAYS_MAX", 1)
    bench = Bench()
    bench.meet(A, B)
    bench.hear(A, PingReq(0, 77, (), B, 400))
    actions = bench.hear(A, PingReq(0, 78, (), B, 400))
    assert [m.sequence for _, m in sent(actions, Nack) if isinstance(m, Nack)] == [78]
    assert Rejected(A[:4].hex(), "too many pings to relay") in actions


def test_a_relay_asked_for_a_stranger_knows_nothing_of_it() -> None:
    bench = Bench()
    bench.meet(A)
    actions = bench.hear(A, PingReq(0, 77, (), E, 400))
    assert sent(actions, Nack)
    assert not sent(actions, Ping)


# Local health (Lifeguard IV.A)


def failed_probe(bench: Bench, target: NodeId, nacks: int) -> None:
    ping = probe(bench, target)
    bench.until(lambda action: bool(sent([action], PingReq)))
    relays = [to for to, message in sent(bench.actions, PingReq) if message.sequence == ping.sequence]
    for relay in relays[:nacks]:
        bench.hear(relay, Nack(0, ping.sequence, ()))
    bench.until(lambda action: action == MemberSuspected(target))


def test_a_failed_probe_with_every_nack_leaves_local_health_alone() -> None:
    bench = Bench()
    bench.meet(A, B, C, D)
    failed_probe(bench, A, nacks=3)
    assert bench.core.local_health == 0


def test_a_missing_nack_counts_against_local_health() -> None:
    bench = Bench()
    bench.meet(A, B, C, D)
    failed_probe(bench, A, nacks=2)
    assert bench.core.local_health == 1


def test_a_failed_probe_with_nobody_to_ask_counts_and_an_answered_one_heals() -> None:
    bench = Bench()
    bench.meet(A)
    probe(bench, A)
    bench.until(lambda action: action == MemberSuspected(A))
    assert bench.core.local_health == 1
    for _, ping in sent(bench.until_all(Ping, 2), Ping):
        bench.hear(A, Ack(5, ping.sequence, ()))
    assert bench.core.local_health == 0


def test_a_member_without_a_route_is_suspected_at_no_cost_to_local_health() -> None:
    bench = Bench(hops=lambda _: None)
    bench.meet(A)
    bench.until(lambda action: action == MemberSuspected(A))
    assert bench.core.local_health == 0


def test_refuting_a_suspicion_counts_against_local_health_and_an_old_life_does_not() -> None:
    bench = Bench()
    bench.meet(A)
    bench.gossip(A, Update(ME, bench.core.incarnation + 9, State.ALIVE, "me"))
    assert bench.core.local_health == 0
    bench.gossip(A, Update(ME, bench.core.incarnation, State.SUSPECT, "me"))
    assert bench.core.local_health == 1


def test_bad_local_health_stretches_time_out_and_period() -> None:
    bench = Bench()
    bench.meet(A, B)
    for _ in range(2):
        bench.gossip(A, Update(ME, bench.core.incarnation, State.SUSPECT, "me"))
    assert bench.core.local_health == 2
    probe(bench, A)
    start = bench.now
    bench.until(is_sent(PingReq, B))
    assert bench.now - start == 3 * 300 * MILLISECOND + CONFIG.hop_allowance


# Claims


def test_a_claim_about_us_is_refuted_and_never_applied() -> None:
    for state in (State.SUSPECT, State.DEAD, State.LEFT):
        bench = Bench()
        bench.meet(A)
        before = bench.core.incarnation
        actions = bench.gossip(A, Update(ME, before + 5, state, "me"))
        assert Refuted(before + 6) in actions
        assert bench.core.members()[0].state is State.ALIVE
        assert bench.core.incarnation == before + 6


def test_an_outdated_claim_about_us_is_not_worth_an_incarnation() -> None:
    bench = Bench()
    bench.meet(A)
    before = bench.core.incarnation
    assert notices(bench.gossip(A, Update(ME, before - 1, State.DEAD, "me"))) == []
    assert bench.core.incarnation == before


def test_the_refutation_goes_out_before_anything_else() -> None:
    bench = Bench()
    bench.meet(A, B, C)
    claim = Update(ME, bench.core.incarnation, State.SUSPECT, "me")
    [(_, ack)] = sent(bench.hear(A, Ping(0, 1, (claim,))), Ack)
    assert ack.incarnation == bench.core.incarnation
    assert (ack.updates[0].node, ack.updates[0].state) == (ME, State.ALIVE)


def test_a_jump_of_incarnations_is_persisted_before_it_is_used() -> None:
    bench = Bench()
    bench.meet(A)
    actions = bench.gossip(A, Update(ME, 2**61, State.DEAD, "me"))
    kinds = [type(action) for action in actions]
    assert kinds.index(Persist) < kinds.index(Refuted)


def test_the_highest_claim_can_still_be_refuted_and_the_ceiling_cannot_be_claimed() -> None:
    bench = Bench()
    bench.meet(A)
    actions = bench.gossip(A, Update(ME, INCARNATION_MAX, State.DEAD, "me"))
    assert actions == [Rejected(A[:4].hex(), "claim that nobody could refute")]
    assert Refuted(INCARNATION_MAX) in bench.gossip(A, Update(ME, INCARNATION_MAX - 1, State.DEAD, "me"))
    assert bench.gossip(A, Update(ME, INCARNATION_MAX, State.ALIVE, "me")) == []


def test_refutations_are_rate_limited() -> None:
    bench = Bench()
    bench.meet(A)
    for _ in range(100):
        bench.gossip(A, Update(ME, bench.core.incarnation + 10**6, State.DEAD, "me"))
    assert sum(isinstance(action, Refuted) for action in bench.actions) <= 10
    assert Rejected(A[:4].hex(), "too many claims about us to refute") in bench.actions


def test_a_refutation_ends_the_suspicion() -> None:
    bench = Bench()
    bench.meet(A, B)
    bench.gossip(B, suspected(bench, A))
    assert bench.state(A) is State.SUSPECT
    assert MemberUp(A, "x") in bench.gossip(B, Update(A, 1, State.ALIVE, "x"))
    bench.gossip(B, Update(B, 1, State.ALIVE, "x"))
    assert bench.state(A) is State.ALIVE


def test_alive_at_the_same_incarnation_refutes_nothing() -> None:
    bench = Bench()
    bench.meet(A, B)
    bench.gossip(B, suspected(bench, A))
    bench.gossip(B, Update(A, 0, State.ALIVE, "x"))
    bench.hear(A, Ping(0, 1, ()))
    assert bench.state(A) is State.SUSPECT


def test_contact_at_a_higher_incarnation_revives_at_once() -> None:
    bench = Bench()
    bench.meet(A)
    bench.answer_syncs(2)
    bench.until(lambda action: action == MemberDown(A))
    actions = bench.hear(A, Ping(1, 1, ()))
    assert MemberUp(A, "name-2") in actions
    assert sent(actions, SyncRequest)[0][0] == A, "and tables are compared"


def test_a_suspect_is_told_first_whatever_is_sent_to_it() -> None:
    bench = Bench()
    bench.meet(A, B, C, D)
    bench.gossip(B, suspected(bench, A))
    for incoming in (Ping(0, 1, ()), PingReq(0, 1, (), ME, 400), Leave(0, 1, ())):
        [(to, ack)] = sent(bench.hear(A, incoming), Ack)
        assert to == A
        assert ack.updates[0].node == A
        assert ack.updates[0].state is not State.ALIVE


def test_independent_suspectors_shorten_a_suspicion_and_repetition_does_not() -> None:
    def declared_after(*suspectors: NodeId) -> int:
        bench = Bench(hops=lambda _: 1)
        bench.meet(A, B, C, D, E)
        for by in suspectors:
            bench.gossip(B, suspected(bench, A, by=by))
        start = bench.now
        while bench.state(A) is not State.DEAD:
            # Everybody else answers; our own probes of A never count as one more suspector here.
            for to, ping in sent(bench.wake(), Ping):
                if to != A and isinstance(ping, Ping):
                    bench.hear(to, Ack(0, ping.sequence, ()))
        return bench.now - start

    assert declared_after(B, C, D, E) < declared_after(B, C) < declared_after(B, B, B, B)


def test_a_death_heard_of_is_declared_only_after_the_shortest_suspicion() -> None:
    bench = Bench()
    bench.meet(A, B, C, D, E)
    actions = bench.gossip(B, Update(A, 0, State.DEAD, "a"))
    assert notices(actions) == [MemberSuspected(A)]
    start = bench.now
    bench.gossip(C, Update(A, 0, State.DEAD, "a"))
    assert bench.state(A) is State.SUSPECT, "hearing it twice is no verdict either"
    bench.until(lambda action: action == MemberDown(A))
    assert bench.now - start == round(CONFIG.suspicion_scale * PERIOD)


def test_a_member_never_known_up_here_is_remembered_dead_without_a_notice() -> None:
    bench = Bench()
    bench.meet(A)
    assert notices(bench.gossip(A, Update(B, 4, State.DEAD, "b", None, 100))) == []
    assert bench.state(B) is State.DEAD
    assert bench.core.members()[2].since == bench.now - 100 * SECOND


def test_tombstones_are_reaped_when_their_age_reaches_the_lease_and_do_not_come_back() -> None:
    bench = Bench()
    bench.meet(A)
    lease_s = CONFIG.dead_retention // SECOND
    bench.gossip(A, Update(B, 4, State.LEFT, "b", None, lease_s - 3))
    bench.idle(4)
    assert bench.state(B) is None
    bench.gossip(A, Update(B, 4, State.LEFT, "b", None, lease_s))
    assert bench.state(B) is None


def test_left_is_not_dead_and_comes_back_with_a_higher_incarnation() -> None:
    bench = Bench()
    bench.meet(A, B)
    actions = bench.hear(A, Leave(4, 9, ()))
    assert notices(actions) == [MemberLeft(A)]
    assert sent(actions, Ack)
    assert MemberDown(A) not in bench.idle(60)
    bench.gossip(B, Update(A, 4, State.ALIVE, "a"))
    assert bench.state(A) is State.LEFT
    assert MemberUp(A, "a") in bench.gossip(B, Update(A, 5, State.ALIVE, "a"))


# Push-pull


def test_equal_tables_exchange_nothing_and_different_ones_their_pages() -> None:
    bench = Bench()
    bench.meet(A)
    [(_, page)] = sent(bench.hear(A, SyncRequest(0, (), 1)), SyncPage)
    assert isinstance(page, SyncPage)
    assert {update.node for update in page.updates} == {ME, A}
    assert page.answer == 1
    [(_, asked)] = sent(bench.actions, SyncRequest)
    assert isinstance(asked, SyncRequest)
    [(_, page)] = sent(bench.hear(A, SyncRequest(0, (), asked.digest)), SyncPage)
    assert page == SyncPage(bench.core.incarnation, (), b"", b"", 0)


def test_push_pull_asked_for_too_often_is_refused() -> None:
    bench = Bench()
    bench.meet(A)
    for _ in range(10):
        bench.hear(A, SyncRequest(0, (), 1))
    assert len(sent(bench.actions, SyncPage)) <= 4
    assert Rejected(A[:4].hex(), "push-pull asked for too often") in bench.actions


def test_a_page_is_answered_with_what_its_author_lacks_only_if_it_was_asked_for() -> None:
    bench = Bench()
    bench.meet(A, B)
    page = SyncPage(0, (Update(A, 0, State.ALIVE, "name-2"),), b"", b"\xff" * 20, 1)
    [(to, answer)] = sent(bench.hear(A, page), SyncPage)
    assert to == A
    assert {update.node for update in answer.updates} == {ME, B}
    bench.gossip(A, Update(C, 0, State.ALIVE, "c"))
    actions = bench.hear(C, page)
    assert Rejected(C[:4].hex(), "push-pull page that was not asked for") in actions
    assert not sent(actions, SyncPage)


def test_no_message_exceeds_its_size_even_with_a_thousand_long_named_members() -> None:
    bench = Bench()
    bench.meet(A)
    for number in range(100, 1100, 2):
        updates = [Update(identity(n), 2**61, State.ALIVE, "\u00fc" * 64) for n in (number, number + 1)]
        bench.gossip(A, *updates)
    bench.hear(A, SyncRequest(0, (), 1))
    bench.idle(3)
    sizes = [len(action.payload) for action in bench.actions if isinstance(action, Send)]
    assert max(sizes) <= PAYLOAD_BYTES_MAX
    assert len(sent(bench.actions, SyncPage)) == pushpull.SYNC_PAGES_MAX


# Stalls


def test_a_core_that_was_not_run_lets_no_time_pass_for_its_suspicions() -> None:
    bench = Bench()
    bench.meet(A, B)
    bench.gossip(B, suspected(bench, A))
    bench.now = Instant(bench.now + 600 * SECOND)
    actions = bench.do(bench.core.handle(Wake(), bench.now))
    assert MemberDown(A) not in actions
    assert bench.core.local_health == 1
    assert MemberUp(A, "x") in bench.gossip(A, Update(A, 1, State.ALIVE, "x"))


def test_a_stall_is_counted_once_however_many_datagrams_follow() -> None:
    bench = Bench()
    bench.meet(A)
    bench.now = Instant(bench.now + 600 * SECOND)
    for _ in range(5):
        bench.gossip(A)
    assert bench.core.local_health == 1


# Leaving


def test_a_mesh_of_one_leaves_at_once() -> None:
    bench = Bench()
    assert bench.do(bench.core.handle(LeaveRequested(), bench.now)) == [Left()]
    assert bench.core.deadline() is None


def test_we_go_when_enough_have_acknowledged_and_not_before() -> None:
    bench = Bench()
    bench.meet(A, B, C, D, E)
    told = sent(bench.do(bench.core.handle(LeaveRequested(), bench.now)), Leave)
    assert len(told) == CONFIG.leave_copies
    for to, message in told[:-1]:
        assert Left() not in bench.hear(to, Ack(0, message.sequence, ()))
    to, message = told[-1]
    assert bench.hear(to, Ack(0, message.sequence, ())) == [Left()]
    assert bench.core.deadline() is None
    assert bench.hear(A, Ping(0, 1, ())) == []


def test_the_same_acknowledgement_twice_is_one() -> None:
    bench = Bench()
    bench.meet(A, B, C, D, E)
    to, message = sent(bench.do(bench.core.handle(LeaveRequested(), bench.now)), Leave)[0]
    for _ in range(5):
        assert Left() not in bench.hear(to, Ack(0, message.sequence, ()))


def test_a_silent_member_does_not_hold_a_leave_up() -> None:
    bench = Bench()
    bench.meet(A, B, C, D)
    told = dict(sent(bench.do(bench.core.handle(LeaveRequested(), bench.now)), Leave))
    silent, *rest = told
    for to in rest:
        bench.hear(to, Ack(0, told[to].sequence, ()))
    again = {to for to, _ in sent(bench.wake() + bench.wake(), Leave)}
    [fourth] = again - set(told)
    assert silent in again
    assert bench.hear(fourth, Ack(0, told[silent].sequence, ())) == [Left()]


def test_a_leave_nobody_answers_ends_in_bounded_time() -> None:
    bench = Bench()
    bench.meet(A, B)
    start = bench.now
    bench.do(bench.core.handle(LeaveRequested(), start))
    bench.until(lambda action: action == Left())
    assert bench.now - start <= CONFIG.leave_timeout
    assert bench.actions.count(Left()) == 1


def test_one_that_leaves_does_not_refute_its_leaving() -> None:
    bench = Bench()
    bench.meet(A, B, C, D)
    bench.do(bench.core.handle(LeaveRequested(), bench.now))
    actions = bench.gossip(A, Update(ME, bench.core.incarnation, State.LEFT, "me"))
    assert notices(actions) == []
    assert bench.core.members()[0].state is State.LEFT


def test_timers_that_fall_due_together_never_trip_over_one_another() -> None:
    """The death of a probe's target and the probe's own time-out in one wake: a KeyError once."""
    bench = Bench()
    bench.meet(A, B)
    bench.gossip(B, suspected(bench, A))
    for _ in range(40):
        bench.now = Instant(bench.now + PERIOD)
        bench.do(bench.core.handle(Wake(), bench.now))
    assert bench.state(A) is State.DEAD


def test_a_refutation_that_never_counts_brings_a_live_member_down() -> None:
    """The planted bug for the simulator's checkers: one rule overridden."""

    class Deaf(Swim):
        def _join(self, held: Standing, claim: Standing) -> Standing:
            return held if claim.incarnation > held.incarnation else super()._join(held, claim)

    bench = Bench()
    bench.core = Deaf(ME, "me", CONFIG, random.Random(1), None, lambda _: 1)
    bench.meet(A, B)
    bench.gossip(B, suspected(bench, A))
    bench.gossip(A, Update(A, 1, State.ALIVE, "a"))
    bench.until(lambda action: action == MemberDown(A))


def test_news_goes_out_by_itself_and_stops_when_everyone_has_had_its_copies() -> None:
    bench = Bench()
    bench.meet(A, B)
    bench.idle(0.5)
    assert {update.node for _, m in sent(bench.actions, Gossip) for update in m.updates} >= {ME, A, B}
    assert all(message.updates for _, message in sent(bench.actions, Gossip)), "an empty one says nothing"
    bench.idle(2.5)
    start = len(bench.actions)
    for _, ping in sent(bench.until_all(Ping, 5), Ping):
        bench.hear(A, Ack(0, ping.sequence, ()))
    assert not [m for _, m in sent(bench.actions[start:], Gossip) if any(u.state is State.ALIVE for u in m.updates)]


def test_a_dead_member_is_pinged_at_a_low_rate_for_as_long_as_it_is_remembered() -> None:
    bench = Bench()
    bench.meet(A)
    bench.until(lambda action: action == MemberDown(A))
    bench.idle(60)
    pings = len(sent(bench.idle(100), Ping))
    assert 15 <= pings <= 25, "one each five seconds"


def test_one_that_left_is_not_pinged() -> None:
    bench = Bench()
    bench.meet(A)
    bench.hear(A, Leave(4, 9, ()))
    assert not sent(bench.idle(100), Ping)


def test_the_direct_ping_is_repeated_when_relays_are_asked() -> None:
    bench = Bench()
    bench.meet(A, B)
    ping = probe(bench, A)
    start = len(bench.actions)
    bench.until(is_sent(PingReq, B))
    assert (A, ping.sequence) in [
        (to, m.sequence) for to, m in sent(bench.actions[start:], Ping) if isinstance(m, Ping)
    ]


def test_a_suspector_tells_its_suspect_again_each_period() -> None:
    bench = Bench()
    bench.meet(A, B, C, D, E)
    probe(bench, A)
    bench.until(lambda action: action == MemberSuspected(A))
    told = 0
    for _ in range(3):
        for to, ping in sent(bench.until_all(Ping, 2), Ping):
            told += to == A
            if to != A and isinstance(ping, Ping):
                bench.hear(to, Ack(0, ping.sequence, ()))
    assert told >= 3


def test_whoever_has_only_heard_of_a_suspicion_asks_the_suspect_once_it_outlasts_the_shortest() -> None:
    bench = Bench()
    members = [A, B, C, D, E, *(identity(10 + number) for number in range(30))]
    bench.meet(*members)
    bench.gossip(B, suspected(bench, A))
    start, told = bench.now, []
    while bench.now < start + 4 * round(CONFIG.suspicion_scale * PERIOD):
        for to, ping in sent(bench.wake(), Ping):
            told += [bench.now - start] if to == A else []
            if to != A and isinstance(ping, Ping):
                bench.hear(to, Ack(0, ping.sequence, ()))
    shortest = bounds(len(members) + 1, CONFIG)[0]
    late = [at for at in told if at >= shortest]
    assert len(told) - len(late) <= 1, "before that it has its turn as anybody else"
    assert late[0] <= shortest + 2 * PERIOD
    assert len(late) >= 5


def test_a_core_that_was_not_run_lets_no_time_pass_for_its_probes() -> None:
    bench = Bench()
    bench.meet(A, B)
    ping = probe(bench, A)
    bench.now = Instant(bench.now + 600 * SECOND)
    for _ in range(3):
        bench.do(bench.core.handle(Wake(), bench.now))
    assert not [to for to, m in sent(bench.actions, PingReq) if m.sequence == ping.sequence]
    bench.hear(A, Ack(0, ping.sequence, ()))
    assert MemberSuspected(A) not in bench.actions


def test_one_back_from_the_dead_is_probed_again_and_not_reaped() -> None:
    bench = Bench()
    bench.meet(A)
    bench.gossip(A, Update(B, 4, State.DEAD, "b", None, CONFIG.dead_retention // SECOND - 3))
    bench.gossip(A, Update(B, 5, State.ALIVE, "b"))
    probe(bench, B)
    bench.idle(4)
    assert bench.state(B) is not None


def test_one_dead_is_no_longer_probed() -> None:
    bench = Bench()
    bench.meet(A)
    bench.until(lambda action: action == MemberDown(A))
    bench.idle(40)  # past the gossip to the recently dead
    assert len(sent(bench.idle(20), Ping)) <= 5


def test_the_recently_dead_still_hear_the_news() -> None:
    bench = Bench()
    bench.meet(A)
    bench.until(lambda action: action == MemberDown(A))
    assert A in [to for to, _ in sent(bench.idle(3), Gossip)]


def test_passing_a_suspicion_on_confirms_nothing() -> None:
    bench = Bench()
    bench.meet(A, B, C, D, E)
    bench.gossip(B, suspected(bench, A, by=C))
    said = [u for _, m in sent(bench.hear(D, Ping(0, 1, ())), Ack) for u in m.updates if u.node == A]
    [(_, page)] = sent(bench.hear(D, SyncRequest(0, (), 1)), SyncPage)
    assert {update.by for update in said} == {C}
    assert {update.by for update in page.updates if update.node == A} == {C}


def test_a_tombstone_travels_with_its_age_rounded_up() -> None:
    bench = Bench()
    bench.meet(A)
    bench.gossip(A, Update(B, 4, State.LEFT, "b", None, 100))
    bench.now = Instant(bench.now + SECOND // 2)
    [(_, page)] = sent(bench.hear(A, SyncRequest(0, (), 1)), SyncPage)
    assert [update.age_s for update in page.updates if update.node == B] == [101]


def test_suspects_are_not_asked_to_relay() -> None:
    bench = Bench()
    bench.meet(A, B, C)
    bench.gossip(A, suspected(bench, C))
    probe(bench, A)
    start = len(bench.actions)
    bench.until(is_sent(PingReq, B))
    assert {to for to, _ in sent(bench.actions[start:], PingReq)} == {B}


def test_a_relay_without_a_route_is_not_waited_for() -> None:
    routes: dict[NodeId, int | None] = {A: 1, B: 1}
    bench = Bench(hops=routes.get)
    bench.meet(A, B)
    ping = probe(bench, A)
    routes[B] = None
    bench.until(is_sent(PingReq, B))
    bench.until(lambda action: action == MemberSuspected(A))
    assert bench.core.local_health == 0
    assert ping.sequence


def test_a_route_lost_during_a_probe_excuses_local_health() -> None:
    routes: dict[NodeId, int | None] = {A: 1}
    bench = Bench(hops=routes.get)
    bench.meet(A)
    probe(bench, A)
    routes[A] = None
    bench.do(bench.core.handle(PathChanged(A), bench.now))
    bench.until(lambda action: action == MemberSuspected(A))
    assert bench.core.local_health == 0


def test_a_relay_is_told_how_long_we_wait() -> None:
    bench = Bench(hops=lambda _: 10)
    bench.meet(A, B)
    probe(bench, A)
    bench.until(is_sent(PingReq, B))
    [(_, request)] = sent(bench.actions, PingReq)
    assert isinstance(request, PingReq)
    start = bench.now
    bench.until(lambda action: action == MemberSuspected(A))
    assert bench.now - start == request.wait_ms * MILLISECOND
    assert request.wait_ms == 700


def test_the_one_concerned_is_told_even_when_the_news_of_it_is_no_longer_queued() -> None:
    bench = Bench()
    bench.meet(A, B)
    bench.hear(A, Leave(4, 9, ()))
    for _ in range(20):
        bench.hear(B, Ping(0, 1, ()))
    [(_, ack)] = sent(bench.hear(B, Ping(0, 1, ())), Ack)
    assert not isinstance(ack, Ack) or ack.updates == ()
    [(_, ack)] = sent(bench.hear(A, Ping(4, 2, ())), Ack)
    assert isinstance(ack, Ack)
    assert [(update.node, update.state) for update in ack.updates] == [(A, State.LEFT)]


def pings_answered(bench: Bench, seconds: float) -> int:
    """How many pings are sent while each is answered."""
    count, end = 0, bench.now + round(seconds * SECOND)
    while (at := bench.core.deadline()) is not None and at <= end:
        for to, message in sent(bench.wake(), Ping):
            count += 1
            bench.hear(to, Ack(0, message.sequence, ()))
    return count


def test_another_period_is_kept_from_now_on() -> None:
    bench = Bench()
    bench.meet(A)
    assert pings_answered(bench, 21) >= 25
    bench.do(bench.core.handle(Configured(replace(CONFIG, period=Duration(7 * SECOND))), bench.now))
    assert 2 <= pings_answered(bench, 21) <= 4
    assert bench.state(A) is State.ALIVE


def test_a_failed_probe_that_confirms_an_old_suspicion_ends_it_in_the_same_wake() -> None:
    # With two suspectors a suspicion lasts 9.8 s here, with three 5.7 s; our own failed probe comes in between.
    bench = Bench()
    bench.meet(A, B, C, D, E)
    began = bench.now
    for suspector in (B, C):
        bench.gossip(suspector, suspected(bench, A, by=suspector))
    while bench.state(A) is not State.DEAD:
        for to, message in sent(bench.wake(), Ping):
            if to != A or bench.now - began < 4 * SECOND:
                bench.hear(to, Ack(0, message.sequence, ()))
        due = bench.core.deadline()
        assert due is not None
        assert due > bench.now, "a wake leaves nothing due"
    assert 5.8 * SECOND < bench.now - began < 9.7 * SECOND


def test_in_a_large_mesh_news_goes_to_those_that_spoke_to_us_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "FAMILIAR_MAX", 3)
    monkeypatch.setattr(speech, "FAMILIAR_MIN", 2)
    bench = Bench()
    others = [identity(number) for number in range(10, 30)]
    bench.meet(*others)
    for node in others[:5]:
        bench.hear(node, Ping(0, 1, ()))
    bench.gossip(others[4], Update(identity(40), 0, State.ALIVE, "new"))
    told = {to for to, _ in sent(bench.idle(0.5), Gossip)}
    assert told
    assert told <= set(others[2:5])


def test_where_few_are_familiar_news_goes_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "FAMILIAR_MAX", 3)
    monkeypatch.setattr(speech, "FAMILIAR_MIN", 2)
    bench = Bench()
    others = [identity(number) for number in range(10, 30)]
    bench.meet(*others)
    bench.hear(others[0], Ping(0, 1, ()))
    told = {to for to, _ in sent(bench.idle(1), Gossip)}
    assert len(told) > 3


def test_who_is_expelled_is_gone_at_once_and_nothing_is_believed_of_it_any_more() -> None:
    bench = Bench()
    bench.meet(A, B)
    bench.gossip(B, Update(A, 0, State.SUSPECT, "name-a"))
    assert bench.do(bench.core.handle(MembersExpelled(frozenset((A, C, ME))), bench.now)) == [MemberLeft(A)]
    assert {member.node for member in bench.core.members()} == {ME, B}
    bench.gossip(B, Update(A, 1, State.ALIVE, "name-a"))
    bench.meet(A)
    assert {member.node for member in bench.core.members()} == {ME, B}
    assert not any(isinstance(action, MemberDown) and action.node == A for action in bench.idle(30))
    bench.core.handle(MembersExpelled(frozenset()), bench.now)
    bench.meet(A)
    assert {member.node for member in bench.core.members()} == {ME, A, B}
