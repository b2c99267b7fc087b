"""Shortest paths against two oracles: Bellman-Ford as in the textbook, and networkx."""

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.graph import Edge, Graph
from routing.spf import run_buckets, run_heap, shortest_paths

NODES = 9


def graphs(weights):
    node = st.integers(0, NODES - 1)
    edges = st.lists(st.tuples(node, node, weights), max_size=30)
    return edges.map(lambda es: Graph(range(NODES), (Edge(u, v, w, key) for key, (u, v, w) in enumerate(es))))


# Few different weights make ties, which is where first-hop sets go wrong; large ones leave the bucket queue.
few = graphs(st.integers(1, 3))
many = graphs(st.one_of(st.integers(1, 1000), st.integers(1, 2**40)))


def bellman_ford(graph, source):
    distance = {source: 0}
    for _ in graph.nodes:
        for edge in graph.edges:
            if edge.u in distance and distance[edge.u] + edge.weight < distance.get(edge.v, float("inf")):
                distance[edge.v] = distance[edge.u] + edge.weight
    return distance


def first_hops(graph, source):
    """An edge out of the source is a first hop to x if taking it costs no more than the distance to x."""
    distance = bellman_ford(graph, source)
    rest = {v: bellman_ford(graph, v) for v in graph.nodes}
    return {
        x: {e for e in graph.edges if e.u == source != e.v and e.weight + rest[e.v].get(x, float("inf")) == distance[x]}
        for x in distance
        if x != source
    }


def check(graph):
    paths = shortest_paths(graph, 0)
    expected = bellman_ford(graph, 0)
    assert {node: distance for node, distance, _ in paths.reached()} == expected
    assert {node: set(paths.hops(node)) for node in expected if node != 0} == first_hops(graph, 0)


@settings(deadline=None, max_examples=120)
@given(few)
def test_distances_and_first_hops_are_those_of_bellman_ford_where_ties_abound(graph):
    check(graph)


@settings(deadline=None, max_examples=60)
@given(many)
def test_distances_and_first_hops_are_those_of_bellman_ford_for_any_metrics(graph):
    check(graph)


@settings(deadline=None, max_examples=100)
@given(few)
def test_buckets_and_heap_give_the_same(graph):
    for source in range(NODES):
        assert run_buckets(graph, source) == run_heap(graph, source)


@settings(deadline=None, max_examples=80)
@given(few)
def test_distances_and_neighbours_are_those_of_networkx(graph):
    other = nx.MultiDiGraph()
    other.add_nodes_from(graph.nodes)
    other.add_weighted_edges_from(edge[:3] for edge in graph.edges)
    predecessors, distances = nx.dijkstra_predecessor_and_distance(other, 0)
    paths = shortest_paths(graph, 0)
    assert {node: distance for node, distance, _ in paths.reached()} == distances
    for node in distances:
        if node != 0:
            assert {edge.v for edge in paths.hops(node)} == back_to_first(predecessors, node)


def back_to_first(predecessors, node):
    first, seen, todo = set(), set(), [node]
    while todo:
        at = todo.pop()
        for before in predecessors[at]:
            if before == 0:
                first.add(at)
            elif before not in seen:
                seen.add(before)
                todo.append(before)
    return first
