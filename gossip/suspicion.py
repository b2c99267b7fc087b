"""How long a suspicion lasts before it becomes a verdict (Lifeguard IV.B, "dogpile").

A suspicion starts long and is shortened by each *independent* suspector, so that one sick member's word alone takes
nobody down in a hurry, and a real death, which many notice, is declared soon:

    shortest = alpha * max(1, log10(n)) * period          longest = beta * shortest
    timeout  = max(shortest, longest - (longest - shortest) * log(confirmations + 1) / log(K + 1))

With too few other members for K confirmations ever to come (n - 2 < K) the suspicion lasts the shortest time, as in
memberlist. n counts the members not dead, this one included. The floor of 1 under the logarithm (memberlist's too)
keeps meshes of two to nine from having no time to refute at all.
"""

import math

from gossip.config import SwimConfig
from sansio.ids import NodeId
from sansio.instant import Duration, Instant


def bounds(members: int, config: SwimConfig) -> tuple[Duration, Duration]:
    """The shortest and longest suspicion among ``members`` members, in nanoseconds."""
    shortest = config.suspicion_scale * max(1.0, math.log10(max(1, members))) * config.period
    return Duration(round(shortest)), Duration(round(config.suspicion_stretch * shortest))


def timeout(shortest: Duration, longest: Duration, confirmations: int, wanted: int) -> Duration:
    """How long a suspicion with so many of the ``wanted`` confirmations lasts from its start, in nanoseconds."""
    if wanted < 1:
        return shortest
    fraction = math.log(confirmations + 1) / math.log(wanted + 1)
    return Duration(max(shortest, round(longest - (longest - shortest) * fraction)))


class Suspicion:
    """One running suspicion of one member at one incarnation."""

    def __init__(self, by: NodeId, started: Instant, members: int, config: SwimConfig) -> None:
        self.by = by
        self.started = started
        self.wanted = config.suspicion_confirmations if members - 2 >= config.suspicion_confirmations else 0
        self._shortest, self._longest = bounds(members, config)
        self._suspectors: dict[NodeId, None] = {by: None}  # at most wanted + 1: more confirm nothing
        self._hurried = False

    @property
    def ends(self) -> Instant:
        """When it becomes a verdict unless it is refuted."""
        confirmations = self.wanted if self._hurried else len(self._suspectors) - 1
        return Instant(self.started + timeout(self._shortest, self._longest, confirmations, self.wanted))

    def confirm(self, by: NodeId) -> bool:
        """Count a suspector; whether it was a new and still wanted one, whose word is worth passing on."""
        if by in self._suspectors or len(self._suspectors) > self.wanted:
            return False
        self._suspectors[by] = None
        return True

    def held_by(self, node: NodeId) -> bool:
        """Whether ``node`` is among the suspectors counted."""
        return node in self._suspectors

    def is_late(self, now: Instant) -> bool:
        """Whether it has outlasted the shortest, in which others have confirmed a real one or it has been refuted."""
        return now >= self.started + self._shortest

    def hurry(self) -> None:
        """Bring it to its shortest: somebody already holds the verdict."""
        self._hurried = True
