"""Who is probed next, and the probes that are on their way.

Targets come in randomised round-robin order (SWIM 4.3): a shuffled list is walked and shuffled anew at its end, a
newcomer goes in at a random place. So every member is probed within 2n - 1 periods, and nobody can tell when.

A probe has two stages: *direct* until the time-out, then *indirect*, where relays ping the target for us. A relay
remembers for whom it pings; it answers with an ack, or at four fifths of the asker's wait with a nack, and still
forwards an ack that comes after that.
"""

import random
from dataclasses import dataclass, field

from gossip.config import SwimConfig
from sansio.ids import NodeId
from sansio.instant import Duration

RELAYS_MAX = 256
"""Pings relayed for others at one time. When full, the asker gets its nack at once."""

NACK_AFTER = 0.8
"""Part of the asker's wait after which a relay says that it has no answer (Lifeguard IV.A)."""


@dataclass(slots=True)
class Probe:
    """A probe of ours that has no answer yet."""

    target: NodeId
    sequence: int
    routed: bool
    """Whether a control route to the target was known when the probe started."""
    indirect: bool = False
    restarted: bool = False
    """Whether its timer has been restarted for a change of route: once is all it gets."""
    relays: tuple[NodeId, ...] = ()
    nacks_due: dict[NodeId, None] = field(default_factory=dict)
    """Relays that were asked, that a route is known to, and that have not been heard of since."""


@dataclass(slots=True)
class Relay:
    """A ping that was sent on behalf of ``origin``."""

    origin: NodeId
    sequence: int
    """The number in the origin's request, which our answer repeats."""
    target: NodeId
    remaining: Duration
    """What is left of the origin's wait after the nack."""
    nacked: bool = False


def direct_wait(config: SwimConfig, factor: int, hops: int) -> Duration:
    """Wait for a direct answer over ``hops`` hops at a local health ``factor``."""
    return Duration(config.probe_timeout * factor + config.hop_allowance * hops)


def indirect_wait(config: SwimConfig, factor: int, hops: int) -> Duration:
    """Wait for relays after that: the rest of the period, or more where the way is long."""
    rest = config.period * factor - direct_wait(config, factor, hops)
    return Duration(max(rest, config.probe_timeout * factor + 2 * config.hop_allowance * hops))


class ProbeOrder:
    """The randomised round robin."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._order: list[NodeId] = []
        self._position = 0

    def add(self, node: NodeId) -> None:
        """Put a newcomer in at a random place of what is still to come, or of the whole next round."""
        place = self._rng.randint(0, len(self._order))
        self._order.insert(place, node)
        if place < self._position:
            self._position += 1

    def remove(self, node: NodeId) -> None:
        """Take out one that is no longer probed; no error if it is not there."""
        if node not in self._order:
            return
        place = self._order.index(node)
        del self._order[place]
        if place < self._position:
            self._position -= 1

    def next(self) -> NodeId | None:
        """The next target, if there is any."""
        if self._position >= len(self._order):
            self._rng.shuffle(self._order)
            self._position = 0
        if not self._order:
            return None
        self._position += 1
        return self._order[self._position - 1]
