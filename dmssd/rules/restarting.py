"""How long to go on forwarding through a neighbour whose daemon is away.

Its kernel forwards by the last plan it was given. While the topology stays as it was then, that is right, and nobody
should move a packet. Once anything else changes, the others forward by new plans and it by the old one: that may be a
loop. So its neighbours give it up at the first such change, as RFC 3623, 3.2 (3) has helpers do, unless the mesh would
fall apart without it: then stale forwarding is better than none. All of its neighbours see the same database, so they
decide alike.
"""

from collections.abc import Mapping

from routing.lsa import Lsa
from routing.plan import Planner
from sansio.ids import NodeId

_Topology = frozenset[tuple[NodeId, NodeId, int, int]]


class Restarts:
    """Which neighbours are restarting, and how the rest of the topology looked when they began to."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._before: dict[NodeId, _Topology] = {}

    @property
    def nodes(self) -> frozenset[NodeId]:
        """The neighbours whose daemons are away."""
        return frozenset(self._before)

    def began(self, node: NodeId, lsdb: Mapping[NodeId, Lsa]) -> None:
        """A neighbour's daemon fell silent while its kernel answers."""
        self._before.setdefault(node, _rest(lsdb, node))

    def ended(self, node: NodeId) -> bool:
        """It is back, or lost for good; whether it was restarting."""
        return self._before.pop(node, None) is not None

    def to_give_up(self, lsdb: Mapping[NodeId, Lsa]) -> list[NodeId]:
        """Those through whom forwarding has become wrong, in order of id."""
        changed = sorted(node for node, before in self._before.items() if _rest(lsdb, node) != before)
        return [node for node in changed if self._is_dispensable(node, lsdb)]

    def _is_dispensable(self, node: NodeId, lsdb: Mapping[NodeId, Lsa]) -> bool:
        with_it = Planner(lsdb).component(self._me)
        without = Planner({origin: lsa for origin, lsa in lsdb.items() if origin != node}).component(self._me)
        return without == with_it - {node}


def _rest(lsdb: Mapping[NodeId, Lsa], node: NodeId) -> _Topology:
    """What everybody but ``node`` says: a neighbour that no longer reaches it counts, its own return does not."""
    return frozenset(
        (origin, adjacency.neighbour, adjacency.link, adjacency.metric)
        for origin, lsa in lsdb.items()
        if origin != node
        for adjacency in lsa.adjacencies
    )
