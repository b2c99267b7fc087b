"""What people call a node: as its certificate says, else as members say (LSAs, gossip), else as it greets.

A greeting is anybody's word and costs nothing, so what greeters are called is kept apart: a flood of greetings can
push out other greeters, and never the name of a member; and no greeter makes a member's name ambiguous.
"""

from collections.abc import Iterator, Mapping

from sansio.bounded import RecentTable
from sansio.ids import NodeId

NAMES_MAX = 16_384  # of members; the one least recently told goes
GREETERS_MAX = 1024  # the one least recently heard goes


class Names:
    """Names by node; this node's own is never forgotten. ``certified``: a live view of what certificates say."""

    def __init__(self, me: NodeId, name: str, certified: Mapping[NodeId, str]) -> None:
        self._mine = (me, name)
        self._certified = certified
        self._told: RecentTable[NodeId, str] = RecentTable(NAMES_MAX)
        self._greeted: RecentTable[NodeId, str] = RecentTable(GREETERS_MAX)

    def __iter__(self) -> Iterator[NodeId]:
        return iter({self._mine[0]: "", **self._certified, **self._told, **self._greeted})

    def get(self, node: NodeId) -> str:
        """What ``node`` is called; empty where nothing is known."""
        if node == self._mine[0]:
            return self._mine[1]
        return self._certified.get(node) or self._told.get(node) or self._greeted.get(node, "")

    def called(self, name: str) -> list[NodeId]:
        """Who is called so, in order of id: members, or else greeters."""
        members = {self._mine[0]: "", **self._certified, **self._told}
        fits = [node for node in members if self.get(node) == name]
        return sorted(fits or [node for node, greeted in self._greeted.items() if greeted == name])

    def told(self, node: NodeId, name: str) -> None:
        """A member is called so."""
        if name:
            self._told[node] = name

    def succeeded(self, node: NodeId) -> None:
        """A member goes on under another id: its name is not that of the old one any more."""
        self._told.pop(node, None)
        self._greeted.pop(node, None)

    def greeted(self, node: NodeId, name: str) -> None:
        """Somebody who greets calls itself so."""
        if node not in self._told:
            self._greeted[node] = name
