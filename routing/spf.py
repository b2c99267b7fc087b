"""Shortest paths with every equal-cost first hop, from one source.

Theory of operation. Label setting (Dijkstra 1959) over the prepared adjacency. Beside its distance each node has the
set of first hops of *all* its shortest paths, as an integer whose bit ``i`` stands for the source's ``i``-th exit:
a node's set is the union over its predecessors on shortest paths, and since weights are at least 1 each of those is
settled, and its set final, before the node itself. One ``|=`` merges any number of hops.

Two queues do the work, with identical results:

- *buckets* (Dial 1969), one list per distance modulo a power of two above the largest weight. Entries are never moved:
  one whose node has got nearer is skipped when its turn comes. Best where metrics are small integers and nodes many.
- a *binary heap* of single integers, ``distance << bits | node``: no tuples to allocate or compare. Best for few nodes,
  large or widely spread weights.

Where the source is on a segment, the other nodes on it are set first, each by its own exit; the pseudonode itself gets
the empty set, since no packet goes there, and passes on only what reaches it by other ways of equal cost.

``shortest_paths`` picks. Since the longest distance is not known beforehand, the bucket run counts the slots it has
looked at and hands what is left to the heap once those outnumber the graph (a long chain of heavy links). Tried and
left out, each slower here: a heap of (distance, node) tuples, a dict of lists with a heap of distances, one flat list
of buckets that grows, preallocated empty lists, buckets as linked cells. ``python -m benchmarks.spf`` measures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Generic

from routing.graph import Compact, Edge, Graph, N

BUCKETS_MAX = 4096
"""Weights beyond this many buckets go to the heap at once."""
SCAN_FACTOR = 16
"""Slots looked at per node and bucket before the bucket queue gives way to the heap."""


@dataclass(frozen=True, slots=True)
class ShortestPaths(Generic[N]):
    """The shortest-path DAG of one source, seen from the source.

    ``distances`` and ``first_hops`` go by the node's position in ``graph.nodes``; what cannot be reached has
    ``graph.compact().infinity`` and the empty set. Bit ``i`` of a set is the edge ``exits[i]`` (:meth:`Graph.exits`).
    """

    graph: Graph[N]
    source: N
    distances: list[int]
    first_hops: list[int]
    exits: tuple[Edge[N], ...]

    def distance(self, node: N) -> int | None:
        """From the source to ``node``; ``None`` where there is no way."""
        distance = self.distances[self.graph.index[node]]
        return None if distance == self.graph.compact().infinity else distance

    def hops(self, node: N) -> tuple[Edge[N], ...]:
        """The first edges of all shortest paths to ``node``; empty for the source and where there is no way."""
        return members(self.first_hops[self.graph.index[node]], self.exits)

    def reached(self) -> Iterator[tuple[N, int, int]]:
        """(node, distance, first-hop set) of every node that can be reached, the source included, in node order.

        Pseudonodes are left out: they are places to pass, not to reach.
        """
        infinity = self.graph.compact().infinity
        pseudonodes = self.graph.pseudonodes
        for node, distance, hops in zip(self.graph.nodes, self.distances, self.first_hops, strict=True):
            if distance != infinity and node not in pseudonodes:
                yield node, distance, hops


def members(hops: int, exits: tuple[Edge[N], ...]) -> tuple[Edge[N], ...]:
    """The edges in a first-hop set, in the order of ``exits``."""
    return tuple(edge for position, edge in enumerate(exits) if hops >> position & 1)


def shortest_paths(graph: Graph[N], source: N) -> ShortestPaths[N]:
    """Distances and complete first-hop sets from ``source``; ``KeyError`` if it is not a node of ``graph``."""
    compact = graph.compact()
    run = run_buckets if _suits_buckets(compact) else run_heap
    distances, first_hops = run(graph, graph.index[source])
    if compact.factor != 1:
        # A pseudonode lies half a step short of the nodes on it: it counts as far as they do.
        far = compact.infinity
        distances = [distance if distance == far else (distance + 1) // 2 for distance in distances]
    return ShortestPaths(graph, source, distances, first_hops, graph.exits(source))


def _suits_buckets(compact: Compact) -> bool:
    # Below about four slots a node, making and walking the buckets costs more than a heap of so few entries.
    return compact.weight_max < min(BUCKETS_MAX, 4 * len(compact.links))


def run_heap(graph: Graph[N], source: int) -> tuple[list[int], list[int]]:
    """Distances and first-hop sets by the binary heap; ``source`` is a position."""
    compact = graph.compact()
    distances, first_hops, reached = _start(graph, source)
    bits = len(distances).bit_length()
    queue = [distances[to] << bits | to for to in reached]
    _drain_heap(compact, distances, first_hops, queue)
    return distances, first_hops


def run_buckets(graph: Graph[N], source: int) -> tuple[list[int], list[int]]:
    """Distances and first-hop sets by the bucket queue; ``source`` is a position."""
    compact = graph.compact()
    distances, first_hops, reached = _start(graph, source)
    buckets: list[list[int] | None] = [None] * (1 << compact.weight_max.bit_length())
    for to in reached:
        _put(buckets, distances[to], to)
    left = _drain_buckets(compact, distances, first_hops, buckets)
    if left:
        bits = len(distances).bit_length()
        _drain_heap(compact, distances, first_hops, [distances[node] << bits | node for node in left])
    return distances, first_hops


def _start(graph: Graph[N], source: int) -> tuple[list[int], list[int], list[int]]:
    """Distances and first-hop sets one exit away from the source, and which nodes that concerns."""
    compact = graph.compact()
    distances = [compact.infinity] * len(graph.nodes)
    first_hops = [0] * len(graph.nodes)
    distances[source] = 0
    reached = dict(compact.links[source])
    for position, edge in enumerate(graph.exits(graph.nodes[source])):
        to = graph.index[edge.v]
        first_hops[to] |= 1 << position
        reached[to] = compact.factor * edge.weight
    for to, weight in reached.items():
        distances[to] = weight
    return distances, first_hops, list(reached)


def _put(buckets: list[list[int] | None], slot: int, node: int) -> None:
    bucket = buckets[slot]
    if bucket is None:
        buckets[slot] = [node]
    else:
        bucket.append(node)


def _drain_heap(compact: Compact, distances: list[int], first_hops: list[int], queue: list[int]) -> None:
    links = compact.links
    bits = len(links).bit_length()
    mask = (1 << bits) - 1
    heapify(queue)
    while queue:
        entry = heappop(queue)
        near = entry & mask
        distance = entry >> bits
        if distances[near] != distance:
            continue  # reached by a shorter way since it was queued
        hops = first_hops[near]
        for to, weight in links[near]:
            weight += distance
            known = distances[to]
            if weight < known:
                distances[to] = weight
                first_hops[to] = hops
                heappush(queue, weight << bits | to)
            elif weight == known:
                first_hops[to] |= hops


def _drain_buckets(
    compact: Compact, distances: list[int], first_hops: list[int], buckets: list[list[int] | None]
) -> list[int]:
    # Returns the nodes still queued when the scan has grown out of proportion, each maybe more than once.
    links = compact.links
    size = len(buckets)
    mask = size - 1
    scan_max = SCAN_FACTOR * (len(links) + size)
    base = 0
    queued = True
    while queued and base < scan_max:
        queued = False
        for distance, bucket in enumerate(buckets, base):
            if bucket is None:
                continue
            queued = True
            buckets[distance & mask] = None
            for near in bucket:
                if distances[near] != distance:
                    continue  # reached by a shorter way since it was queued
                hops = first_hops[near]
                for to, weight in links[near]:
                    weight += distance
                    known = distances[to]
                    if weight < known:
                        distances[to] = weight
                        first_hops[to] = hops
                        slot = weight & mask
                        queue = buckets[slot]
                        if queue is None:
                            buckets[slot] = [to]
                        else:
                            queue.append(to)
                    elif weight == known:
                        first_hops[to] |= hops
        base += size
    return [node for bucket in buckets if bucket is not None for node in bucket]
