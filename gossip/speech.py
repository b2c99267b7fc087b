"""How news travels: on whatever is sent anyway, and by itself while there is any (SWIM 4.1; Lifeguard IV.C)."""

import math
from collections.abc import Callable

from gossip.broadcasts import Broadcasts, retransmit_limit
from gossip.events import Send, SwimAction
from gossip.ground import Ground
from gossip.members import Member, State
from gossip.messages import (
    MESSAGE_CODEC,
    UPDATE_CODEC,
    UPDATES_BYTES_MAX,
    UPDATES_MAX,
    Ack,
    Gossip,
    Message,
    Nack,
    Ping,
    Update,
)
from gossip.timers import GossipDue
from sansio.bounded import RecentTable
from sansio.ids import NodeId
from sansio.instant import SECOND, Instant, after

FAMILIAR_MAX = 128
"""Members that spoke to us last. In a mesh of more, news and requests to relay go to some of these: there is a session
with them still, where a word to anybody would cost a handshake first. Whom we probe, and who probes us, is chance, so
these are a random and changing choice of all."""

FAMILIAR_MIN = 32
"""With fewer of them anybody is asked and told: news must not stay among a few."""


class Speech:
    """Composes every message with the news that fits, and sends what news is left."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._news = Broadcasts()
        self._familiar: RecentTable[NodeId, None] = RecentTable(FAMILIAR_MAX)

    def heard(self, source: NodeId) -> None:
        """That member has just spoken to us."""
        self._familiar[source] = None

    def near(self) -> tuple[NodeId, ...]:
        """Those up that a word costs no handshake: all of them, or in a large mesh the familiar ones, if any."""
        up = self._ground.members.up()
        if len(up) <= FAMILIAR_MAX:
            return up
        known = self._ground.members.get
        familiar = tuple(node for node in self._familiar if (held := known(node)) and held.state.up)
        return familiar if len(familiar) >= FAMILIAR_MIN else up

    # News

    def spread(self, update: Update, now: Instant) -> None:
        """Pass it on, in place of older news of the same member."""
        ground = self._ground
        self._news.put(update)
        if GossipDue() not in ground.timers:
            ground.timers.set(GossipDue(), after(now, ground.random_part(ground.config.gossip_interval)))

    def drop(self, node: NodeId) -> None:
        """Tell no more of that member."""
        self._news.drop(node)

    def on_gossip_due(self, now: Instant) -> list[SwimAction]:
        """News by itself: to some of those up, and of the recently dead, so that a healed partition is noticed."""
        ground = self._ground
        candidates = [*self.near(), *self._recently_dead(now)]
        actions: list[SwimAction] = [
            self.compose(node, lambda updates: Gossip(ground.own.incarnation, updates))
            for node in ground.sample(candidates, ground.config.gossip_fanout)
            if self._news
        ]
        # With nobody to tell, the next change to the table sets the timer again.
        if self._news and candidates:
            ground.timers.set(GossipDue(), after(now, ground.config.gossip_interval))
        return actions

    def _recently_dead(self, now: Instant) -> list[NodeId]:
        recent = now - self._ground.config.dead_gossip
        members = self._ground.members
        return [node for node in members.dead() if (held := members.get(node)) and held.since >= recent]

    def update_of(self, member: Member, now: Instant) -> Update:
        """The claim that what we hold of a member amounts to."""
        # Who suspects is whoever said so first: passing it on confirms nothing.
        suspicion = self._ground.suspicions.get(member.node)
        by = suspicion.by if suspicion is not None else None
        # Rounded up at each holder, so that no tombstone grows younger by travelling.
        age_s = 0 if member.state.up else math.ceil(max(0, now - member.since) / SECOND)
        return Update(member.node, member.incarnation, member.state, member.name, by, min(age_s, 2**32 - 1))

    # Messages

    def compose(self, to: NodeId, build: Callable[[tuple[Update, ...]], Message]) -> Send:
        """A message with the news that fits into it."""
        return Send(to, MESSAGE_CODEC.encode(build(self._piggyback(to))))

    def ping(self, to: NodeId, sequence: int) -> Send:
        """Are you there?"""
        return self.compose(to, lambda updates: Ping(self._ground.own.incarnation, sequence, updates))

    def ack(self, to: NodeId, sequence: int) -> Send:
        """The answer to that."""
        return self.compose(to, lambda updates: Ack(self._ground.own.incarnation, sequence, updates))

    def nack(self, to: NodeId, sequence: int) -> Send:
        """No answer from the one whom we were to ask."""
        return self.compose(to, lambda updates: Nack(self._ground.own.incarnation, sequence, updates))

    def _piggyback(self, to: NodeId) -> tuple[Update, ...]:
        ground = self._ground
        limit = retransmit_limit(ground.config.retransmit_scale, len(ground.members.up()) + 1)
        held = ground.members.get(to)
        if held is None or held.state is State.ALIVE:
            return tuple(self._news.take(UPDATES_BYTES_MAX, limit))
        # The buddy system: the one concerned is told, always.
        claim = self.update_of(held, ground.seen or held.since)
        room = UPDATES_BYTES_MAX - len(UPDATE_CODEC.encode(claim))
        news = self._news.take(room, limit, UPDATES_MAX - 1)
        return (claim, *[update for update in news if update.node != to])
