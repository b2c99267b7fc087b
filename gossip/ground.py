"""What the parts of the SWIM core stand on together: who we are, who is known, chance, timers, our own health."""

import random
from collections.abc import Callable

from gossip.config import SwimConfig
from gossip.health import LocalHealth
from gossip.members import INCARNATION_MAX, MEMBERS_MAX, NAME_MAX, Members, State
from gossip.messages import Update
from gossip.suspicion import Suspicion
from gossip.timers import Timer
from sansio.core import Persist
from sansio.deadlines import Deadlines
from sansio.ids import NodeId
from sansio.instant import Duration, Instant
from sansio.reserve import ReservedCounter

INCARNATION_SPAN = 64
"""Incarnations reserved on disk at a time."""


class Ground:
    """Made by :class:`gossip.swim.Swim`, handed to each part; each field has one part that changes it."""

    def __init__(
        self, own: "Own", config: SwimConfig, rng: random.Random, hops: Callable[[NodeId], int | None]
    ) -> None:
        self.own = own
        self.config = config
        self.rng = rng
        self.hops = hops
        self.members = Members(MEMBERS_MAX)
        self.suspicions: dict[NodeId, Suspicion] = {}
        self.timers: Deadlines[Timer] = Deadlines()
        self.health = LocalHealth(config.health_max)
        self.seen: Instant | None = None
        """The last time that anything was handled; None: not started."""

    def random_part(self, of: Duration) -> Duration:
        """Something between nothing and the whole."""
        return Duration(int(of * self.rng.random()))

    def sample(self, nodes: list[NodeId] | tuple[NodeId, ...], count: int) -> list[NodeId]:
        """A random choice; all of them where there are no more than ``count``."""
        return self.rng.sample(nodes, min(count, len(nodes)))

    def sample_routed(self, nodes: list[NodeId] | tuple[NodeId, ...], count: int) -> list[NodeId]:
        """A random choice among those that a control route is known to; among all, if there is none."""
        return self.sample([node for node in nodes if self.hops(node) is not None] or nodes, count)


class Own:
    """What we say of ourselves."""

    def __init__(self, node: NodeId, name: str, stored_incarnation: bytes | None) -> None:
        self.node = node
        self.name = name[:NAME_MAX]
        self.leaving = False
        self._counter = ReservedCounter("incarnation", stored_incarnation, INCARNATION_SPAN)

    @property
    def incarnation(self) -> int:
        """Our present one."""
        return min(self._counter.value, INCARNATION_MAX)

    def raise_above(self, incarnation: int) -> list[Persist]:
        """Take one above both ours and that; what to persist before it is used."""
        # The ceiling itself can only have been claimed with `alive`, and is then ours to use.
        return self._counter.raise_above(min(incarnation, INCARNATION_MAX - 1))

    def update(self) -> Update:
        """The claim that we make."""
        state = State.LEFT if self.leaving else State.ALIVE
        return Update(self.node, self.incarnation, state, self.name)
