"""How long to go on forwarding through a neighbour whose daemon is away.

Its kernel forwards by the last plan it was given. While the topology stays as it was then, that is right, and nobody
should move a packet. Once anything else changes, the others forward by new plans and it by the old one: that may be a
loop. So its neighbours give it up at the first such change, as RFC 3623, 3.2 (3) has helpers do, unless the mesh would
fall apart without it: then stale forwarding is better than none. All of its neighbours see the same database, so they
decide alike.

A daemon is missed only some time after it has died, and what changed in between its kernel does not know either. So the
topology that counts is the one of ``window`` before it was missed.
"""

from collections import deque
from collections.abc import Mapping

from routing.lsa import Lsa
from routing.plan import Planner
from routing.pseudonode import Port, segments, topology
from sansio.ids import NodeId
from sansio.instant import Duration, Instant, after

HISTORY_MAX = 32
_SEGMENT = NodeId(b"")
"""Stands for whatever segment a link is on."""

_Topology = frozenset[tuple[NodeId, NodeId, int, int]]


class Restarts:
    """Which neighbours are restarting, and how the rest of the topology looked when they were last known to be there.

    ``window``: the longest time that a daemon can be dead and not missed yet.
    """

    def __init__(self, me: NodeId, window: Duration) -> None:
        self._me = me
        self.window = window
        self._history: deque[tuple[Instant, Mapping[NodeId, Lsa]]] = deque()
        self._before: dict[NodeId, _Topology] = {}

    @property
    def nodes(self) -> frozenset[NodeId]:
        """The neighbours whose daemons are away."""
        return frozenset(self._before)

    def moved(self, lsdb: Mapping[NodeId, Lsa], now: Instant) -> None:
        """Note a change of the database."""
        history = self._history
        # Where changes come faster than the history holds, its oldest state stays: looking too far back is safe.
        if len(history) >= HISTORY_MAX:
            history.pop()
        history.append((now, dict(lsdb)))
        while len(history) > 1 and after(history[1][0], self.window) <= now:
            history.popleft()

    def succeeded(self, lsdb: Mapping[NodeId, Lsa], now: Instant) -> None:
        """Somebody goes on under another key: the database as read before was about other names."""
        self._history.clear()
        self.moved(lsdb, now)

    def began(self, node: NodeId, now: Instant) -> None:
        """A neighbour's daemon was missed while its kernel answers."""
        then: Mapping[NodeId, Lsa] = self._history[0][1] if self._history else {}
        for since, lsdb in self._history:
            if after(since, self.window) <= now:
                then = lsdb
        self._before.setdefault(node, _rest(then, node))

    def ended(self, node: NodeId) -> bool:
        """It is back, or lost for good; whether it was restarting."""
        return self._before.pop(node, None) is not None

    def to_give_up(self, lsdb: Mapping[NodeId, Lsa]) -> list[NodeId]:
        """Those through whom forwarding has become wrong, in order of id."""
        changed = sorted(node for node, before in self._before.items() if _rest(lsdb, node) != before)
        return [node for node in changed if self._is_dispensable(node, lsdb)]

    def _is_dispensable(self, node: NodeId, lsdb: Mapping[NodeId, Lsa]) -> bool:
        # A leaf forwards for nobody, so it can be in no loop; giving it up would only make it unreachable.
        if len({edge.u for edge in topology(lsdb).edges if edge.v == node}) <= 1:
            return False
        with_it = Planner(lsdb).component(self._me)
        without = Planner({origin: lsa for origin, lsa in lsdb.items() if origin != node}).component(self._me)
        return without == with_it - {node}


def _rest(lsdb: Mapping[NodeId, Lsa], node: NodeId) -> _Topology:
    """What everybody but ``node`` says: a neighbour that no longer reaches it counts, its own return does not.

    Of a segment it counts who is on it, not who speaks for it: that may change without moving a packet.
    """
    graph = topology(lsdb)
    return frozenset(
        (edge.u, _SEGMENT if edge.v in graph.pseudonodes else edge.v, edge.key, edge.weight)
        for edge in graph.edges
        if edge.u not in graph.pseudonodes and node not in (edge.u, edge.v)
    ) | _half_seen(lsdb, node)


def _half_seen(lsdb: Mapping[NodeId, Lsa], node: NodeId) -> _Topology:
    """What others say of links to ``node``: when it comes back it says nothing of them for a moment."""
    on = {port for segment in segments(lsdb) for port in segment.members}
    return frozenset(
        (origin, node, adjacency.link, adjacency.metric)
        for origin, lsa in lsdb.items()
        for adjacency in lsa.adjacencies
        if adjacency.neighbour == node and Port(origin, adjacency.link) not in on
    )
