"""Claims about members: which are believed, and what follows (SWIM 4.2; Lifeguard IV.B)."""

from collections.abc import Callable
from typing import assert_never

from gossip.events import MemberDown, MemberLeft, MemberSuspected, MemberUp, Refuted, SwimAction
from gossip.ground import Ground
from gossip.members import INCARNATION_MAX, Member, Standing, State, join
from gossip.messages import Update
from gossip.speech import Speech
from gossip.suspicion import Suspicion
from gossip.timers import ReapDue, SuspicionDue
from sansio.bounded import TokenBucket
from sansio.core import Rejected
from sansio.ids import NodeId, short
from sansio.instant import SECOND, Duration, Instant, after

Changed = Callable[[Member | None, Member, Instant], None]
"""Told what was held of a member before, what is held now, and when."""


class Claims:
    """The only one who changes the table of members, and who keeps the suspicions that run."""

    def __init__(self, ground: Ground, speech: Speech, changed: Changed) -> None:
        self._ground = ground
        self._speech = speech
        self._changed = changed
        self._refute_rate: TokenBucket[NodeId] = TokenBucket(5.0, 10.0, 1)
        self.expelled: frozenset[NodeId] = frozenset()

    def believe(self, update: Update, source: NodeId, now: Instant) -> list[SwimAction]:
        """Apply one claim, whoever made it."""
        if update.state is not State.ALIVE and update.incarnation >= INCARNATION_MAX:
            return [Rejected(short(source), "claim that nobody could refute")]
        if update.node == self._ground.own.node:
            return self._on_claim_about_me(update, source, now)
        if update.node in self.expelled:
            return []  # by one who does not know yet
        by = update.by or source
        held = self._ground.members.get(update.node)
        if held is None:
            return self._admit(update, by, now)
        claim = self._tempered(held, update.standing)
        merged = self._join(held.standing, claim)
        actions = self.change(held.node, merged, by, now) if merged != held.standing else []
        self._weigh(update, by, now)
        return actions

    def _join(self, held: Standing, claim: Standing) -> Standing:
        """What to believe after ``claim``, given what is held."""
        return join(held, claim)

    def _tempered(self, held: Member, claim: Standing) -> Standing:
        """A death heard of a member that is up here is a suspicion (deviations in :mod:`gossip.swim`)."""
        if claim.state is State.DEAD and held.state.up:
            return Standing(claim.incarnation, State.SUSPECT, claim.name)
        return claim

    def _weigh(self, update: Update, by: NodeId, now: Instant) -> None:
        """Let a claim shorten the suspicion that it agrees with: another suspector's, or somebody's verdict."""
        held = self._ground.members.get(update.node)
        suspicion = self._ground.suspicions.get(update.node)
        if held is None or suspicion is None or update.incarnation != held.incarnation:
            return
        if update.state is State.DEAD:
            suspicion.hurry()
        elif update.state is not State.SUSPECT or not suspicion.confirm(by):
            return
        else:
            self._speech.spread(Update(held.node, held.incarnation, State.SUSPECT, held.name, by), now)
        self._ground.timers.set(SuspicionDue(held.node), suspicion.ends)

    def _admit(self, update: Update, by: NodeId, now: Instant) -> list[SwimAction]:
        age = Duration(update.age_s * SECOND)
        if not update.state.up and age >= self._ground.config.dead_retention:
            return []
        if self._ground.members.full:
            return [Rejected(short(by), "member table is full")]
        return self.change(update.node, update.standing, by, now, age=age)

    def change(
        self,
        node: NodeId,
        standing: Standing,
        by: NodeId,
        now: Instant,
        age: Duration = Duration(0),  # noqa: B008 (an integer)
    ) -> list[SwimAction]:
        """Make ``standing`` what is held of ``node``: the only place where the table changes."""
        before = self._ground.members.get(node)
        if standing.state.up:
            age = Duration(0)
        member = self._ground.members.put(node, standing, Instant(now - age))
        self._keep_suspicion(before, member, by, now)
        self._keep_lease(member)
        self._changed(before, member, now)
        self._speech.spread(self._speech.update_of(member, now), now)
        return _notices(before, member)

    # Suspicions

    def suspect(self, node: NodeId, now: Instant) -> list[SwimAction]:
        """It has not answered us, nor those whom we asked."""
        held = self._ground.members.get(node)
        if held is None or not held.state.up:
            return []
        me = self._ground.own.node
        return self.believe(Update(node, held.incarnation, State.SUSPECT, held.name, me), me, now)

    def on_suspicion_due(self, node: NodeId, now: Instant) -> list[SwimAction]:
        """Nobody refuted it in time."""
        held = self._ground.members.get(node)
        if held is None or held.state is not State.SUSPECT:
            return []
        dead = Standing(held.incarnation, State.DEAD, held.name)
        return self.change(node, dead, self._ground.own.node, now)

    def absorb_stall(self, stalled: int) -> None:
        """Let no time have passed for the suspicions that run."""
        for node, suspicion in self._ground.suspicions.items():
            suspicion.started = Instant(suspicion.started + stalled)
            self._ground.timers.set(SuspicionDue(node), suspicion.ends)

    def _keep_suspicion(self, before: Member | None, member: Member, by: NodeId, now: Instant) -> None:
        node = member.node
        if member.state is not State.SUSPECT:
            self._end_suspicion(node)
            return
        fresh = before is None or before.state is not State.SUSPECT or before.incarnation != member.incarnation
        if fresh:
            among = len(self._ground.members.up()) + 1
            suspicion = Suspicion(by, now, among, self._ground.config)
            self._ground.suspicions[node] = suspicion
            self._ground.timers.set(SuspicionDue(node), suspicion.ends)

    def _end_suspicion(self, node: NodeId) -> None:
        if self._ground.suspicions.pop(node, None) is not None:
            self._ground.timers.cancel(SuspicionDue(node))

    # The end of a member

    def _keep_lease(self, member: Member) -> None:
        # The absence lease: how long one that is away is remembered.
        if member.state.up:
            self._ground.timers.cancel(ReapDue(member.node))
        else:
            lease = self._ground.config.dead_retention
            self._ground.timers.set(ReapDue(member.node), after(member.since, lease))

    def forget(self, node: NodeId) -> None:
        """It is known no more."""
        self._end_suspicion(node)
        self._ground.timers.cancel(ReapDue(node))
        self._ground.members.remove(node)
        self._speech.drop(node)

    # Claims about ourselves

    def _on_claim_about_me(self, update: Update, source: NodeId, now: Instant) -> list[SwimAction]:
        mine = self._ground.own.update().standing
        claim = update.standing
        if (claim.incarnation, claim.state) <= (mine.incarnation, mine.state):
            return []
        if not self._refute_rate.admit(self._ground.own.node, now):
            return [Rejected(short(source), "too many claims about us to refute")]
        if update.state in (State.SUSPECT, State.DEAD):
            self._ground.health.worse()
        return self._refute(update, now)

    def _refute(self, update: Update, now: Instant) -> list[SwimAction]:
        """Outbid a claim about us: SWIM 4.2. It is never applied."""
        own = self._ground.own
        persists = own.raise_above(update.incarnation)
        self._speech.spread(own.update(), now)
        return [*persists] if own.leaving else [*persists, Refuted(own.incarnation)]


def _notices(before: Member | None, member: Member) -> list[SwimAction]:
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
