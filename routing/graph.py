"""Graphs as values: directed, weighted multigraphs, and the link-state database read as one.

Theory of operation. A :class:`Graph` is a tuple of nodes and a tuple of directed edges, in an order that decides
nothing but the order of results. A link between two routers is two edges, one each way, that name each other through
``key`` and ``back``; each way has its own weight. Algorithms do not walk these tuples: :meth:`Graph.compact` prepares
the adjacency once, by index instead of by identity, for every shortest-path run over the same graph.

:func:`from_lsdb` applies the two-way check of OSPF (RFC 2328 16.1 (2b)): an adjacency counts only if the neighbour
advertises it too, with each other's link numbers. A link seen one way carries nothing.

Weights are integers of at least 1, which is what label setting without zero-cost ties needs. Decimal weights (offline
files) are scaled to integers by their reader, so that equal cost means equal and not nearly equal.

A *pseudonode* stands for a segment that many nodes share (RFC 2328 2.1.1): each node on it has an edge to it, of the
weight of its link, and the pseudonode an edge of weight 0 to each node. Label setting sees those ways doubled less one
and one instead of zero (``Compact.factor`` is 2 then), so that its weights are at least 1 all the same and a way across
costs its sender's weight exactly, twice. No packet is sent *to* a pseudonode: an exit to one stands for an exit to each
of the other nodes on it (:meth:`Graph.exits`).
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
    ``u`` that have that least weight, all of them. Self-loops and dominated parallel edges are in neither. ``infinity``
    is more than any distance. All weights are ``factor`` times what they mean; see :meth:`Graph.cost`.
    """

    links: tuple[tuple[tuple[int, int], ...], ...]
    exits: tuple[tuple[int, ...], ...]
    weight_max: int
    infinity: int
    factor: int = 1


class Graph(Generic[N]):
    """A directed weighted multigraph; not to be changed once made.

    ``nodes``: in the order given, then the ends of edges that were not among them. ``pseudonodes``: those of them that
    stand for segments. ``LocalProtocolError`` for a weight below 1, and where an edge of a pseudonode does not weigh 0
    or leads to another.
    """

    __slots__ = ("_compact", "edges", "index", "nodes", "pseudonodes")

    def __init__(self, nodes: Iterable[N], edges: Iterable[Edge[N]], pseudonodes: Iterable[N] = ()) -> None:
        self.edges: tuple[Edge[N], ...] = tuple(edges)
        self.pseudonodes: frozenset[N] = frozenset(pseudonodes)
        order = dict.fromkeys(nodes)
        for edge in self.edges:
            if edge.u in self.pseudonodes:
                if edge.weight != 0 or edge.v in self.pseudonodes:
                    raise LocalProtocolError(f"edge {edge} of a pseudonode must weigh 0 and lead to a node")
            elif edge.weight < 1:
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
        return Graph(self.nodes, edges, self.pseudonodes)

    def cost(self, edge: Edge[N]) -> int:
        """The weight of an edge as :meth:`compact` has it."""
        if not self.pseudonodes:
            return edge.weight
        return 2 * edge.weight + (edge.u in self.pseudonodes) - (edge.v in self.pseudonodes)

    def exits(self, source: N) -> tuple[Edge[N], ...]:
        """The edges by which a shortest path may leave ``source``; bit ``i`` of a first-hop set is the ``i``-th.

        Of several to one neighbour those of least weight, all of them. An edge to a pseudonode is replaced by one to
        each other node on it: of its weight and key, with the number of the far node's link as ``back``.
        """
        found = [self.edges[position] for position in self.compact().exits[self.index[source]]]
        if self.pseudonodes.isdisjoint(edge.v for edge in found):
            return tuple(found)
        ways: list[Edge[N]] = []
        for edge in found:
            if edge.v in self.pseudonodes:
                beyond = (self.edges[position] for position in self.compact().exits[self.index[edge.v]])
                ways += [Edge(source, far.v, edge.weight, edge.key, far.back) for far in beyond if far.v != source]
            else:
                ways.append(edge)
        least: dict[N, int] = {}
        for way in ways:
            least[way.v] = min(way.weight, least.get(way.v, way.weight))
        return tuple(way for way in ways if way.weight == least[way.v])

    def compact(self) -> Compact:
        """The prepared adjacency; made at the first call, in time linear in the graph."""
        if self._compact is None:
            self._compact = _prepare(self)
        return self._compact


def _prepare(graph: Graph[N]) -> Compact:
    index = graph.index
    costs = [graph.cost(edge) for edge in graph.edges]
    least: list[dict[int, int]] = [{} for _ in graph.nodes]
    for (u, v, _, _, _), weight in zip(graph.edges, costs, strict=True):
        if u != v:
            row, to = least[index[u]], index[v]
            row[to] = min(weight, row.get(to, weight))
    exits: list[list[int]] = [[] for _ in graph.nodes]
    for position, (u, v, _, _, _) in enumerate(graph.edges):
        if u != v and least[index[u]][index[v]] == costs[position]:
            exits[index[u]].append(position)
    weights = [weight for row in least for weight in row.values()]
    return Compact(
        links=tuple(tuple(row.items()) for row in least),
        exits=tuple(map(tuple, exits)),
        weight_max=max(weights, default=0) + (1 if graph.pseudonodes else 0),  # a node across a segment is one more
        infinity=sum(weights) + 1,
        factor=2 if graph.pseudonodes else 1,
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
