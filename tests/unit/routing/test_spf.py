import pytest

from routing.graph import Edge, Graph
from routing.spf import run_buckets, run_heap, shortest_paths


def both_ways(*links):
    edges = []
    for key, (u, v, weight) in enumerate(links):
        edges += [(u, v, weight, key), (v, u, weight, key)]
    return Graph.of(*edges)


def keys(edges):
    return [(edge.v, edge.key) for edge in edges]


def test_a_square_has_two_first_hops_to_the_far_corner():
    paths = shortest_paths(both_ways(("a", "b", 1), ("a", "c", 1), ("b", "d", 1), ("c", "d", 1)), "a")
    assert paths.distance("d") == 2
    assert keys(paths.hops("d")) == [("b", 0), ("c", 1)]


def test_the_source_is_at_distance_zero_and_has_no_first_hop():
    paths = shortest_paths(both_ways(("a", "b", 1)), "a")
    assert paths.distance("a") == 0
    assert paths.hops("a") == ()


def test_what_cannot_be_reached_has_no_distance_and_is_not_among_the_reached():
    graph = Graph(["z"], both_ways(("a", "b", 1)).edges)
    paths = shortest_paths(graph, "a")
    assert paths.distance("z") is None
    assert paths.hops("z") == ()
    assert [node for node, _, _ in paths.reached()] == ["a", "b"]


def test_parallel_links_of_equal_cost_are_first_hops_of_their_own_and_dearer_ones_none():
    paths = shortest_paths(both_ways(("a", "b", 2), ("a", "b", 2), ("a", "b", 3), ("b", "c", 1)), "a")
    assert keys(paths.hops("c")) == [("b", 0), ("b", 1)]


def test_a_direct_link_as_long_as_the_way_round_is_one_of_two_first_hops():
    paths = shortest_paths(both_ways(("a", "b", 1), ("b", "c", 1), ("a", "c", 2)), "a")
    assert keys(paths.hops("c")) == [("b", 0), ("c", 2)]


def test_a_first_hop_set_merged_late_still_reaches_everything_behind():
    # d ties only when c is settled; e, behind d, must then have both hops.
    graph = both_ways(("a", "b", 1), ("a", "c", 4), ("b", "d", 4), ("c", "d", 1), ("d", "e", 1))
    assert keys(shortest_paths(graph, "a").hops("e")) == [("b", 0), ("c", 1)]


def test_weights_of_the_two_directions_are_their_own():
    graph = Graph.of(("a", "b", 1, 0), ("b", "a", 9, 0), ("a", "c", 2, 1), ("c", "a", 2, 1), ("b", "c", 1, 2))
    assert shortest_paths(graph, "a").distance("b") == 1
    assert shortest_paths(graph, "b").distance("a") == 3


def test_self_loops_change_nothing():
    graph = Graph([], [Edge("a", "a", 1), *both_ways(("a", "b", 5)).edges])
    assert shortest_paths(graph, "a").distance("b") == 5
    assert keys(shortest_paths(graph, "a").hops("b")) == [("b", 0)]


def test_an_unknown_source_is_a_key_error():
    with pytest.raises(KeyError):
        shortest_paths(both_ways(("a", "b", 1)), "z")


def test_a_long_chain_of_heavy_links_is_handed_from_buckets_to_heap_without_a_trace():
    chain = both_ways(*((n, n + 1, 1000) for n in range(400)), *((n, n + 2, 1001) for n in range(0, 398, 2)))
    assert run_buckets(chain, 0) == run_heap(chain, 0)
    assert run_buckets(chain, 0)[0][chain.index[400]] == 199 * 1001 + 2 * 1000


def test_weights_beyond_machine_words_are_exact():
    big = 10**40
    paths = shortest_paths(both_ways(("a", "b", big), ("b", "c", big), ("a", "c", 2 * big)), "a")
    assert paths.distance("c") == 2 * big
    assert keys(paths.hops("c")) == [("b", 0), ("c", 2)]
