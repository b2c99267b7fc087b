"""How to reach a member: directly over a link, or hop by hop through the control network.

A neighbour is spoken to over its best adjacency that is up. Where no adjacency is up but the control network knows a
way round, that way is taken: a link that has gone silent must not be tried first. A link on which the neighbour was
only met is the last resort, which is what carries the first hello.
"""

from collections.abc import Mapping

from dmssd.security.sessions import LinkPath, Path, RoutedPath
from routing.lsa import LinkNumber
from routing.neighbours import NeighbourDown, NeighbourUp
from sansio.bounded import RecentTable
from sansio.ids import NodeId

MET_MAX = 1024
"""Nodes remembered as met, strangers among them; the one least recently met goes. Adjacencies are kept apart."""


class Paths:
    """Keeps the links on which each neighbour was met and which of them carry an adjacency."""

    def __init__(self) -> None:
        self._met: RecentTable[NodeId, dict[LinkNumber, str]] = RecentTable(MET_MAX)
        self._up: dict[NodeId, dict[LinkNumber, tuple[int, str]]] = {}
        self._beside: dict[NodeId, LinkPath] = {}
        self.next_hops: Mapping[NodeId, NodeId] = {}

    def met(self, node: NodeId, link: LinkNumber, address: str) -> bool:
        """Note where a neighbour was met; whether that was new."""
        links = self._met.get(node, {})
        new = links.get(link) != address
        links[link] = address
        self._met[node] = links
        return new

    def forget(self, node: NodeId, link: LinkNumber) -> None:
        """Nobody has answered at that place for long."""
        links = self._met.get(node, {})
        links.pop(link, None)
        if not links:
            self._met.pop(node, None)

    def succeeded(self, node: NodeId, heir: NodeId) -> None:
        """Where ``node`` was met its heir is now."""
        self._met[heir] = {**self._met.get(heir, {}), **self._met.get(node, {})}
        self._met.pop(node, None)
        if not self._met[heir]:
            self._met.pop(heir, None)

    def lost(self, link: LinkNumber) -> None:
        """Forget a link that has gone."""
        for node in list(self._met):
            self.forget(node, link)

    def up(self, event: NeighbourUp) -> None:
        """An adjacency came up."""
        self._up.setdefault(event.node, {})[event.link] = (event.metric, event.address)

    def down(self, event: NeighbourDown) -> None:
        """An adjacency went down."""
        links = self._up.get(event.node, {})
        links.pop(event.link, None)
        if not links:
            self._up.pop(event.node, None)

    def beside(self, addresses: Mapping[tuple[NodeId, LinkNumber], str]) -> None:
        """Who is on our segments; replaces all before."""
        self._beside = {node: LinkPath(link, text) for (node, link), text in reversed(list(addresses.items()))}

    def neighbours(self) -> tuple[NodeId, ...]:
        """Who can be handed a frame directly, in order of id."""
        return tuple(sorted(node for node in {**self._met, **self._up} if self._met.get(node) or node in self._up))

    def direct(self, node: NodeId) -> LinkPath | None:
        """The best direct path to a neighbour; ``None`` for everyone else."""
        if links := self._up.get(node):
            link = min(links, key=lambda number: (links[number][0], number))
            return LinkPath(link, links[link][1])
        if met := self._met.get(node):
            link = min(met)
            return LinkPath(link, met[link])
        return None

    def to(self, node: NodeId) -> Path:
        """The path to use for a message to ``node``."""
        if node not in self._up and node in self._beside:
            return self._beside[node]
        if node not in self._up and node in self.next_hops:
            return RoutedPath(node, ())
        return self.direct(node) or RoutedPath(node, ())
