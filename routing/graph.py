"""Graphs as values: directed, weighted multigraphs, and the link-state database read as one.

Theory of operation. A :class:`Graph` is a tuple of nodes and a tuple of directed edges, in an order that decides
nothing but the order of results. A link between two routers is two edges, one each way, that name each other through
``key`` and ``back``; each way has its own weight. Algorithms do not walk these tuples: :meth:`Graph.compact` prepares
the adjacency once, by index instead of by identity, for every shortest-path run over the same graph.

:func:`from_lsdb` applies the two-way check of OSPF (RFC 2328 16.1 (2b)): an adjacency counts only if the neighbour
advertises it too, with each other's link numbers. A link seen one way carries nothing.

Weights are integers of at least 1, which is what label setting without zero-cost ties needs. Decimal weights (offline
files) are scaled to integers by their reader, so that equal cost means equal and not nearly equal.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from routing.lsa import Adjacency, LinkNumber, Lsa
from sansio.errors import LocalProtocolError
from sansio.ids import NodeId

N = TypeVar("N", bound=Hashable)


class Edge(NamedTuple, Generic[N]):
    """One direction of a link, from ``u`` to ``v``.

    ``key`` tells parallel edges apart (in a mesh: the link's number at ``u``). ``back`` is the key of the same link's
    other direction (the link's number at ``v``), ``None`` where it is unknown which edge that is.
    """

    u: N
    v: N
    weight: int
    key: int = 0
    back: int | None = None


@dataclass(frozen=True, slots=True)
class Compact:
    """A graph prepared for label setting: nodes and edges are their positions in the ``Graph``.

    ``links[u]``: (neighbour, least weight of the edges to it), once per neighbour. ``exits[u]``: the edges out of
    ``u`` that have that least weight, all of them; bit ``i`` of a first-hop set is ``exits[source][i]``. Self-loops and
    dominated parallel edges are in neither. ``infinity`` is more than any distance.
    """

    links: tuple[tuple[tuple[int, int], ...], ...]
    exits: tuple[tuple[int, ...], ...]
    weight_max: int
    infinity: int


class Graph(Generic[N]):
    """A directed weighted multigraph; not to be changed once made.

    ``nodes``: in the order given, then the ends of edges that were not among them. ``LocalProtocolError`` for a weight
    below 1.
    """

    __slots__ = ("_compact", "edges", "index", "nodes")

    def __init__(self, nodes: Iterable[N], edges: Iterable[Edge[N]]) -> None:
        self.edges: tuple[Edge[N], ...] = tuple(edges)
        order = dict.fromkeys(nodes)
        for edge in self.edges:
            if edge.weight < 1:
                raise LocalProtocolError(f"edge {edge} weighs less than 1")
            order[edge.u] = order[edge.v] = None
        self.nodes: tuple[N, ...] = tuple(order)
        self.index: dict[N, int] = {node: position for position, node in enumerate(self.nodes)}
        self._compact: Compact | None = None

    @classmethod
    def of(cls, *edges: tuple[N, N, int, int]) -> "Graph[N]":
        """From directed (u, v, weight, key) tuples."""
        return cls((), (Edge(*edge) for edge in edges))

    def keeping(self, edges: Iterable[Edge[N]]) -> "Graph[N]":
        """The same nodes, in the same order, with these edges."""
        return Graph(self.nodes, edges)

    def compact(self) -> Compact:
        """The prepared adjacency; made at the first call, in time linear in the graph."""
        if self._compact is None:
            self._compact = _prepare(self)
        return self._compact


def _prepare(graph: Graph[N]) -> Compact:
    index = graph.index
    least: list[dict[int, int]] = [{} for _ in graph.nodes]
    for u, v, weight, _, _ in graph.edges:
        if u != v:
            row, to = least[index[u]], index[v]
            row[to] = min(weight, row.get(to, weight))
    exits: list[list[int]] = [[] for _ in graph.nodes]
    for position, (u, v, weight, _, _) in enumerate(graph.edges):
        if u != v and least[index[u]][index[v]] == weight:
            exits[index[u]].append(position)
    weights = [weight for row in least for weight in row.values()]
    return Compact(
        links=tuple(tuple(row.items()) for row in least),
        exits=tuple(map(tuple, exits)),
        weight_max=max(weights, default=0),
        infinity=sum(weights) + 1,
    )


def from_lsdb(lsdb: Mapping[NodeId, Lsa]) -> Graph[NodeId]:
    """The Global Topology: nodes in order of their ids, edges that both ends advertise.

    An edge's key is the link's number at its near end, ``back`` that at its far end. A node that advertises one
    adjacency twice counts with the lesser metric. The result does not depend on the order of the mapping.
    """
    advertised: dict[tuple[NodeId, LinkNumber, NodeId, LinkNumber], int] = {}
    nodes = sorted(lsdb)
    for node in nodes:
        for adjacency in sorted(lsdb[node].adjacencies):
            advertised.setdefault(_ends(node, adjacency), adjacency.metric)
    edges = (
        Edge(near, far, metric, link, remote)
        for (near, link, far, remote), metric in advertised.items()
        if near != far and (far, remote, near, link) in advertised
    )
    return Graph(nodes, edges)


def _ends(node: NodeId, adjacency: Adjacency) -> tuple[NodeId, LinkNumber, NodeId, LinkNumber]:
    return node, adjacency.link, adjacency.neighbour, adjacency.remote_link
