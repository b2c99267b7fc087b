"""What still has to be passed on: updates that ride on other messages, each a limited number of times (SWIM 4.1).

One update per subject: a newer one replaces the older and starts counting anew. Those sent least often go first, and
among them the newest, so that fresh news is never crowded out; after ``ceil(lambda * log10(n + 1))`` copies an update
has reached everyone with high probability and is dropped. The queue is bounded by the member table.
"""

import math

from gossip.messages import UPDATE_BYTES_MIN, UPDATE_CODEC, UPDATES_MAX, Update
from sansio.ids import NodeId


def retransmit_limit(scale: float, members: int) -> int:
    """Copies that each member sends of one update."""
    return max(1, math.ceil(scale * math.log10(members + 1)))


class Broadcasts:
    """The queue: one tier per number of copies already sent."""

    def __init__(self) -> None:
        self._tiers: list[dict[NodeId, tuple[Update, int]]] = [{}]

    def __bool__(self) -> bool:
        return any(self._tiers)

    def __len__(self) -> int:
        return sum(len(tier) for tier in self._tiers)

    def put(self, update: Update) -> None:
        """Queue an update in place of any other about the same member."""
        self.drop(update.node)
        self._tiers[0][update.node] = (update, len(UPDATE_CODEC.encode(update)))

    def drop(self, node: NodeId) -> None:
        """Take out what is queued about ``node``."""
        for tier in self._tiers:
            tier.pop(node, None)

    def take(self, room: int, limit: int, places: int = UPDATES_MAX) -> list[Update]:
        """Updates for one message: at most ``room`` bytes and ``places``; counted as sent once."""
        taken: list[tuple[int, NodeId, tuple[Update, int]]] = []
        for sent, tier in enumerate(self._tiers):
            for node, (update, size) in reversed(tier.items()):
                if len(taken) == places or room < UPDATE_BYTES_MIN:
                    break
                if size <= room:
                    taken.append((sent, node, (update, size)))
                    room -= size
        # Oldest first into the next tier, so that its newest is again the last.
        for sent, node, entry in reversed(taken):
            del self._tiers[sent][node]
            if sent + 1 < limit:
                if len(self._tiers) == sent + 1:
                    self._tiers.append({})
                self._tiers[sent + 1][node] = entry
        self._expire(limit)
        return [entry[0] for _, _, entry in taken]

    def _expire(self, limit: int) -> None:
        # A mesh that shrank lowers the limit: drop the tiers beyond it, and the empty ones at the end.
        del self._tiers[max(1, limit) :]
        while len(self._tiers) > 1 and not self._tiers[-1]:
            self._tiers.pop()
