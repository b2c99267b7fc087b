"""Shapes: what is joined to what, and what is refused."""

from pathlib import Path

import networkx as nx
import pytest

from dmssd.lab import abilene, shapes
from dmssd.lab.errors import LabError
from dmssd.lab.shapes import Edge, Shape, parse, slug

ZOO = Path(__file__).parents[4] / "shared" / "topologies" / "Abilene.gml"


def graph(shape: Shape) -> nx.MultiGraph:
    made = nx.MultiGraph()
    made.add_nodes_from(shape.nodes)
    for edge in shape.edges:
        made.add_edge(edge.a, edge.b, weight=edge.metric_ab)
    return made


@pytest.mark.parametrize(
    ("text", "oracle"),
    [
        ("line:5", nx.path_graph(5)),
        ("line:1", nx.path_graph(1)),
        ("ring:6", nx.cycle_graph(6)),
        ("star:5", nx.star_graph(4)),
        ("full:6", nx.complete_graph(6)),
        ("grid:3x4", nx.grid_2d_graph(3, 4)),
    ],
)
def test_regular_shapes_are_those_of_networkx(text: str, oracle: nx.Graph) -> None:
    shape = parse(text)
    assert len(shape.edges) == oracle.number_of_edges()
    assert nx.is_isomorphic(nx.Graph(graph(shape)), oracle)


def test_nodes_are_numbered_from_one_and_grid_nodes_by_row_and_column() -> None:
    assert parse("line:3").nodes == ("n1", "n2", "n3")
    assert parse("grid:2x2").nodes == ("r0c0", "r0c1", "r1c0", "r1c1")
    assert all("n1" in (edge.a, edge.b) for edge in parse("star:4").edges)


def test_on_a_segment_all_nodes_are_neighbours_by_one_link_each() -> None:
    shape = parse("segment:5")
    assert shape.segments == ("lan",)
    assert shape.edges == tuple(Edge(node, "lan") for node in shape.nodes)
    assert shapes.neighbours(shape)["n2"] == ["n1", "n3", "n4", "n5"]


def test_routed_sites_stand_beside_a_segment_each_by_two_links_to_different_nodes() -> None:
    shape = parse("segment:20+2x5")
    beside = shapes.neighbours(shape)
    assert len(shape.nodes) == 30
    assert set(beside["s1n1"]) == {"n1", "s1n2", "s1n5"}
    assert set(beside["s1n2"]) == {"n2", "s1n1", "s1n3"}
    assert set(beside["s2n1"]) & {"n3"}
    assert set(beside["s2n4"]) == {"s2n3", "s2n5"}


def test_a_node_of_a_file_that_is_marked_as_segment_is_one(tmp_path: Path) -> None:
    file = tmp_path / "office.gml"
    nodes = 'node [ id 0 label "floor" segment 1 ] node [ id 1 label "a" ] node [ id 2 label "b" ]'
    file.write_text(f"graph [ {nodes} edge [ source 0 target 1 cost 4 ] edge [ source 2 target 0 cost 2 ] ]")
    shape = parse(str(file), weight="cost")
    assert (shape.nodes, shape.segments) == (("a", "b"), ("floor",))
    assert shape.edges == (Edge("a", "floor", 4, 4), Edge("b", "floor", 2, 2))


def test_abilene_has_eleven_cities_fourteen_links_and_the_detour() -> None:
    shape = parse("abilene")
    assert len(shape.nodes) == 11
    assert len(shape.edges) == 15
    assert {"sunnyvale", "los-angeles", "washington-dc", "kansas-city"} <= set(shape.nodes)
    assert len({frozenset((edge.a, edge.b)) for edge in shape.edges}) == 14


def test_sunnyvale_to_washington_dc_has_exactly_two_ways_of_equal_cost() -> None:
    plain = nx.Graph()
    for a, b, metric in abilene.weighted_links()[:14]:
        plain.add_edge(a, b, weight=metric)
    ways = list(nx.all_shortest_paths(plain, "Sunnyvale", "Washington DC", weight="weight"))
    assert sorted(way[1] for way in ways) == ["Denver", "Los Angeles"]


def test_the_detour_is_dearer_than_its_parallel_and_than_the_way_round() -> None:
    a, b, metric = abilene.DETOUR
    plain = nx.Graph()
    for u, v, weight in abilene.weighted_links()[:14]:
        plain.add_edge(u, v, weight=weight)
    assert metric > plain[a][b]["weight"]
    plain.remove_edge(a, b)
    assert metric > nx.shortest_path_length(plain, a, b, weight="weight")


