import networkx
import pytest

from dmssd.sim import truth


@pytest.mark.parametrize("seed", range(10))
def test_naive_bellman_ford_agrees_with_networkx(toys, seed):
    world = toys.build("random:12", seed)
    edges = truth.hops(world, range(12))
    routes = truth.bellman_ford(edges, range(12))
    graph = networkx.MultiDiGraph()
    graph.add_weighted_edges_from((edge.source, edge.target, edge.metric) for edge in edges)
    expected = dict(networkx.all_pairs_dijkstra_path_length(graph))
    assert {(u, d): w for d, row in routes.distance.items() for u, w in row.items()} == {
        (u, d): w for u, row in expected.items() for d, w in row.items()
    }
    for destination, table in routes.next_hops.items():
        for source, hops in table.items():
            tight = [
                edge
                for edge in edges
                if edge.source == source
                and edge.metric + expected[edge.target][destination] == expected[source][destination]
            ]
            assert list(hops) == tight


def test_a_cable_that_passes_one_way_only_is_no_edge(toys):
    world = toys.build("line:3")
    world.drop(world.network.cables[0], 1, 1)
    assert {(hop.source, hop.target) for hop in truth.hops(world, range(3))} == {(1, 2), (2, 1)}


def test_on_a_hub_every_pair_whose_cables_pass_is_an_edge_by_the_senders_metric(toys):
    world = toys.build("segment:4")
    world.drop(world.network.cables[3], 1, 1)
    hops = truth.hops(world, range(4))
    assert {(hop.source, hop.target) for hop in hops} == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert all(hop.metric == world.network.cables[hop.source].metrics[0] for hop in hops)
    assert {hop.address for hop in hops if hop.target == 1} == {world.machines[1].kernel.interfaces[2].packed}


def test_components_are_named_by_their_lowest_node(toys):
    world = toys.build("line:5")
    world.unplug(world.network.cables[2])
    assert truth.components(truth.hops(world, range(5)), range(5)) == {0: 0, 1: 0, 2: 0, 3: 3, 4: 3}
