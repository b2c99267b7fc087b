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

import random
from collections.abc import Callable
from typing import assert_never

from gossip.claims import Claims
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
from gossip.ground import Ground, Own
from gossip.leaving import Leaving
from gossip.members import NAME_MAX, Member, Standing, State
from gossip.messages import (
    MESSAGE_CODEC,
    RECEIVED_BYTES_MAX,
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
from gossip.probing import Probing
from gossip.pushpull import PushPull
from gossip.speech import Speech
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
from sansio.core import Rejected, Wake
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId, short
from sansio.instant import Instant

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
        self._ground = Ground(Own(me, name, stored_incarnation), config, rng, hops)
        self._speech = Speech(self._ground)
        self._claims = Claims(self._ground, self._speech, self._on_changed)
        self._probing = Probing(self._ground, self._speech, self._claims)
        self._pushpull = PushPull(self._ground, self._speech)
        self._leaving = Leaving(self._ground, self._speech)
        self._since = Instant(0)
        self._halted = False

    # The door

    def handle(self, event: SwimEvent, now: Instant) -> list[SwimAction]:
        """React to one event."""
        if self._halted:
            return []
        if self._ground.seen is None:
            actions = self._start(now)
        else:
            self._absorb_stall(self._ground.seen, now)
            actions = []
        self._ground.seen = now
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
                self._on_configured(config, now)
                return actions
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When this core next wants a ``Wake``."""
        return None if self._halted else self._ground.timers.next()

    def members(self) -> list[Member]:
        """Everyone known, this node first, then in the order of acquaintance; the dead and the left included."""
        mine = self._ground.own.update()
        return [Member(mine.node, mine.name, mine.state, mine.incarnation, self._since), *self._ground.members]

    @property
    def local_health(self) -> int:
        """Lifeguard's counter: 0 is well, ``SwimConfig.health_max`` the worst."""
        return self._ground.health.score

    @property
    def incarnation(self) -> int:
        """Our own present incarnation."""
        return self._ground.own.incarnation

    # Start, stalls, settings

    def _start(self, now: Instant) -> list[SwimAction]:
        self._since = now
        own = self._ground.own
        persists = own.raise_above(own.incarnation)
        # Random phases: daemons that a power cut stopped together do not probe together.
        self._probing.begin(now)
        self._pushpull.begin(now)
        self._probing.begin_with_the_dead(now)
        self._speech.spread(own.update(), now)
        return [*persists]

    def _absorb_stall(self, seen: Instant, now: Instant) -> None:
        due = self._ground.timers.next()
        if due is None or now - max(due, seen) <= self._ground.config.period:
            return
        # When the stall began is not known; that it was right after the last event favours the others.
        stalled = now - seen
        self._ground.health.worse()
        self._probing.absorb_stall(stalled)
        self._claims.absorb_stall(stalled)

    def _on_configured(self, config: SwimConfig, now: Instant) -> None:
        changed = config.period != self._ground.config.period
        self._ground.config = config
        if changed:
            # A random phase, as at the start: members that are configured together do not probe together.
            self._probing.begin(now)

    def _on_changed(self, before: Member | None, member: Member, now: Instant) -> None:
        """Something else is held of a member now."""
        was_up = before is not None and before.state.up
        if member.state.up and not was_up:
            self._probing.take_turns_with(member.node)
            self._pushpull.on_growth(now)
        elif not member.state.up:
            self._probing.forget(member.node)

    # Events

    def _on_peer_met(self, node: NodeId, name: str, now: Instant) -> list[SwimAction]:
        if node == self._ground.own.node or node in self._claims.expelled:
            return []
        held = self._ground.members.get(node)
        name = name[:NAME_MAX]
        if held is None:
            if self._ground.members.full:
                return [Rejected(short(node), "member table is full")]
            actions = self._claims.change(node, Standing(0, State.ALIVE, name), node, now)
            return actions + self._pushpull.ask(node, now)
        if not held.state.up:
            # What we ask it with tells it what we hold of it; it refutes with a higher incarnation.
            return self._pushpull.ask(node, now)
        if not held.name and name:
            return self._claims.change(node, Standing(held.incarnation, held.state, name), node, now)
        return []

    def _on_datagram(self, source: NodeId, payload: bytes, now: Instant) -> list[SwimAction]:
        if source == self._ground.own.node:
            return [Rejected(short(source), "swim message from ourselves")]
        if source in self._claims.expelled:
            return [Rejected(short(source), "swim message of an expelled member")]
        if len(payload) > RECEIVED_BYTES_MAX:
            return [Rejected(short(source), "swim message is too long")]
        try:
            message = MESSAGE_CODEC.decode(payload, short(source))
        except RemoteProtocolError:
            return [Rejected(short(source), "swim message cannot be decoded")]
        actions: list[SwimAction] = []
        if self._ground.members.get(source) is None:
            # The session layer has authenticated it as a member: as good as having met it.
            actions += self._on_peer_met(source, "", now)
        held = self._ground.members.get(source)
        if held is None:
            return actions
        self._speech.heard(source)
        actions += self._on_contact(held, message.incarnation, now)
        for update in message.updates:
            actions += self._claims.believe(update, source, now)
        return actions + self._on_message(source, message, now)

    def _on_contact(self, held: Member, incarnation: int, now: Instant) -> list[SwimAction]:
        """The sender is there, at that incarnation."""
        if incarnation <= held.incarnation:
            return []
        alive = Update(held.node, incarnation, State.ALIVE, held.name)
        actions = self._claims.believe(alive, held.node, now)
        if not held.state.up:
            actions += self._pushpull.ask(held.node, now)
        return actions

    def _on_message(self, source: NodeId, message: Message, now: Instant) -> list[SwimAction]:
        match message:
            case Ping():
                return [self._speech.ack(source, message.sequence)]
            case PingReq():
                return self._probing.on_ping_req(source, message, now)
            case Ack():
                return self._on_ack(source, message.sequence)
            case Nack():
                return self._probing.on_nack(source, message.sequence)
            case Gossip():
                return []
            case SyncRequest():
                return self._pushpull.on_request(source, message.digest, now)
            case SyncPage():
                return self._pushpull.on_page(source, message, now)
            case Leave():
                return self._on_leave(source, message, now)
            case _:
                assert_never(message)

    def _on_ack(self, source: NodeId, sequence: int) -> list[SwimAction]:
        if self._leaving.on_ack(source, sequence):
            return self._halt()
        return self._probing.on_ack(source, sequence)

    def _on_leave(self, source: NodeId, leave: Leave, now: Instant) -> list[SwimAction]:
        held = self._ground.members.get(source)
        update = Update(source, leave.incarnation, State.LEFT, held.name if held else "")
        return [*self._claims.believe(update, source, now), self._speech.ack(source, leave.sequence)]

    def _on_path_changed(self, node: NodeId, now: Instant) -> list[SwimAction]:
        held = self._ground.members.get(node)
        if held is None or held.state is State.LEFT:
            return []
        return self._probing.on_path_changed(held, now)

    def _on_expelled(self, nodes: frozenset[NodeId]) -> list[SwimAction]:
        self._claims.expelled = nodes - {self._ground.own.node}
        known = [node for node in sorted(self._claims.expelled) if self._ground.members.get(node) is not None]
        for node in known:
            self._probing.forget(node)
            self._claims.forget(node)
        return [MemberLeft(node) for node in known]

    def _on_leave_requested(self, now: Instant) -> list[SwimAction]:
        if self._ground.own.leaving:
            return []
        sequence = self._probing.new_sequence()
        self._ground.own.leaving = True
        self._probing.end()
        self._pushpull.end()
        if not self._ground.members.up():
            return self._halt()
        return self._leaving.begin(sequence, now)

    def _halt(self) -> list[SwimAction]:
        self._halted = True
        return [Left()]

    # Timers

    def _on_wake(self, now: Instant) -> list[SwimAction]:
        actions: list[SwimAction] = []
        # In rounds: what one timer does may end a suspicion that has lasted long enough by now.
        while due := self._ground.timers.pop_due(now):
            for timer in due:
                if not self._halted:
                    actions += self._on_timer(timer, now)
        return actions

    def _on_timer(self, timer: Timer, now: Instant) -> list[SwimAction]:
        match timer:
            case PeriodDue():
                return self._probing.on_period(now)
            case GossipDue():
                return self._speech.on_gossip_due(now)
            case SyncDue():
                return self._pushpull.on_due(now)
            case DeadDue():
                return self._probing.on_dead_due(now)
            case ProbeDue(sequence):
                return self._probing.on_probe_due(sequence, now)
            case RelayDue(sequence):
                return self._probing.on_relay_due(sequence, now)
            case SuspicionDue(node):
                return self._claims.on_suspicion_due(node, now)
            case SyncRetryDue(node):
                return self._pushpull.on_retry_due(node, now)
            case ReapDue(node):
                self._claims.forget(node)
                return []
            case LeaveRetryDue():
                return self._leaving.on_retry_due(now)
            case LeaveEndDue():
                return self._halt()
            case _:
                assert_never(timer)
