"""SWIM membership with Lifeguard: the core, to be read first.

Theory of operation. Once per *protocol period* one member, next in a randomised round robin, is pinged. If its ack is
late, a few others are asked to ping it for us. If that fails too it is *suspect*: the suspicion is gossiped, and unless
it is refuted in time the member is *dead*. The subject refutes by raising its incarnation, which only it may do. News
rides on whatever is sent anyway, a limited number of times, and goes out by itself while there is any. Which claim
wins is a total order (:mod:`gossip.members`), so members that heard the same claims agree, in whatever order they came.

Sources: SWIM (Das, Gupta, Motivala 2002) 3.1 probes, 4.1 piggyback, 4.2 suspicion and incarnations, 4.3 round robin;
Lifeguard (Dadgar, Phillips, Currey 2018) IV.A local health and nacks (:mod:`gossip.health`), IV.B dogpile
(:mod:`gossip.suspicion`), IV.C buddy system: whatever is sent to a member that is not held alive says so first, so
that it can refute. Push-pull and gossip to the dead as in memberlist.

Deviations, each with its reason:

- Each message carries its sender's incarnation: contact with a member back from a restart revives it at once.
- A *death heard of* a member that is up here starts or hurries a suspicion, to the shortest duration, and is declared
  when that ends. So the subject gets its chance to refute at every observer, and a healed partition brings nobody
  down (memberlist tempers what push-pull brings, not what gossip brings). Cost: what the suspicion took to arrive.
- The direct ping is sent again when relays are asked (memberlist tries TCP there): one datagram, and a lost one no
  longer decides.
- A suspector pings its suspect again each period, so that the suspicion reaches it even where gossip is lost; and so
  does whoever has only heard of it, once it has outlasted the shortest: then the refutation is what was lost.
- News goes out every ``gossip_interval`` while there is any, not only on probes: the number of copies is the same,
  they only leave sooner. At rest nothing is sent but probes.
- A core that was not run for more than a period (a stopped process, a suspended machine) lets no time pass for the
  probes and suspicions that were running: it could not have heard the answers.
- A probe to a member with no known control route is sent and, unanswered, suspects it as any other: SWIM's verdict
  does not depend on routing's. It costs no local health (:mod:`gossip.health`).
"""

import math
import random
from collections.abc import Callable
from typing import assert_never

