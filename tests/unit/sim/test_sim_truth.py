import networkx
import pytest

from dmssd.settings import NodeSettings
from dmssd.sim import truth
from routing.filter import RouteFilter
from routing.lsa import Prefix

DEFAULT, BEHIND = Prefix.parse("0.0.0.0/0"), Prefix.parse("198.51.100.0/24")


def configure(world, number, **settings):
    world.machines[number].settings = NodeSettings(name=f"n{number}", **settings)


def ways(world, prefix):
    """For each machine the neighbours that it should send this prefix to."""
    found = {}
    for number, table in truth.tables(world, list(world.machines)).items():
        hops = [hop for hop in truth.hops(world, range(len(world.machines))) if hop.source == number]
        found[number] = {hop.target for hop in hops if truth.gateways([hop]) <= table.get(prefix, frozenset())}
    return found


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


def test_who_is_outside_the_mesh_is_nobodys_way(toys):
    world = toys.build("ring:4")
    world.machines[1].outside = True
    assert {(hop.source, hop.target) for hop in truth.hops(world, range(4))} == {(0, 3), (3, 0), (2, 3), (3, 2)}


def test_what_two_announce_is_sent_to_the_nearest_and_by_neither_of_them(toys):
    world = toys.build("line:5")
    for number in (0, 4):
        configure(world, number, announce=(BEHIND,))
    for cable in world.network.cables:
        cable.metrics = (1, 1)
    assert ways(world, BEHIND) == {0: set(), 1: {0}, 2: {1, 3}, 3: {4}, 4: set()}


def test_default_routes_go_by_preference_before_distance_and_even_from_a_gateway_of_less(toys):
    world = toys.build("line:4")
    configure(world, 0, announce=(DEFAULT,), gateway=50)
    configure(world, 3, announce=(DEFAULT, BEHIND), gateway=200)
    assert ways(world, DEFAULT) == {0: {1}, 1: {2}, 2: {3}, 3: set()}
    configure(world, 0, announce=(BEHIND,), gateway=255)
    for cable in world.network.cables:
        cable.metrics = (1, 1)
    assert ways(world, BEHIND)[1] == {0}, "of other prefixes the nearest counts"
    assert ways(world, BEHIND)[2] == {3}


def test_a_filter_leaves_a_route_out_of_its_own_table_alone(toys):
    world = toys.build("line:3")
    configure(world, 0, announce=(DEFAULT, BEHIND), gateway=100)
    configure(world, 1, filter=RouteFilter(deny_default=True))
    assert ways(world, DEFAULT) == {0: set(), 1: set(), 2: {1}}
    assert ways(world, BEHIND) == {0: set(), 1: {0}, 2: {1}}


def test_a_measured_cable_costs_what_its_owner_says(toys):
    world = toys.build("line:2")
    world.network.cables[0].metrics = (0, 7)
    world.measured = lambda machine, link: 30 + machine.number
    assert sorted((hop.source, hop.metric) for hop in truth.hops(world, range(2))) == [(0, 30), (1, 7)]
