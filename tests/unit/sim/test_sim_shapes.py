import networkx
import pytest

from dmssd.sim import shapes


def graph(text: str, seed: int = 1) -> networkx.MultiGraph:
    shape = shapes.parse(text, seed)
    built = networkx.MultiGraph([(edge.a, edge.b) for edge in shape.edges])
    assert len(built) == shape.nodes + shape.hubs
    return built


@pytest.mark.parametrize(
    ("text", "nodes", "edges"),
    [("line:4", 4, 3), ("ring:5", 5, 5), ("star:6", 6, 5), ("full:5", 5, 10), ("grid:3x4", 12, 17)],
)
def test_a_named_shape_has_the_nodes_and_cables_of_its_name(text, nodes, edges):
    built = graph(text)
    assert (len(built), built.number_of_edges()) == (nodes, edges)


def test_a_segment_is_one_hub_that_all_nodes_are_plugged_into():
    shape = shapes.parse("segment:5", 1)
    assert (shape.nodes, shape.hubs) == (5, 1)
    assert [(edge.a, edge.b) for edge in shape.edges] == [(node, 5) for node in range(5)]


@pytest.mark.parametrize("seed", range(5))
def test_a_campus_is_connected_and_some_nodes_share_both_of_its_hubs_or_stand_beside_them(seed):
    shape = shapes.parse("campus:12", seed)
    ports = [{edge.a for edge in shape.edges if edge.b == hub} for hub in (12, 13)]
    assert shape.hubs == 2
    assert len(ports[0]) == 6
    assert len(ports[1]) == 3
    assert networkx.is_connected(graph("campus:12", seed))


@pytest.mark.parametrize("seed", range(20))
def test_random_shapes_are_connected_and_differ_by_seed(seed):
    assert networkx.is_connected(graph("random:16", seed))
    assert shapes.parse("random:16", seed) == shapes.parse("random:16", seed) != shapes.parse("random:16", seed + 1)


def test_seeds_stand_for_all_kinds_of_shape():
    assert {shapes.by_seed(seed, 16).partition(":")[0] for seed in range(3)} == {"grid", "ring", "random"}
    assert shapes.by_seed(0, 16) == "grid:4x4"


@pytest.mark.parametrize("text", ["blob:3", "grid:4", "ring", "ring:x", "line:1", "line:0", "grid:4x4x4", "ring:3x3"])
def test_what_is_no_shape_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match="shape"):
        shapes.parse(text, 1)
