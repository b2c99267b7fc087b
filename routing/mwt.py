"""The Min-Weight Topology: the part of the Global Topology that is kept, and of every other edge why it is not.

Theory of operation. Two policies (DESIGN 7):

``shortest``: the least graph that loses no shortest path. Of parallel edges the least stay, ties all; an edge (u, v)
stays only if its weight is the distance from u to v. Every shortest path is made of such edges alone, so the shortest
path trees of the result are those of the whole, first hop for first hop. Found with one search per node that stops as
soon as all of the node's neighbours are settled.

``spanning``: the union of all minimum spanning trees (of each component), ties kept. A link's weight for the tree is
the larger of its two directions; both are kept with their own. An edge is in some minimum spanning tree exactly if no
path of strictly lighter edges joins its ends, so edges are taken in groups of equal weight: all of a group are judged
against the components that lighter edges have joined, and only then join theirs. This policy does change routes.

Where an edge does not say which other edge is its own link's other direction (directed files), the least edge back
stands in. An edge with no edge back at all weighs infinitely in the tree: it is kept just where no two-way path joins
its ends. So nothing that could be reached becomes unreachable by it.

A pseudonode of a segment is a node like any other here: the edges from it always stay, an edge to it goes where the
segment is reached cheaper by another way. In the tree a link to a segment weighs what its node says.

Self-loops are on no shortest path and in no tree: neither policy keeps them.

Everything is deterministic: results are in the order of the graph's edges, and of several ways round the one named is
settled by that order too.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from itertools import groupby
from typing import Generic

from routing.graph import Edge, Graph, N
from sansio.errors import LocalProtocolError

SHORTEST = "shortest"
SPANNING = "spanning"
POLICIES = (SHORTEST, SPANNING)
VIA_SHOWN_MAX = 8
"""Nodes of a way round that a sentence names."""


class Reason(Enum):
    """Why an edge is not in the Min-Weight Topology; the value is the sentence, about the edge."""

    LOOP = "begins and ends at the same node"
    PARALLEL = "parallel to a cheaper link ({bound} against {weight})"
    WAY_ROUND = "there is a way round of cost {bound} via {via}, against {weight}"
    PARALLEL_LIGHTER = "parallel to a lighter link (at most {bound} each way, against {weight})"
    CYCLE = "closes a cycle in which it is strictly the heaviest: {weight}, against at most {bound} via {via}"
    ONE_WAY = "has no direction back, and two-way links join its ends"


@dataclass(frozen=True, slots=True)
class Dropped(Generic[N]):
    """An edge that is left out, and the way that makes up for it.

    ``via``: the nodes between the edge's ends on that way. ``weight`` is the edge's own as the policy counts it;
    ``bound`` is the cost of that way under ``shortest``, under ``spanning`` the heaviest link on it.
    """

    edge: Edge[N]
    reason: Reason
    weight: float
    bound: float
    via: tuple[N, ...] = ()

    def sentence(self, name: Callable[[N], str]) -> str:
        """The reason for people; ``name`` says how a node is called."""
        more = len(self.via) - VIA_SHOWN_MAX
        via = ", ".join(map(name, self.via[:VIA_SHOWN_MAX])) + (f" and {more} more" if more > 0 else "")
        return self.reason.value.format(weight=self.weight, bound=self.bound, via=via)


@dataclass(frozen=True, slots=True)
class MwtResult(Generic[N]):
    """Every edge of the Global Topology, once, in its order: kept or dropped."""

    policy: str
    kept: tuple[Edge[N], ...]
    dropped: tuple[Dropped[N], ...]


def minimum_weight(graph: Graph[N], policy: str = SHORTEST) -> MwtResult[N]:
    """The Min-Weight Topology of ``graph`` with reasons; ``LocalProtocolError`` for an unknown policy."""
    check_policy(policy)
    return _shortest(graph) if policy == SHORTEST else _spanning(graph)


def check_policy(policy: str) -> None:
    """``LocalProtocolError`` unless ``policy`` is one of ``POLICIES``."""
    if policy not in POLICIES:
        raise LocalProtocolError(f"no such MWT policy: {policy!r}, there are {', '.join(POLICIES)}")


def _shortest(graph: Graph[N]) -> MwtResult[N]:
    leaving: list[list[Edge[N]]] = [[] for _ in graph.nodes]
    for edge in graph.edges:
        leaving[graph.index[edge.u]].append(edge)
    verdicts: dict[Edge[N], Dropped[N] | None] = {}
    for source, edges in enumerate(leaving):
        distances, parents = _near(graph, source)
        for edge in edges:
            verdicts[edge] = _judge_shortest(graph, edge, distances, parents)
    return _result(graph, SHORTEST, [verdicts[edge] for edge in graph.edges])


def _near(graph: Graph[N], source: int) -> tuple[dict[int, int], dict[int, int]]:
    """Distances and parents (positions) out to the farthest direct neighbour; the direct link is parent on a tie."""
    compact = graph.compact()
    bits = len(graph.nodes).bit_length()
    distances = {source: 0}
    parents: dict[int, int] = {}
    queue: list[int] = []
    for to, weight in compact.links[source]:
        distances[to] = weight
        parents[to] = source
        heappush(queue, weight << bits | to)
    waiting = set(parents)
    while waiting:
        entry = heappop(queue)
        near, distance = entry & ((1 << bits) - 1), entry >> bits
        if distances[near] != distance:
            continue
        waiting.discard(near)
        for to, weight in compact.links[near]:
            if distance + weight < distances.get(to, compact.infinity):
                distances[to] = distance + weight
                parents[to] = near
                heappush(queue, distance + weight << bits | to)
    return distances, parents


def _judge_shortest(
    graph: Graph[N], edge: Edge[N], distances: dict[int, int], parents: dict[int, int]
) -> Dropped[N] | None:
    if edge.u == edge.v:
        return Dropped(edge, Reason.LOOP, edge.weight, 0)
    source, target = graph.index[edge.u], graph.index[edge.v]
    distance = distances[target]
    if graph.cost(edge) == distance:
        return None
    via: list[N] = []
    step = parents[target]
    while step != source:
        via.append(graph.nodes[step])
        step = parents[step]
    reason = Reason.WAY_ROUND if via else Reason.PARALLEL
    factor = graph.compact().factor
    return Dropped(edge, reason, edge.weight, (distance + factor - 1) // factor, tuple(reversed(via)))


def _spanning(graph: Graph[N]) -> MwtResult[N]:
    weights = _tree_weights(graph)
    forest = _Forest(len(graph.nodes))
    kept: set[int] = set()
    order = sorted(range(len(graph.edges)), key=weights.__getitem__)
    for weight, group in groupby(order, key=weights.__getitem__):
        ends = [(edge, graph.index[graph.edges[edge].u], graph.index[graph.edges[edge].v]) for edge in group]
        chosen = [(edge, u, v) for edge, u, v in ends if forest.find(u) != forest.find(v)]
        for edge, u, v in chosen:
            kept.add(edge)
            forest.join(u, v, weight)
    forest.root()
    verdicts = [
        None if position in kept else _judge_spanning(graph, edge, weights[position], forest)
        for position, edge in enumerate(graph.edges)
    ]
    return _result(graph, SPANNING, verdicts)


def _tree_weights(graph: Graph[N]) -> list[float]:
    """By position in ``graph.edges``: the larger of the two directions, infinite where there is only one."""
    own: dict[tuple[N, N, int, int | None], int] = {}
    least: dict[tuple[N, N], int] = {}
    for u, v, weight, key, back in graph.edges:
        own[u, v, key, back] = weight
        least[u, v] = min(weight, least.get((u, v), weight))
    weights: list[float] = []
    for u, v, weight, key, back in graph.edges:
        other: float | None = own.get((v, u, back, key)) if back is not None else least.get((v, u))
        weights.append(max(weight, math.inf if other is None else other))
    return weights


def _judge_spanning(graph: Graph[N], edge: Edge[N], weight: float, forest: "_Forest") -> Dropped[N]:
    if edge.u == edge.v:
        return Dropped(edge, Reason.LOOP, edge.weight, 0)
    way, bound = forest.path(graph.index[edge.u], graph.index[edge.v])
    via = tuple(graph.nodes[position] for position in way[1:-1])
    if weight == math.inf:
        return Dropped(edge, Reason.ONE_WAY, edge.weight, bound, via)
    return Dropped(edge, Reason.CYCLE if via else Reason.PARALLEL_LIGHTER, weight, bound, via)


class _Forest:
    """Disjoint sets that remember one minimum spanning tree of each, to tell the lightest way between two nodes."""

    def __init__(self, size: int) -> None:
        self._leader = list(range(size))
        self._links: list[list[tuple[int, float]]] = [[] for _ in range(size)]
        self._above: list[tuple[int, float]] = []
        self._depth: list[int] = []

    def find(self, node: int) -> int:
        """The set's representative."""
        leader = self._leader
        while leader[node] != node:
            leader[node] = node = leader[leader[node]]
        return node

    def join(self, u: int, v: int, weight: float) -> None:
        """Make the two sets one; the link enters the tree if they were two."""
        first, second = self.find(u), self.find(v)
        if first != second:
            self._leader[second] = first
            self._links[u].append((v, weight))
            self._links[v].append((u, weight))

    def root(self) -> None:
        """Hang each tree from its first node; call once, when all is joined."""
        size = len(self._leader)
        self._above = [(node, 0) for node in range(size)]
        self._depth = [-1] * size
        for start in range(size):
            if self._depth[start] < 0:
                self._hang(start)

    def _hang(self, start: int) -> None:
        self._depth[start] = 0
        todo = [start]
        while todo:
            node = todo.pop()
            for to, weight in self._links[node]:
                if self._depth[to] < 0:
                    self._depth[to] = self._depth[node] + 1
                    self._above[to] = (node, weight)
                    todo.append(to)

    def path(self, u: int, v: int) -> tuple[list[int], float]:
        """The tree's way from ``u`` to ``v`` (of one tree), both included, and its heaviest link."""
        head, tail = [u], [v]
        heaviest: float = 0
        while head[-1] != tail[-1]:
            side = head if self._depth[head[-1]] >= self._depth[tail[-1]] else tail
            above, weight = self._above[side[-1]]
            side.append(above)
            heaviest = max(heaviest, weight)
        return head + tail[-2::-1], heaviest


def _result(graph: Graph[N], policy: str, verdicts: Iterable[Dropped[N] | None]) -> MwtResult[N]:
    kept: list[Edge[N]] = []
    dropped: list[Dropped[N]] = []
    for edge, verdict in zip(graph.edges, verdicts, strict=True):
        if verdict is None:
            kept.append(edge)
        else:
            dropped.append(verdict)
    return MwtResult(policy, tuple(kept), tuple(dropped))
