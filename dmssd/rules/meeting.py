"""Whom to open a session with, of all who greet on our links.

Both ends of a link hear each other's greetings, so both could start a handshake. The node with the smaller id starts
at once; the other only when it has been greeted again and no session stands: that covers a first message that was lost
without doubling every handshake. A neighbour already in session that greets as if it knew nobody has lost its
memory, and starts by itself.
"""

from collections.abc import Iterable

from routing.discovery import NeighbourSeen
from routing.lsa import LinkNumber
from sansio.bounded import RecentTable
from sansio.ids import MeshId, NodeId

SEEN_MAX = 1024


class Meetings:
    """Remembers where each greeter of this mesh was seen, and strangers by name for ``dmssd join``."""

    def __init__(self, me: NodeId, mesh: MeshId) -> None:
        self._me = me
        self._mesh = mesh
        self.seen_at: RecentTable[tuple[LinkNumber, str], NeighbourSeen] = RecentTable(SEEN_MAX)

    def seen(self, greeting: NeighbourSeen, in_session: bool) -> bool:
        """Note a greeting; whether to open a session now."""
        place = (greeting.link, greeting.address)
        before = self.seen_at.get(place)
        self.seen_at[place] = greeting
        if greeting.mesh != self._mesh:
            return False
        again = before is not None and before.node == greeting.node and before.mesh == greeting.mesh
        return not in_session and (self._me < greeting.node or again)

    def where(self, node: NodeId) -> Iterable[tuple[LinkNumber, str]]:
        """Every place from which somebody greets under that id: not proven, hence only hints."""
        return [place for place, seen in self.seen_at.items() if seen.node == node]

    def lost(self, link: LinkNumber) -> None:
        """Forget a link that has gone."""
        for place in [place for place in self.seen_at if place[0] == link]:
            del self.seen_at[place]
