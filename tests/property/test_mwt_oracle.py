"""The Min-Weight Topology against its definition, word for word."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.graph import Edge, Graph
from routing.mwt import minimum_weight
from routing.spf import shortest_paths

NODES = 8
node = st.integers(0, NODES - 1)
weight = st.integers(1, 4)


def both(links):
    edges = []
    for key, (u, v, there, back) in enumerate(links):
        edges += [Edge(u, v, there, key, key), Edge(v, u, back, key, key)]
    return Graph(range(NODES), edges)


def distinct(links):
    return [link for link in links if link[0] != link[1]]


linked = st.lists(st.tuples(node, node, weight, weight), max_size=24).map(distinct).map(both)
directed = st.lists(st.tuples(node, node, weight), max_size=30).map(
    lambda edges: Graph(range(NODES), (Edge(u, v, w, key) for key, (u, v, w) in enumerate(edges)))
)


def routes(graph):
    """Per source and destination: distance and the neighbours and links that begin shortest paths."""
    return {
        (source, to): (distance, shortest_paths(graph, source).hops(to))
        for source in graph.nodes
        for to, distance, _ in shortest_paths(graph, source).reached()
    }


@settings(deadline=None, max_examples=60)
@given(st.one_of(linked, directed))
def test_shortest_changes_no_route(graph):
    assert routes(graph.keeping(minimum_weight(graph, "shortest").kept)) == routes(graph)


@settings(deadline=None, max_examples=60)
@given(st.one_of(linked, directed))
def test_shortest_keeps_exactly_the_edges_that_weigh_their_distance(graph):
    kept = minimum_weight(graph, "shortest").kept
    assert list(kept) == [e for e in graph.edges if e.weight == shortest_paths(graph, e.u).distance(e.v)]


@settings(deadline=None, max_examples=100)
@given(linked)
def test_an_edge_spans_exactly_if_no_path_of_strictly_lighter_links_joins_its_ends(graph):
    heavier = {edge.key: max(e.weight for e in graph.edges if e.key == edge.key) for edge in graph.edges}
    expected = [
        edge
        for edge in graph.edges
        if not joined(edge.u, edge.v, [e for e in graph.edges if heavier[e.key] < heavier[edge.key]])
    ]
    assert list(minimum_weight(graph, "spanning").kept) == expected


@settings(deadline=None, max_examples=60)
@given(directed)
def test_spanning_makes_nothing_unreachable(graph):
    reach = {(source, to) for source, to in routes(graph)}
    assert set(routes(graph.keeping(minimum_weight(graph, "spanning").kept))) == reach


@settings(deadline=None, max_examples=60)
@given(st.one_of(linked, directed), st.sampled_from(["shortest", "spanning"]))
def test_every_edge_is_kept_or_dropped_once_and_each_reason_names_a_real_way(graph, policy):
    result = minimum_weight(graph, policy)
    assert sorted([*result.kept, *(d.edge for d in result.dropped)], key=repr) == sorted(graph.edges, key=repr)
    kept = {(edge.u, edge.v) for edge in result.kept}
    for dropped in result.dropped:
        way = [dropped.edge.u, *dropped.via, dropped.edge.v]
        if dropped.edge.u != dropped.edge.v:
            assert all(step in kept for step in pairwise(way))
            assert dropped.bound < dropped.weight or dropped.reason.name == "ONE_WAY"


def joined(u, v, edges):
    reached = {u}
    for _ in range(NODES):
        reached |= {end for e in edges if e.u in reached or e.v in reached for end in (e.u, e.v)}
    return v in reached