def test_every_other_link_of_abilene_is_a_shortest_path_itself() -> None:
    links = abilene.weighted_links()[:14]
    plain = nx.Graph()
    for a, b, metric in links:
        plain.add_edge(a, b, weight=metric)
    for a, b, metric in links:
        assert nx.shortest_path_length(plain, a, b, weight="weight") == metric


@pytest.mark.skipif(not ZOO.exists(), reason="the Topology Zoo's files are not here")
def test_links_and_cities_agree_with_the_topology_zoo() -> None:
    zoo = nx.read_gml(ZOO)
    assert {frozenset(edge) for edge in zoo.edges()} == {frozenset(edge) for edge in abilene.LINKS}
    for city, data in zoo.nodes(data=True):
        assert abilene.CITIES[city] == pytest.approx((data["Latitude"], data["Longitude"]), abs=0.01)


@pytest.mark.skipif(not ZOO.exists(), reason="the Topology Zoo's files are not here")
def test_a_file_of_the_topology_zoo_is_a_shape() -> None:
    shape = parse(str(ZOO))
    assert set(shape.nodes) == set(parse("abilene").nodes)
    assert len(shape.edges) == 14


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("blob", "is no shape and no file"),
        ("line:0", "at least 1"),
        ("line:x", "whole number"),
        ("ring:2", "at least 3"),
        ("ring", "at least 3"),
        ("grid:3", "rows x columns"),
        ("grid:0x3", "rows x columns"),
        ("grid:9x9", "81 nodes; a lab holds 64"),
        ("line:65", "65 nodes; a lab holds 64"),
        ("full:64", "2016 links"),
        ("segment:31", "31 nodes on one segment, lan; 30 at most"),
        ("segment:1", "a segment is written"),
        ("segment:4+2", "a segment is written"),
        ("segment:30+4x9", "66 nodes; a lab holds 64"),
    ],
)
def test_what_is_no_shape_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(LabError, match=says):
        parse(text)


def test_a_graphml_file_gives_its_labels_as_slugs_and_its_weights_as_metrics(tmp_path: Path) -> None:
    made = nx.Graph()
    made.add_node("0", label="São Paulo 1")
    made.add_node("1", label="Rio")
    made.add_edge("0", "1", cost=7)
    file = tmp_path / "brazil.graphml"
    nx.write_graphml(made, file)
    shape = parse(str(file), weight="cost")
    assert shape.nodes == ("s-o-paulo-1", "rio")
    assert shape.edges == (Edge("s-o-paulo-1", "rio", 7, 7),)
    assert parse(str(file)).edges[0].metric_ab == 1


def test_a_directed_file_gives_each_direction_its_metric(tmp_path: Path) -> None:
    made = nx.DiGraph()
    made.add_edge("a", "b", cost=3)
    made.add_edge("b", "a", cost=5)
    file = tmp_path / "directed.gml"
    nx.write_gml(made, file)
    assert parse(str(file), weight="cost").edges == (Edge("a", "b", 3, 5),)


@pytest.mark.parametrize(
    ("edges", "directed", "says"),
    [
        ([("a", "b", 0)], False, "link a - b: cost must be a whole number"),
        ([("a", "b", 2.5)], False, "link a - b: cost must be a whole number"),
        ([("a", "b", 1), ("b", "b", 1)], False, "b has a link to itself"),
        ([("a", "b", 1), ("c", "d", 1)], False, "not connected: no way from a to c, d"),
        ([("a", "b", 1)], True, "a -> b has no edge back"),
    ],
)
def test_a_file_that_makes_no_lab_is_refused_naming_the_place(
    tmp_path: Path, edges: list[tuple[str, str, float]], directed: bool, says: str
) -> None:
    made = nx.DiGraph() if directed else nx.Graph()
    for a, b, cost in edges:
        made.add_edge(a, b, cost=cost)
    file = tmp_path / "bad.gml"
    nx.write_gml(made, file)
    with pytest.raises(LabError, match=says):
        parse(str(file), weight="cost")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.gml"
    file.write_text("this is no graph")
    with pytest.raises(LabError, match="not a graph"):
        parse(str(file))


def test_labels_that_look_alike_become_different_names(tmp_path: Path) -> None:
    file = tmp_path / "twins.gml"
    file.write_text(
        'graph [ node [ id 0 label "New York" ] node [ id 1 label "new-york" ] edge [ source 0 target 1 ] ]'
    )
    assert parse(str(file)).nodes == ("new-york", "new-york-2")


@pytest.mark.parametrize(
    ("label", "name"), [("Washington DC", "washington-dc"), ("  St. Louis/MO ", "st-louis-mo"), ("!?", "node")]
)
def test_a_slug_is_lower_case_words_and_hyphens(label: str, name: str) -> None:
    assert slug(label) == name
    assert len(slug(label * 40)) <= shapes.NODE_NAME_CHARS_MAX
