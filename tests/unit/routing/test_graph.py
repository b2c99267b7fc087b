import pytest

from routing.graph import Edge, Graph, from_lsdb
from routing.lsa import Adjacency, LinkNumber, Lsa
from sansio.errors import LocalProtocolError
from sansio.ids import NodeId

A, B, C = (NodeId(bytes([n]) * 20) for n in (1, 2, 3))


def adjacency(neighbour, link, remote_link, metric=10):
    return Adjacency(neighbour, LinkNumber(link), LinkNumber(remote_link), metric)


def lsdb(**adjacencies):
    ids = {"a": A, "b": B, "c": C}
    return {ids[name]: Lsa(ids[name], 1, name, tuple(said), ()) for name, said in adjacencies.items()}


def test_an_adjacency_that_both_ends_advertise_becomes_an_edge_each_way_with_its_own_metric():
    graph = from_lsdb(lsdb(a=[adjacency(B, 1, 7, 10)], b=[adjacency(A, 7, 1, 20)]))
    assert graph.edges == (Edge(A, B, 10, 1, 7), Edge(B, A, 20, 7, 1))


def test_a_link_advertised_by_one_end_only_carries_nothing():
    graph = from_lsdb(lsdb(a=[adjacency(B, 1, 7)], b=[]))
    assert graph.nodes == (A, B)
    assert graph.edges == ()


def test_two_links_advertised_by_one_end_each_do_not_make_up_one():
    graph = from_lsdb(lsdb(a=[adjacency(B, 1, 7)], b=[adjacency(A, 8, 2)]))
    assert graph.edges == ()


def test_a_neighbour_without_an_lsa_is_not_a_node():
    graph = from_lsdb(lsdb(a=[adjacency(B, 1, 7)]))
    assert graph.nodes == (A,)


def test_parallel_links_stay_apart():
    graph = from_lsdb(
        lsdb(a=[adjacency(B, 1, 7), adjacency(B, 2, 8)], b=[adjacency(A, 7, 1), adjacency(A, 8, 2)]),
    )
    assert [(edge.key, edge.back) for edge in graph.edges] == [(1, 7), (2, 8), (7, 1), (8, 2)]


def test_a_node_that_names_itself_as_neighbour_gets_no_edge():
    assert from_lsdb(lsdb(a=[adjacency(A, 1, 2), adjacency(A, 2, 1)])).edges == ()


def test_an_adjacency_said_twice_counts_once_with_the_lesser_metric():
    graph = from_lsdb(lsdb(a=[adjacency(B, 1, 7, 30), adjacency(B, 1, 7, 20)], b=[adjacency(A, 7, 1, 10)]))
    assert graph.edges == (Edge(A, B, 20, 1, 7), Edge(B, A, 10, 7, 1))


def test_the_order_of_the_database_does_not_show():
    said = lsdb(a=[adjacency(B, 1, 7), adjacency(C, 2, 9)], b=[adjacency(A, 7, 1)], c=[adjacency(A, 9, 2)])
    turned = dict(reversed(said.items()))
    assert from_lsdb(turned).nodes == from_lsdb(said).nodes
    assert from_lsdb(turned).edges == from_lsdb(said).edges


def test_compact_keeps_the_least_parallel_edges_and_every_tie_as_an_exit():
    compact = Graph.of(("a", "b", 5, 0), ("a", "b", 3, 1), ("a", "b", 3, 2), ("a", "a", 1, 3)).compact()
    assert compact.links == (((1, 3),), ())
    assert compact.exits == ((1, 2), ())
    assert compact.weight_max == 3


def test_a_weight_below_one_is_refused():
    with pytest.raises(LocalProtocolError):
        Graph.of(("a", "b", 0, 0))


def test_of_an_edges_ends_those_not_listed_as_nodes_are_added_behind_them():
    assert Graph(["c", "a"], [Edge("a", "b", 1)]).nodes == ("c", "a", "b")
