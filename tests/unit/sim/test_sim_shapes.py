import networkx
import pytest

from dmssd.sim import shapes


def graph(text: str, seed: int = 1) -> networkx.MultiGraph:
    shape = shapes.parse(text, seed)
    built = networkx.MultiGraph([(edge.a, edge.b) for edge in shape.edges])
    assert len(built) == shape.nodes
    return built


@pytest.mark.parametrize(
    ("text", "nodes", "edges"),
    [("line:4", 4, 3), ("ring:5", 5, 5), ("star:6", 6, 5), ("full:5", 5, 10), ("grid:3x4", 12, 17)],
)
def test_a_named_shape_has_the_nodes_and_cables_of_its_name(text, nodes, edges):
    built = graph(text)
    assert (len(built), built.number_of_edges()) == (nodes, edges)


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
