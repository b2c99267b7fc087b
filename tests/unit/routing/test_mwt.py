import pytest

from routing.graph import Edge, Graph
from routing.mwt import Reason, minimum_weight
from sansio.errors import LocalProtocolError


def linked(*links):
    """Both directions of (u, v, weight there, weight back) or (u, v, weight)."""
    edges = []
    for key, (u, v, there, *back) in enumerate(links):
        edges += [Edge(u, v, there, key, key), Edge(v, u, *(back or [there]), key, key)]
    return Graph([], edges)


def kept(graph, policy="shortest"):
    return [(edge.u, edge.v, edge.weight) for edge in minimum_weight(graph, policy).kept]


def dropped(graph, policy="shortest"):
    result = minimum_weight(graph, policy)
    return {(d.edge.u, d.edge.v, d.edge.weight): (d.reason, d.sentence(str.upper)) for d in result.dropped}


def test_an_edge_longer_than_its_way_round_is_dropped_and_the_way_is_named():
    graph = linked(("a", "b", 1), ("b", "c", 1), ("a", "c", 3))
    assert ("a", "c", 3) not in kept(graph)
    reason, sentence = dropped(graph)["a", "c", 3]
    assert reason is Reason.WAY_ROUND
    assert sentence == "there is a way round of cost 2 via B, against 3"


def test_an_edge_as_long_as_its_way_round_is_kept():
    assert len(kept(linked(("a", "b", 1), ("b", "c", 1), ("a", "c", 2)))) == 6


def test_of_parallel_edges_the_least_are_kept_ties_all():
    graph = linked(("a", "b", 2), ("a", "b", 2), ("a", "b", 3))
    assert kept(graph) == [("a", "b", 2), ("b", "a", 2)] * 2
    reason, sentence = dropped(graph)["b", "a", 3]
    assert reason is Reason.PARALLEL
    assert sentence == "parallel to a cheaper link (2 against 3)"


def test_a_cheaper_parallel_link_is_named_before_a_way_round_of_the_same_cost():
    graph = linked(("a", "b", 2), ("a", "b", 3), ("a", "c", 1), ("c", "b", 1))
    assert dropped(graph)["a", "b", 3][0] is Reason.PARALLEL


def test_shortest_judges_each_direction_by_its_own_weight():
    graph = linked(("a", "b", 5, 1), ("a", "c", 1), ("c", "b", 1))
    assert ("b", "a", 1) in kept(graph)
    assert ("a", "b", 5) in dropped(graph)


def test_spanning_drops_the_heaviest_edge_of_a_cycle_and_says_so():
    graph = linked(("a", "b", 1), ("b", "c", 2), ("a", "c", 3))
    assert kept(graph, "spanning") == [("a", "b", 1), ("b", "a", 1), ("b", "c", 2), ("c", "b", 2)]
    reason, sentence = dropped(graph, "spanning")["c", "a", 3]
    assert reason is Reason.CYCLE
    assert sentence == "closes a cycle in which it is strictly the heaviest: 3, against at most 2 via B"


def test_spanning_drops_an_edge_that_shortest_needs():
    graph = linked(("a", "b", 2), ("b", "c", 2), ("a", "c", 3))
    assert ("a", "c", 3) in kept(graph, "shortest")
    assert ("a", "c", 3) not in kept(graph, "spanning")


def test_spanning_keeps_every_edge_that_some_minimum_tree_has():
    assert len(kept(linked(("a", "b", 1), ("b", "c", 2), ("a", "c", 2)), "spanning")) == 6


def test_spanning_goes_by_the_larger_direction_and_keeps_both_with_their_own():
    graph = linked(("a", "b", 1, 9), ("b", "c", 2), ("a", "c", 3))
    assert kept(graph, "spanning") == [("b", "c", 2), ("c", "b", 2), ("a", "c", 3), ("c", "a", 3)]
    assert dropped(graph, "spanning")["a", "b", 1][1].startswith(
        "closes a cycle in which it is strictly the heaviest: 9,"
    )


def test_spanning_pairs_directions_by_link_and_not_by_weight():
    # Each link is 10 in one direction: a tie, so both stay whole.
    assert len(kept(linked(("a", "b", 1, 10), ("a", "b", 10, 1)), "spanning")) == 4


def test_spanning_drops_the_heavier_of_parallel_links():
    reason, sentence = dropped(linked(("a", "b", 1), ("a", "b", 4)), "spanning")["a", "b", 4]
    assert reason is Reason.PARALLEL_LIGHTER
    assert sentence == "parallel to a lighter link (at most 1 each way, against 4)"


def test_spanning_of_two_components_is_a_forest():
    assert len(kept(linked(("a", "b", 1), ("c", "d", 7)), "spanning")) == 4


def test_where_links_are_not_known_the_least_edge_back_stands_in():
    graph = Graph.of(("a", "b", 1, 0), ("a", "b", 5, 1), ("b", "a", 3, 2), ("b", "c", 1, 3), ("c", "b", 1, 4))
    assert kept(graph, "spanning") == [("a", "b", 1), ("b", "a", 3), ("b", "c", 1), ("c", "b", 1)]


def test_a_one_way_edge_is_kept_by_spanning_just_where_no_two_way_path_joins_its_ends():
    ring = Graph.of(("a", "b", 1, 0), ("b", "c", 2, 1), ("c", "a", 3, 2))
    assert len(kept(ring, "spanning")) == 3
    beside = Graph([], [*linked(("a", "b", 9), ("b", "c", 9)).edges, Edge("a", "c", 1, 7)])
    reason, sentence = dropped(beside, "spanning")["a", "c", 1]
    assert reason is Reason.ONE_WAY
    assert sentence == "has no direction back, and two-way links join its ends"


@pytest.mark.parametrize("policy", ["shortest", "spanning"])
def test_self_loops_are_dropped(policy):
    graph = Graph([], [Edge("a", "a", 1, 0, 0), *linked(("a", "b", 1)).edges])
    assert dropped(graph, policy) == {("a", "a", 1): (Reason.LOOP, "begins and ends at the same node")}


def test_what_keeps_a_self_loop_out_of_a_tree_has_no_weight():
    graph = Graph([], [Edge("a", "a", 1, 0, 0), *linked(("a", "b", 1)).edges])
    assert [each.bound for each in minimum_weight(graph, "spanning").dropped] == [0]


def test_a_long_way_round_is_named_in_part():
    ring = linked(*((chr(97 + n), chr(98 + n), 1) for n in range(12)), ("a", "m", 50))
    assert dropped(ring)["a", "m", 50][1].endswith("via B, C, D, E, F, G, H, I and 3 more, against 50")


def test_an_unknown_policy_is_refused():
    with pytest.raises(LocalProtocolError):
        minimum_weight(linked(("a", "b", 1)), "cheapest")
