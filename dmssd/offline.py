"""What the mesh would do with a graph from a file: its Min-Weight Topology and shortest-path trees, without a mesh.

The answer is one JSON-ready object: ``{"mwt": {"policy": P, "edges": [[u, v, weight], ...]}, "spt": {SOURCE: {DEST:
{"distance": N, "next_hops": [NAME, ...]}}}}``. Edges and names are sorted; an undirected edge is given once, its lesser
name first; a source's row has neither the source nor what it cannot reach; ``next_hops`` are the distinct neighbours
that begin shortest paths. Under ``spanning`` the trees are those of the spanning graph.

Weights are exact. A decimal is taken as it is written, not as the nearest binary fraction, and all are scaled to
integers: 0.1 + 0.2 and 0.3 are the same cost, and printed as 0.3. Whole numbers print as integers (beyond 2**53 only
where the file has nothing but integers), others as the nearest float. Text is not a number, whatever it spells, and
neither is true; self-loops must have a valid weight like all edges, and are then ignored.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from dmssd.graphfile import FileEdge, FileGraph, GraphFileError, plain
from routing.graph import Edge, Graph
from routing.mwt import SHORTEST, minimum_weight
from routing.spf import members, shortest_paths

WEIGHT_MAX = 10**300
"""So that no distance is beyond what a JSON number means to most readers."""
EXACT_FLOAT_MAX = 2**53

Number = int | float
Answer = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Scale:
    """Between weights as the file has them and the integers that are computed with."""

    unit: int
    integers: bool

    def number(self, scaled: int) -> Number:
        whole, rest = divmod(scaled, self.unit)
        if rest:
            return scaled / self.unit
        return whole if self.integers or whole < EXACT_FLOAT_MAX else float(whole)


def compute(
    graph: FileGraph,
    policy: str = SHORTEST,
    weight: str | None = None,
    source: str | None = None,
    fail: Sequence[str] = (),
    fail_nodes: Sequence[str] = (),
) -> Answer:
    """The answer for every source, or for one.

    ``weight`` names an edge attribute; ``None`` means 1 everywhere. ``fail`` names pairs of nodes as ``A-B`` whose
    links are all taken out, ``fail_nodes`` nodes. ``GraphFileError`` for an edge without a usable weight (named), for
    a name that is not in the graph or fits more than one pair, and for a source that is taken out.
    """
    weights = [_weight(edge, weight) for edge in graph.edges]
    lost_pairs = {_pair(graph, text) for text in fail}
    lost_nodes = set(_known(graph, fail_nodes, "--fail-node"))
    sources = sorted(set(graph.nodes) - lost_nodes)
    if source is not None:
        if lost_nodes.intersection(_known(graph, [source], "--from")):
            raise GraphFileError(f"--from {plain(source)}: --fail-node has taken that node out")
        sources = [source]
    fractions = [Fraction(repr(value)) for value in weights]
    scale = _Scale(math.lcm(*(f.denominator for f in fractions)), all(isinstance(value, int) for value in weights))
    edges = [
        (edge.u, edge.v, int(fraction * scale.unit))
        for edge, fraction in zip(graph.edges, fractions, strict=True)
        if not {edge.u, edge.v} & lost_nodes and frozenset((edge.u, edge.v)) not in lost_pairs
    ]
    nodes = sorted(set(graph.nodes) - lost_nodes)
    whole = _directed(nodes, edges) if graph.directed else _undirected(nodes, edges)
    result = minimum_weight(whole, policy)
    kept = whole.keeping(result.kept)
    return {
        "mwt": {"policy": policy, "edges": _edges(result.kept, graph.directed, scale)},
        "spt": {node: _row(kept, node, scale) for node in sources},
    }


def _weight(edge: FileEdge, attribute: str | None) -> Number:
    if attribute is None:
        return 1
    name = plain(attribute)
    value = edge.attributes.get(attribute)
    if value is None:
        raise GraphFileError(f"edge {edge} has no {name}: every edge needs it (without --weight all count as 1)")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        shown = plain(repr(value))
        raise GraphFileError(f"edge {edge}: {name} is {shown[:60]}, but a weight must be a number above 0")
    if not 0 < value <= WEIGHT_MAX:
        shown = repr(value) if isinstance(value, float) or abs(value) <= WEIGHT_MAX else "too large"
        raise GraphFileError(f"edge {edge}: {name} is {shown}, but a weight must be a number above 0, at most 1e300")
    return value


def _known(graph: FileGraph, names: Iterable[str], option: str) -> Iterable[str]:
    nodes = set(graph.nodes)
    for name in names:
        if name not in nodes:
            raise GraphFileError(f"{option} {plain(name)}: there is no such node in the graph")
        yield name


def _pair(graph: FileGraph, text: str) -> frozenset[str]:
    """The two nodes that ``A-B`` means; names may hold dashes, so every dash is tried as the one between them."""
    nodes = set(graph.nodes)
    linked = {frozenset((edge.u, edge.v)) for edge in graph.edges if edge.u != edge.v}
    dashes = [position for position, character in enumerate(text) if character == "-"]
    splits = [(text[:dash], text[dash + 1 :]) for dash in dashes]
    named = [ends for ends in splits if nodes.issuperset(ends)]
    pairs = sorted({frozenset(ends) for ends in named} & linked, key=sorted)
    shown = plain(text)
    if not splits:
        raise GraphFileError(f"--fail {shown}: give the two nodes of a link as A-B")
    if not named:
        raise GraphFileError(f"--fail {shown}: there are no two such nodes in the graph")
    if not pairs:
        raise GraphFileError(f"--fail {shown}: there is no link between the two")
    if len(pairs) > 1:
        readings = " or ".join(" and ".join(sorted(map(plain, pair))) for pair in pairs)
        raise GraphFileError(f"--fail {shown} is ambiguous: it may mean {readings}")
    return pairs[0]


def _undirected(nodes: Sequence[str], edges: Sequence[tuple[str, str, int]]) -> Graph[str]:
    both: list[Edge[str]] = []
    for key, (u, v, weight) in enumerate(edges):
        both += [Edge(u, v, weight, key, key), Edge(v, u, weight, key, key)]
    return Graph(nodes, both)


def _directed(nodes: Sequence[str], edges: Sequence[tuple[str, str, int]]) -> Graph[str]:
    # A directed file does not say which two edges are one link: no ``back``.
    return Graph(nodes, (Edge(u, v, weight, key) for key, (u, v, weight) in enumerate(edges)))


def _edges(kept: Iterable[Edge[str]], directed: bool, scale: _Scale) -> list[list[str | Number]]:
    chosen = sorted((edge.u, edge.v, edge.weight) for edge in kept if directed or edge.u < edge.v)
    return [[u, v, scale.number(weight)] for u, v, weight in chosen]


def _row(graph: Graph[str], source: str, scale: _Scale) -> dict[str, dict[str, object]]:
    paths = shortest_paths(graph, source)
    exits = paths.exits
    names: dict[int, list[str]] = {}
    row: dict[str, dict[str, object]] = {}
    for node, distance, hops in paths.reached():
        if hops:
            if hops not in names:
                names[hops] = sorted({edge.v for edge in members(hops, exits)})
            row[node] = {"distance": scale.number(distance), "next_hops": names[hops]}
    return row