from gossip.antientropy import SYNC_PAGES_MAX, better, chunks, ranges
from gossip.broadcasts import Broadcasts, retransmit_limit
from gossip.config import SwimConfig
from gossip.events import (
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
    SwimAction,
    SwimEvent,
)
from gossip.health import LocalHealth
from gossip.members import (
    DIGEST_MASK,
    INCARNATION_MAX,
    MEMBERS_MAX,
    NAME_MAX,
    Member,
    Members,
    Standing,
    State,
    fingerprint,
    join,
)
from gossip.messages import (
    MESSAGE_CODEC,
    RECEIVED_BYTES_MAX,
    UPDATE_CODEC,
    UPDATES_BYTES_MAX,
    UPDATES_MAX,
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
from gossip.probes import NACK_AFTER, RELAYS_MAX, Probe, ProbeOrder, Relay, direct_wait, indirect_wait
from gossip.suspicion import Suspicion
from gossip.timers import (
    DeadDue,
    GossipDue,
    LeaveEndDue,
    LeaveRetryDue,
    PeriodDue,
    ProbeDue,
    ReapDue,
    RelayDue,
    SuspicionDue,
    SyncDue,
    SyncRetryDue,
    Timer,
)
from sansio.bounded import RecentTable, TokenBucket
from sansio.core import Rejected, Wake
from sansio.deadlines import Deadlines
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId, short
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after
from sansio.reserve import ReservedCounter

__all__ = [
    "Configured",
    "Datagram",
    "LeaveRequested",
    "Left",
    "Member",
    "MemberDown",
    "MemberLeft",
    "MemberSuspected",
    "MemberUp",
    "MembersExpelled",
    "PathChanged",
    "PeerMet",
    "Refuted",
    "Send",
    "Started",
    "State",
    "Swim",
    "SwimAction",
    "SwimConfig",
    "SwimEvent",
]

INCARNATION_SPAN = 64
"""Incarnations reserved on disk at a time."""

PROBES_MAX = 32
"""Probes on their way at one time. When full, a period passes without a new one."""

SUSPECT_PINGS_MAX = 4
"""Suspects that are pinged again in one period, chosen at random."""

SYNCS_MAX = 4
"""Push-pulls of ours without an answer at one time. When full, a newly met member waits for the periodic one."""

SYNC_TRIES_MAX = 5
"""Requests sent for one push-pull."""

SYNC_ANSWER = Duration(10 * SECOND)
"""How long after our request a peer's pages are answered."""

GROWTH = 1.25
"""A mesh that has grown by more than this since the last push-pull has the next one soon: while it was small, news was
given few copies, and some died out."""

FAMILIAR_MAX = 128
"""Members that spoke to us last. In a mesh of more, news and requests to relay go to some of these: there is a session
with them still, where a word to anybody would cost a handshake first. Whom we probe, and who probes us, is chance, so
these are a random and changing choice of all."""

FAMILIAR_MIN = 32
"""With fewer of them anybody is asked and told: news must not stay among a few."""

SOURCES_MAX = 1024
"""Members whose rates are remembered; the least recently seen is forgotten."""


class Swim:
    """The membership of one mesh, as one of its members sees it.

    ``hops`` tells the length of the control path to a member, None where no route is known. ``stored_incarnation`` is
    what the last ``Persist`` under the key ``incarnation`` said.
    """

    def __init__(
        self,
        me: NodeId,
        name: str,
        config: SwimConfig,
        rng: random.Random,
        stored_incarnation: bytes | None,
        hops: Callable[[NodeId], int | None],
    ) -> None:
        self._me = me
        self._name = name[:NAME_MAX]
        self._config = config
        self._rng = rng
        self._hops = hops
        self._counter = ReservedCounter("incarnation", stored_incarnation, INCARNATION_SPAN)
        self._members = Members(MEMBERS_MAX)
        self._order = ProbeOrder(rng)
        self._probes: dict[int, Probe] = {}
        self._relays: dict[int, Relay] = {}
        self._suspicions: dict[NodeId, Suspicion] = {}
        self._broadcasts = Broadcasts()
        self._health = LocalHealth(config.health_max)
        self._timers: Deadlines[Timer] = Deadlines()
        self._syncs: dict[NodeId, int] = {}  # asked and not answered -> requests sent
        self._familiar: RecentTable[NodeId, None] = RecentTable(FAMILIAR_MAX)
        self._asked: RecentTable[NodeId, Instant] = RecentTable(SOURCES_MAX)
        self._up_at_sync = 0
        self._sync_rate: TokenBucket[NodeId] = TokenBucket(2.0, 4.0, SOURCES_MAX)
        self._ping_rate: TokenBucket[NodeId] = TokenBucket(1.0, 2.0, SOURCES_MAX)
        self._refute_rate: TokenBucket[NodeId] = TokenBucket(5.0, 10.0, 1)
        self._seen: Instant | None = None  # the last time that anything was handled; None: not started
        self._since = Instant(0)
        self._leave_sequence: int | None = None  # set while leaving
        self._leave_asked: dict[NodeId, bool] = {}  # whom we told -> whether it acknowledged
        self._halted = False
        self._expelled: frozenset[NodeId] = frozenset()

    # The door

    def handle(self, event: SwimEvent, now: Instant) -> list[SwimAction]:
        """React to one event."""
        if self._halted:
            return []
        actions = self._start(now) if self._seen is None else self._absorb_stall(now)
        self._seen = now
        match event:
            case Started():
                return actions
            case PeerMet(node, name):
                return actions + self._on_peer_met(node, name, now)
            case Datagram(source, payload):
                return actions + self._on_datagram(source, payload, now)
            case Wake():
                return actions + self._on_wake(now)
            case MembersExpelled(nodes):
                return actions + self._on_expelled(nodes)
            case LeaveRequested():
                return actions + self._on_leave_requested(now)
            case PathChanged(node):
                return actions + self._on_path_changed(node, now)
            case Configured(config):
                return actions + self._on_configured(config, now)
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When this core next wants a ``Wake``."""
        return None if self._halted else self._timers.next()

    def members(self) -> list[Member]:
        """Everyone known, this node first, then in the order of acquaintance; the dead and the left included."""
        state = State.LEFT if self._leaving else State.ALIVE
        return [Member(self._me, self._name, state, self.incarnation, self._since), *self._members]

    @property
    def local_health(self) -> int:
        """Lifeguard's counter: 0 is well, ``SwimConfig.health_max`` the worst."""
        return self._health.score

    @property
    def incarnation(self) -> int:
        """Our own present incarnation."""
        return min(self._counter.value, INCARNATION_MAX)

    def _on_configured(self, config: SwimConfig, now: Instant) -> list[SwimAction]:
        changed = config.period != self._config.period
        self._config = config
        if changed:
            # A random phase, as at the start: members that are configured together do not probe together.
            self._timers.set(PeriodDue(), after(now, self._random_part(config.period)))
        return []

    # Start and stalls

    def _start(self, now: Instant) -> list[SwimAction]:
        self._since = now
        persists = self._counter.raise_above(self._counter.value)
        # Random phases: daemons that a power cut stopped together do not probe together.
        self._timers.set(PeriodDue(), after(now, self._random_part(self._config.period)))
        self._timers.set(SyncDue(), after(now, self._random_part(self._config.sync_interval)))
        self._timers.set(DeadDue(), after(now, self._random_part(self._config.dead_interval)))
        self._spread(self._own_update(), now)
        return [*persists]

    def _absorb_stall(self, now: Instant) -> list[SwimAction]:
        due = self._timers.next()
        if due is None or self._seen is None:
            return []
        if now - max(due, self._seen) <= self._config.period:
            return []
        # When the stall began is not known; that it was right after the last event favours the others.
        stalled = now - self._seen
        self._health.worse()
        for sequence in self._probes:
            self._delay(ProbeDue(sequence), stalled)
        for node, suspicion in self._suspicions.items():
            suspicion.started = Instant(suspicion.started + stalled)
            self._timers.set(SuspicionDue(node), suspicion.ends)
        return []

    def _delay(self, timer: Timer, by: int) -> None:
        at = self._timers.when(timer)
        if at is not None:
            self._timers.set(timer, Instant(at + by))

    # Events

    def _on_peer_met(self, node: NodeId, name: str, now: Instant) -> list[SwimAction]:
        if node == self._me or node in self._expelled:
            return []
        held = self._members.get(node)
        name = name[:NAME_MAX]
        if held is None:
            if self._members.full:
                return [Rejected(short(node), "member table is full")]
            actions = self._change(node, Standing(0, State.ALIVE, name), node, now)
            return actions + self._ask_sync(node, now)
        if not held.state.up:
            # What we ask it with tells it what we hold of it; it refutes with a higher incarnation.
            return self._ask_sync(node, now)
        if not held.name and name:
            return self._change(node, Standing(held.incarnation, held.state, name), node, now)
        return []

    def _on_datagram(self, source: NodeId, payload: bytes, now: Instant) -> list[SwimAction]:
        if source == self._me:
            return [Rejected(short(source), "swim message from ourselves")]
        if source in self._expelled:
            return [Rejected(short(source), "swim message of an expelled member")]
        if len(payload) > RECEIVED_BYTES_MAX:
            return [Rejected(short(source), "swim message is too long")]
        try:
            message = MESSAGE_CODEC.decode(payload, short(source))
        except RemoteProtocolError:
            return [Rejected(short(source), "swim message cannot be decoded")]
        actions: list[SwimAction] = []
        if self._members.get(source) is None:
            # The session layer has authenticated it as a member: as good as having met it.
            actions += self._on_peer_met(source, "", now)
        held = self._members.get(source)
        if held is None:
            return actions
        self._familiar[source] = None
        actions += self._on_contact(held, message.incarnation, now)
        for update in message.updates:
            actions += self._believe(update, source, now)
        return actions + self._on_message(source, message, now)

    def _on_contact(self, held: Member, incarnation: int, now: Instant) -> list[SwimAction]:
        """The sender is there, at that incarnation."""
        if incarnation <= held.incarnation:
            return []
        actions = self._believe(Update(held.node, incarnation, State.ALIVE, held.name), held.node, now)
        if not held.state.up:
            actions += self._ask_sync(held.node, now)
        return actions

    def _on_message(self, source: NodeId, message: Message, now: Instant) -> list[SwimAction]:
        match message:
            case Ping():
                return [self._ack(source, message.sequence)]
            case PingReq():
                return self._on_ping_req(source, message, now)
            case Ack():
                return self._on_ack(source, message.sequence, now)
            case Nack():
                return self._on_nack(source, message.sequence)
            case Gossip():
                return []
            case SyncRequest():
                return self._on_sync_request(source, message.digest, now)
            case SyncPage():
                return self._on_sync_page(source, message, now)
            case Leave():
                held = self._members.get(source)
                update = Update(source, message.incarnation, State.LEFT, held.name if held else "")
                return [*self._believe(update, source, now), self._ack(source, message.sequence)]
            case _:
                assert_never(message)

    def _on_expelled(self, nodes: frozenset[NodeId]) -> list[SwimAction]:
        self._expelled = nodes - {self._me}
        actions: list[SwimAction] = []
        for node in sorted(self._expelled):
            if self._members.get(node) is None:
                continue
            if self._suspicions.pop(node, None) is not None:
                self._timers.cancel(SuspicionDue(node))
            self._timers.cancel(ReapDue(node))
            self._forget_activity(node)
            self._members.remove(node)
            self._broadcasts.drop(node)
            actions.append(MemberLeft(node))
        return actions

    def _on_wake(self, now: Instant) -> list[SwimAction]:
        actions: list[SwimAction] = []
        # In rounds: what one timer does may end a suspicion that has lasted long enough by now.
        while due := self._timers.pop_due(now):
            for timer in due:
                if not self._halted:
                    actions += self._on_timer(timer, now)
        return actions

    def _on_timer(self, timer: Timer, now: Instant) -> list[SwimAction]:
        match timer:
            case PeriodDue():
                return self._on_period(now)
            case GossipDue():
                return self._on_gossip_due(now)
            case SyncDue():
                return self._on_sync_due(now)
            case DeadDue():
                return self._on_dead_due(now)
            case ProbeDue(sequence):
                return self._on_probe_due(sequence, now)
            case RelayDue(sequence):
                return self._on_relay_due(sequence, now)
            case SuspicionDue(node):
                return self._on_suspicion_due(node, now)
            case SyncRetryDue(node):
                return self._on_sync_retry_due(node, now)
            case ReapDue(node):
                self._members.remove(node)
                self._broadcasts.drop(node)
                return []
            case LeaveRetryDue():
                return self._on_leave_retry_due(now)
            case LeaveEndDue():
                return self._halt()
            case _:
                assert_never(timer)

    # Probes (SWIM 3.1, 4.3; Lifeguard IV.A)

    def _on_period(self, now: Instant) -> list[SwimAction]:
        self._timers.set(PeriodDue(), after(now, Duration(self._config.period * self._health.factor)))
        running = self._suspicions.items()
        asked = [node for node, suspicion in running if suspicion.held_by(self._me) or suspicion.is_late(now)]
        again = self._sample(asked, SUSPECT_PINGS_MAX)
        actions: list[SwimAction] = [self._ping(node, self._new_sequence()) for node in again]
        target = self._order.next()
        if target is not None and len(self._probes) < PROBES_MAX:
            actions += self._probe(target, now)
        return actions

    def _probe(self, target: NodeId, now: Instant) -> list[SwimAction]:
        hops = self._hops(target)
        probe = Probe(target, self._new_sequence(), routed=hops is not None)
        self._probes[probe.sequence] = probe
        self._await_answer(probe, now)
        return [self._ping(target, probe.sequence)]

    def _await_answer(self, probe: Probe, now: Instant) -> None:
        wait = indirect_wait if probe.indirect else direct_wait
        hops = self._hops(probe.target) or 0
        self._timers.set(ProbeDue(probe.sequence), after(now, wait(self._config, self._health.factor, hops)))

    def _on_probe_due(self, sequence: int, now: Instant) -> list[SwimAction]:
        probe = self._probes.get(sequence)
        if probe is None:
            # Its target was declared dead by a timer that fell due with this one.
            return []
        if probe.indirect:
            self._end_probe(probe)
            return self._on_probe_failed(probe, now)
        probe.indirect = True
        self._await_answer(probe, now)
        probe.relays = self._choose_relays(probe.target)
        wait = indirect_wait(self._config, self._health.factor, self._hops(probe.target) or 0)
        wait_ms = max(1, min(600_000, wait // MILLISECOND))
        # A relay that no route leads to cannot be blamed on our own health when its nack stays away.
        probe.nacks_due = {relay: None for relay in probe.relays if self._hops(relay) is not None}
        requests = [
            self._compose(
                relay,
                lambda updates: PingReq(self.incarnation, probe.sequence, updates, probe.target, wait_ms),
            )
            for relay in probe.relays
        ]
        return [self._ping(probe.target, probe.sequence), *requests]

    def _choose_relays(self, target: NodeId) -> tuple[NodeId, ...]:
        others = [node for node in self._near() if node != target and node not in self._suspicions]
        return tuple(self._sample_routed(others, self._config.indirect_probes))

    def _on_probe_failed(self, probe: Probe, now: Instant) -> list[SwimAction]:
        if self._blames_us(probe):
            self._health.worse()
        held = self._members.get(probe.target)
        if held is None or not held.state.up:
            return []
        return self._believe(Update(held.node, held.incarnation, State.SUSPECT, held.name, self._me), self._me, now)

    def _blames_us(self, probe: Probe) -> bool:
        """Whether a failed probe speaks against our own health (table in :mod:`gossip.health`)."""
        if not probe.routed:
            return False
        return bool(probe.nacks_due) or not probe.relays

    def _on_ack(self, source: NodeId, sequence: int, now: Instant) -> list[SwimAction]:
        probe = self._probes.get(sequence)
        if probe is not None:
            if source != probe.target and source not in probe.relays:
                return [Rejected(short(source), "ack from neither target nor relay")]
            self._end_probe(probe)
            self._health.better()
            return []
        relay = self._relays.get(sequence)
        if relay is not None:
            if source != relay.target:
                return [Rejected(short(source), "ack from neither target nor relay")]
            self._end_relay(sequence)
            return [self._ack(relay.origin, relay.sequence)]
        if sequence == self._leave_sequence and source in self._leave_asked:
            self._leave_asked[source] = True
            if sum(self._leave_asked.values()) >= min(self._config.leave_copies, len(self._members.up())):
                return self._halt()
        # Any other is late: its probe is over. What it carried has been read.
        return []

    def _on_nack(self, source: NodeId, sequence: int) -> list[SwimAction]:
        probe = self._probes.get(sequence)
        if probe is None:
            return []
        if source not in probe.relays:
            return [Rejected(short(source), "nack from no relay")]
        probe.nacks_due.pop(source, None)
        return []

    def _end_probe(self, probe: Probe) -> None:
        del self._probes[probe.sequence]
        self._timers.cancel(ProbeDue(probe.sequence))

    def _on_path_changed(self, node: NodeId, now: Instant) -> list[SwimAction]:
        held = self._members.get(node)
        if held is None or held.state is State.LEFT:
            return []
        actions: list[SwimAction] = []
        for probe in [probe for probe in self._probes.values() if probe.target == node and not probe.restarted]:
            probe.restarted = True
            probe.routed = self._hops(node) is not None
            self._await_answer(probe, now)
            actions.append(self._ping(node, probe.sequence))
        if not actions and held.state is not State.ALIVE and self._ping_rate.admit(node, now):
            # A way to one that we hold suspect or dead: the ping says so, and it refutes at once.
            actions.append(self._ping(node, self._new_sequence()))
        return actions

    # Relaying for others

    def _on_ping_req(self, source: NodeId, request: PingReq, now: Instant) -> list[SwimAction]:
        if request.target == self._me:
            return [self._ack(source, request.sequence)]
        if self._members.get(request.target) is None:
            return [self._nack(source, request.sequence)]
        if len(self._relays) >= RELAYS_MAX:
            return [self._nack(source, request.sequence), Rejected(short(source), "too many pings to relay")]
        wait = request.wait_ms * MILLISECOND
        nack_in = Duration(round(wait * NACK_AFTER))
        sequence = self._new_sequence()
        self._relays[sequence] = Relay(source, request.sequence, request.target, Duration(wait - nack_in))
        self._timers.set(RelayDue(sequence), after(now, nack_in))
        return [self._ping(request.target, sequence)]

    def _on_relay_due(self, sequence: int, now: Instant) -> list[SwimAction]:
        relay = self._relays[sequence]
        if relay.nacked:
            self._end_relay(sequence)
            return []
        relay.nacked = True
        self._timers.set(RelayDue(sequence), after(now, relay.remaining))
        return [self._nack(relay.origin, relay.sequence)]

    def _end_relay(self, sequence: int) -> None:
        del self._relays[sequence]
        self._timers.cancel(RelayDue(sequence))

    # Claims (SWIM 4.2; Lifeguard IV.B)

    def _believe(self, update: Update, source: NodeId, now: Instant) -> list[SwimAction]:
        """Apply one claim, whoever made it."""
        if update.state is not State.ALIVE and update.incarnation >= INCARNATION_MAX:
            return [Rejected(short(source), "claim that nobody could refute")]
        if update.node == self._me:
            return self._on_claim_about_me(update, source, now)
        if update.node in self._expelled:
            return []  # by one who does not know yet
        by = update.by or source
        held = self._members.get(update.node)
        if held is None:
            return self._admit(update, by, now)
        claim = self._tempered(held, update.standing)
        merged = self._join(held.standing, claim)
        actions = self._change(held.node, merged, by, now) if merged != held.standing else []
        self._weigh(update, by, now)
        return actions

    def _join(self, held: Standing, claim: Standing) -> Standing:
        """What to believe after ``claim``, given what is held."""
        return join(held, claim)

    def _tempered(self, held: Member, claim: Standing) -> Standing:
        """A death heard of a member that is up here is a suspicion (see the module's deviations)."""
        if claim.state is State.DEAD and held.state.up:
            return Standing(claim.incarnation, State.SUSPECT, claim.name)
        return claim

    def _weigh(self, update: Update, by: NodeId, now: Instant) -> None:
        """Let a claim shorten the suspicion that it agrees with: another suspector's, or somebody's verdict."""
        held = self._members.get(update.node)
        suspicion = self._suspicions.get(update.node)
        if held is None or suspicion is None or update.incarnation != held.incarnation:
            return
        if update.state is State.DEAD:
            suspicion.hurry()
        elif update.state is not State.SUSPECT or not suspicion.confirm(by):
            return
        else:
            self._spread(Update(held.node, held.incarnation, State.SUSPECT, held.name, by), now)
        self._timers.set(SuspicionDue(held.node), suspicion.ends)

    def _admit(self, update: Update, by: NodeId, now: Instant) -> list[SwimAction]:
        age = Duration(update.age_s * SECOND)
        if not update.state.up and age >= self._config.dead_retention:
            return []
        if self._members.full:
            return [Rejected(short(by), "member table is full")]
        return self._change(update.node, update.standing, by, now, age=age)

    def _on_suspicion_due(self, node: NodeId, now: Instant) -> list[SwimAction]:
        held = self._members.get(node)
        if held is None or held.state is not State.SUSPECT:
            return []
        return self._change(node, Standing(held.incarnation, State.DEAD, held.name), self._me, now)

    def _change(
        self,
        node: NodeId,
        standing: Standing,
        by: NodeId,
        now: Instant,
        age: Duration = Duration(0),  # noqa: B008 (an integer)
    ) -> list[SwimAction]:
        """Make ``standing`` what is held of ``node``: the only place where the table changes."""
        before = self._members.get(node)
        if standing.state.up:
            age = Duration(0)
        member = self._members.put(node, standing, Instant(now - age))
        was_up = before is not None and before.state.up
        self._keep_suspicion(before, member, by, now)
        if member.state.up and not was_up:
            self._order.add(node)
            self._timers.cancel(ReapDue(node))
            if len(self._members.up()) > GROWTH * self._up_at_sync:
                self._hasten_sync(now)
        elif not member.state.up:
            self._timers.set(ReapDue(node), after(member.since, self._config.dead_retention))
            self._forget_activity(node)
        self._spread(self._update_of(member, now), now)
        return self._notices(before, member)

    def _keep_suspicion(self, before: Member | None, member: Member, by: NodeId, now: Instant) -> None:
        node = member.node
        if member.state is not State.SUSPECT:
            if self._suspicions.pop(node, None) is not None:
                self._timers.cancel(SuspicionDue(node))
            return
        fresh = before is None or before.state is not State.SUSPECT or before.incarnation != member.incarnation
        if fresh:
            self._suspicions[node] = Suspicion(by, now, len(self._members.up()) + 1, self._config)
            self._timers.set(SuspicionDue(node), self._suspicions[node].ends)

    def _forget_activity(self, node: NodeId) -> None:
        """Nothing is asked any more of a member that is dead or has left."""
        self._order.remove(node)
        for probe in [probe for probe in self._probes.values() if probe.target == node]:
            self._end_probe(probe)

    def _notices(self, before: Member | None, member: Member) -> list[SwimAction]:
        node, state = member.node, member.state
        if before is not None and before.state is state:
            return []
        match state:
            case State.ALIVE:
                return [MemberUp(node, member.name)]
            case State.SUSPECT if before is None or not before.state.up:
                return [MemberUp(node, member.name), MemberSuspected(node)]
            case State.SUSPECT:
                return [MemberSuspected(node)]
            # One that was never up here did not go down here either.
            case State.DEAD:
                return [MemberDown(node)] if before is not None else []
            case State.LEFT:
                return [MemberLeft(node)] if before is not None else []
            case _:
                assert_never(state)

    # Claims about ourselves

    @property
    def _leaving(self) -> bool:
        return self._leave_sequence is not None

    def _on_claim_about_me(self, update: Update, source: NodeId, now: Instant) -> list[SwimAction]:
        mine = self._own_update().standing
        claim = update.standing
        if (claim.incarnation, claim.state) <= (mine.incarnation, mine.state):
            return []
        if not self._refute_rate.admit(self._me, now):
            return [Rejected(short(source), "too many claims about us to refute")]
        if update.state in (State.SUSPECT, State.DEAD):
            self._health.worse()
        return self._refute(update, now)

    def _refute(self, update: Update, now: Instant) -> list[SwimAction]:
        """Outbid a claim about us: SWIM 4.2. It is never applied."""
        # The ceiling itself can only have been claimed with `alive`, and is then ours to use.
        persists = self._counter.raise_above(min(update.incarnation, INCARNATION_MAX - 1))
        self._spread(self._own_update(), now)
        return [*persists] if self._leaving else [*persists, Refuted(self.incarnation)]

    def _own_update(self) -> Update:
        return Update(self._me, self.incarnation, State.LEFT if self._leaving else State.ALIVE, self._name)

    # Dissemination (SWIM 4.1; Lifeguard IV.C)

    def _spread(self, update: Update, now: Instant) -> None:
        self._broadcasts.put(update)
        if GossipDue() not in self._timers:
            self._timers.set(GossipDue(), after(now, self._random_part(self._config.gossip_interval)))

    def _on_gossip_due(self, now: Instant) -> list[SwimAction]:
        recent = now - self._config.dead_gossip
        candidates = list(self._near())
        for node in self._members.dead():
            held = self._members.get(node)
            if held is not None and held.since >= recent:
                candidates.append(node)
        actions: list[SwimAction] = [
            self._compose(node, lambda updates: Gossip(self.incarnation, updates))
            for node in self._sample(candidates, self._config.gossip_fanout)
            if self._broadcasts
        ]
        # With nobody to tell, the next change to the table sets the timer again.
        if self._broadcasts and candidates:
            self._timers.set(GossipDue(), after(now, self._config.gossip_interval))
        return actions

    def _on_dead_due(self, now: Instant) -> list[SwimAction]:
        self._timers.set(DeadDue(), after(now, self._config.dead_interval))
        return [self._ping(node, self._new_sequence()) for node in self._sample(self._members.dead(), 1)]

    def _piggyback(self, to: NodeId) -> tuple[Update, ...]:
        limit = retransmit_limit(self._config.retransmit_scale, len(self._members.up()) + 1)
        held = self._members.get(to)
        if held is None or held.state is State.ALIVE:
            return tuple(self._broadcasts.take(UPDATES_BYTES_MAX, limit))
        # The buddy system: the one concerned is told, always.
        claim = self._update_of(held, self._seen or held.since)
        room = UPDATES_BYTES_MAX - len(UPDATE_CODEC.encode(claim))
        news = self._broadcasts.take(room, limit, UPDATES_MAX - 1)
        return (claim, *[update for update in news if update.node != to])

    def _update_of(self, member: Member, now: Instant) -> Update:
        # Who suspects is whoever said so first: passing it on confirms nothing.
        suspicion = self._suspicions.get(member.node)
        by = suspicion.by if suspicion is not None else None
        # Rounded up at each holder, so that no tombstone grows younger by travelling.
        age_s = 0 if member.state.up else math.ceil(max(0, now - member.since) / SECOND)
        return Update(member.node, member.incarnation, member.state, member.name, by, min(age_s, 2**32 - 1))

    def _compose(self, to: NodeId, build: Callable[[tuple[Update, ...]], Message]) -> Send:
        return Send(to, MESSAGE_CODEC.encode(build(self._piggyback(to))))

    def _ping(self, to: NodeId, sequence: int) -> Send:
        return self._compose(to, lambda updates: Ping(self.incarnation, sequence, updates))

    def _ack(self, to: NodeId, sequence: int) -> Send:
        return self._compose(to, lambda updates: Ack(self.incarnation, sequence, updates))

    def _nack(self, to: NodeId, sequence: int) -> Send:
        return self._compose(to, lambda updates: Nack(self.incarnation, sequence, updates))

    # Push-pull (:mod:`gossip.antientropy`)

    def _on_sync_due(self, now: Instant) -> list[SwimAction]:
        self._timers.set(SyncDue(), after(now, self._config.sync_interval))
        self._up_at_sync = len(self._members.up())
        actions: list[SwimAction] = []
        for node in self._sample_routed(self._members.up(), 1):
            actions += self._ask_sync(node, now)
        return actions

    def _hasten_sync(self, now: Instant) -> None:
        """Have the next push-pull within a period, if it is later than that."""
        at = self._timers.when(SyncDue())
        if at is not None and at > after(now, self._config.period):
            self._timers.set(SyncDue(), after(now, self._random_part(self._config.period)))

    def _ask_sync(self, node: NodeId, now: Instant) -> list[SwimAction]:
        if node in self._syncs or len(self._syncs) >= SYNCS_MAX:
            return []
        self._syncs[node] = 0
        return self._on_sync_retry_due(node, now)

    def _on_sync_retry_due(self, node: NodeId, now: Instant) -> list[SwimAction]:
        if self._syncs[node] >= SYNC_TRIES_MAX:
            del self._syncs[node]
            return []
        self._syncs[node] += 1
        self._asked[node] = now
        self._timers.set(SyncRetryDue(node), after(now, self._config.sync_retry))
        return [self._compose(node, lambda updates: SyncRequest(self.incarnation, updates, self._digest()))]

    def _digest(self) -> int:
        mine = self._own_update()
        return (self._members.digest + fingerprint(self._me, mine.incarnation, mine.state)) & DIGEST_MASK

    def _table(self, now: Instant) -> list[Update]:
        others = [self._update_of(member, now) for member in self._members]
        return sorted([self._own_update(), *others], key=lambda update: update.node)

    def _on_sync_request(self, source: NodeId, digest: int, now: Instant) -> list[SwimAction]:
        if not self._sync_rate.admit(source, now):
            return [Rejected(short(source), "push-pull asked for too often")]
        if digest == self._digest():
            return [self._page(source, (), b"", b"", 0)]
        parts = chunks(self._table(now))
        pages = list(zip(parts, ranges(parts), strict=True))
        if len(pages) > SYNC_PAGES_MAX:
            first = self._rng.randrange(len(pages))
            pages = (pages[first:] + pages[:first])[:SYNC_PAGES_MAX]
        return [self._page(source, part, low, high, 1) for part, (low, high) in pages]

    def _on_sync_page(self, source: NodeId, page: SyncPage, now: Instant) -> list[SwimAction]:
        if self._syncs.pop(source, None) is not None:
            self._timers.cancel(SyncRetryDue(source))
        if not page.answer:
            return []
        # Tables that differed here may differ elsewhere: again, until a round finds nothing.
        self._hasten_sync(now)
        asked = self._asked.get(source)
        if asked is None or now - asked > SYNC_ANSWER:
            return [Rejected(short(source), "push-pull page that was not asked for")]
        theirs = {update.node: update.standing for update in page.updates}
        news = better(self._table(now), theirs, page.after, page.until)
        return [self._page(source, part, b"", b"", 0) for part in chunks(news)[:SYNC_PAGES_MAX]]

    def _page(self, to: NodeId, updates: tuple[Update, ...], low: bytes, high: bytes, answer: int) -> Send:
        return Send(to, MESSAGE_CODEC.encode(SyncPage(self.incarnation, updates, low, high, answer)))

    # Leaving

    def _on_leave_requested(self, now: Instant) -> list[SwimAction]:
        if self._leaving:
            return []
        self._leave_sequence = self._new_sequence()
        for timer in (PeriodDue(), SyncDue(), DeadDue()):
            self._timers.cancel(timer)
        for probe in list(self._probes.values()):
            self._end_probe(probe)
        if not self._members.up():
            return self._halt()
        self._spread(self._own_update(), now)
        self._timers.set(LeaveEndDue(), after(now, self._config.leave_timeout))
        return self._tell_leave(self._config.leave_copies, now)

    def _on_leave_retry_due(self, now: Instant) -> list[SwimAction]:
        # One more than before: someone who never answers must not hold us up.
        return self._tell_leave(1, now)

    def _tell_leave(self, more: int, now: Instant) -> list[SwimAction]:
        strangers = [node for node in self._members.up() if node not in self._leave_asked]
        for node in self._sample_routed(strangers, more):
            self._leave_asked[node] = False
        self._timers.set(LeaveRetryDue(), after(now, self._config.leave_retry))
        sequence = self._leave_sequence or 0
        return [
            self._compose(node, lambda updates: Leave(self.incarnation, sequence, updates))
            for node, acknowledged in self._leave_asked.items()
            if not acknowledged
        ]

    def _halt(self) -> list[SwimAction]:
        self._halted = True
        return [Left()]

    def _near(self) -> tuple[NodeId, ...]:
        """Those up that a word costs no handshake: all of them, or in a large mesh the familiar ones, if any."""
        up = self._members.up()
        if len(up) <= FAMILIAR_MAX:
            return up
        familiar = tuple(node for node in self._familiar if (held := self._members.get(node)) and held.state.up)
        return familiar if len(familiar) >= FAMILIAR_MIN else up

    # Chance

    def _new_sequence(self) -> int:
        while True:
            sequence = self._rng.getrandbits(32)
            if sequence not in self._probes and sequence not in self._relays:
                return sequence

    def _random_part(self, of: Duration) -> Duration:
        return Duration(int(of * self._rng.random()))

    def _sample(self, nodes: list[NodeId] | tuple[NodeId, ...], count: int) -> list[NodeId]:
        return self._rng.sample(nodes, min(count, len(nodes)))

    def _sample_routed(self, nodes: list[NodeId] | tuple[NodeId, ...], count: int) -> list[NodeId]:
        """A random choice among those that a control route is known to; among all, if there is none."""
        return self._sample([node for node in nodes if self._hops(node) is not None] or nodes, count)
