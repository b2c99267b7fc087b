import json
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest
from click.testing import CliRunner

from dmssd.cli.compute import compute
from routing.mwt import POLICIES

TOPOLOGIES = Path(__file__).parents[4] / "shared" / "topologies"
SQUARE = [("a", "b", 1), ("b", "c", 1), ("c", "d", 1), ("d", "a", 1)]


def run(*arguments):
    return CliRunner().invoke(compute, list(map(str, arguments)))


def answer(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refusal(*arguments):
    """The one line said on standard error; nothing may be on standard output."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def write(tmp_path):
    def _write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


@pytest.fixture
def node_link(write):
    def _node_link(*edges, directed=False, nodes=None, key="edges"):
        names = nodes or list(dict.fromkeys(end for edge in edges for end in edge[:2]))
        links = [{"source": u, "target": v, "w": w} for u, v, w in edges]
        document = {"directed": directed, "nodes": [{"id": name} for name in names], key: links}
        return write("graph.json", json.dumps(document))

    return _node_link


def test_the_answer_is_one_object_of_the_stated_form(node_link):
    assert answer("--input", node_link(*SQUARE), "--from", "a") == {
        "mwt": {"policy": "shortest", "edges": [["a", "b", 1], ["a", "d", 1], ["b", "c", 1], ["c", "d", 1]]},
        "spt": {
            "a": {
                "b": {"distance": 1, "next_hops": ["b"]},
                "c": {"distance": 2, "next_hops": ["b", "d"]},
                "d": {"distance": 1, "next_hops": ["d"]},
            }
        },
    }


def test_without_from_every_source_has_a_row_even_one_that_reaches_nothing(node_link):
    spt = answer("--input", node_link(*SQUARE, nodes=["a", "b", "c", "d", "alone"]))["spt"]
    assert list(spt) == ["a", "alone", "b", "c", "d"]
    assert spt["alone"] == {}
    assert all("alone" not in row for row in spt.values())
    assert all(source not in row for source, row in spt.items())


def test_without_weight_every_edge_counts_as_one_whatever_it_carries(node_link):
    assert answer("--input", node_link(("a", "b", "heavy")))["mwt"]["edges"] == [["a", "b", 1]]


def test_directed_edges_go_one_way_with_weights_of_their_own(node_link):
    path = node_link(("a", "b", 2), ("b", "a", 3), ("b", "c", 1), directed=True)
    result = answer("--input", path, "--weight", "w")
    assert result["mwt"]["edges"] == [["a", "b", 2], ["b", "a", 3], ["b", "c", 1]]
    assert result["spt"]["a"]["c"] == {"distance": 3, "next_hops": ["b"]}
    assert result["spt"]["c"] == {}


def test_parallel_edges_of_equal_weight_are_both_kept_and_are_one_next_hop(node_link):
    result = answer("--input", node_link(("a", "b", 2), ("b", "a", 2), ("a", "b", 9)), "--weight", "w")
    assert result["mwt"]["edges"] == [["a", "b", 2], ["a", "b", 2]]
    assert result["spt"]["a"]["b"] == {"distance": 2, "next_hops": ["b"]}


def test_spanning_trees_are_those_of_the_spanning_graph(node_link):
    path = node_link(("a", "b", 2), ("b", "c", 2), ("a", "c", 3))
    assert answer("--input", path, "--weight", "w")["spt"]["a"]["c"] == {"distance": 3, "next_hops": ["c"]}
    spanning = answer("--input", path, "--weight", "w", "--mwt", "spanning")
    assert spanning["mwt"] == {"policy": "spanning", "edges": [["a", "b", 2], ["b", "c", 2]]}
    assert spanning["spt"]["a"]["c"] == {"distance": 4, "next_hops": ["b"]}


def test_self_loops_are_ignored(node_link):
    assert answer("--input", node_link(("a", "a", 1), ("a", "b", 1)))["mwt"]["edges"] == [["a", "b", 1]]


def test_an_empty_graph_has_an_empty_answer(write):
    path = write("empty.json", '{"nodes": [], "links": []}')
    assert answer("--input", path) == {"mwt": {"policy": "shortest", "edges": []}, "spt": {}}


# Numbers


def test_integers_print_as_integers_and_whole_decimals_too(node_link):
    result = run("--input", node_link(("a", "b", 3), ("b", "c", 3.0), ("c", "d", 0.5)), "--weight", "w", "--from", "a")
    assert '["a", "b", 3], ["b", "c", 3], ["c", "d", 0.5]' in result.stdout
    assert '"d": {"distance": 6.5,' in result.stdout


def test_decimals_are_exact_so_that_equal_cost_is_equal(node_link):
    path = node_link(("a", "b", 0.1), ("b", "c", 0.2), ("a", "c", 0.3))
    row = answer("--input", path, "--weight", "w")["spt"]["a"]
    assert row["c"] == {"distance": 0.3, "next_hops": ["b", "c"]}


def test_integers_too_large_for_a_float_are_exact(node_link):
    result = answer("--input", node_link(("a", "b", 2**60 + 1), ("b", "c", 1)), "--weight", "w")
    assert result["spt"]["a"]["c"]["distance"] == 2**60 + 2


@pytest.mark.parametrize(
    "weight", [0, -1, 0.0, -0.5, True, "7", "heavy", None, [], {}, float("nan"), float("inf"), 10**400], ids=repr
)
def test_a_weight_that_is_not_a_number_above_zero_is_refused_and_the_edge_named(node_link, weight):
    assert "edge Oslo-Rome" in refusal("--input", node_link(("Oslo", "Rome", weight)), "--weight", "w")


def test_an_edge_without_the_weight_is_refused_and_named(node_link):
    said = refusal("--input", node_link(("a", "b", 1), ("b", "c", 1)), "--weight", "cost")
    assert "edge a-b has no cost" in said


# Failures


def test_fail_removes_every_link_between_the_two_in_both_directions(node_link):
    path = node_link(("a", "b", 1), ("b", "a", 1), ("a", "b", 2), ("b", "c", 1), ("c", "a", 1), directed=True)
    result = answer("--input", path, "--weight", "w", "--fail", "b-a")
    assert result["mwt"]["edges"] == [["b", "c", 1], ["c", "a", 1]]


def test_failures_may_be_repeated_and_mixed(node_link):
    result = answer(
        "--input", node_link(*SQUARE), "--fail", "a-b", "--fail", "b-a", "--fail-node", "d", "--fail", "c-d"
    )
    assert result["mwt"]["edges"] == [["b", "c", 1]]
    assert list(result["spt"]) == ["a", "b", "c"]


def test_a_dash_in_a_name_is_not_taken_for_the_one_between_names(node_link):
    path = node_link(("a-b", "c", 1), ("c", "d", 1))
    assert answer("--input", path, "--fail", "a-b-c")["mwt"]["edges"] == [["c", "d", 1]]


def test_a_failure_that_fits_two_links_is_refused(node_link):
    path = node_link(("a-b", "c", 1), ("a", "b-c", 1))
    assert "ambiguous: it may mean a and b-c or a-b and c" in refusal("--input", path, "--fail", "a-b-c")


def test_of_two_ways_to_read_a_failure_the_one_with_a_link_is_meant(node_link):
    path = node_link(("a-b", "c", 1), ("a", "c", 1), ("b-c", "c", 1))
    assert ["a-b", "c", 1] not in answer("--input", path, "--fail", "a-b-c")["mwt"]["edges"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "x"), "--from x: there is no such node"),
        (("--fail-node", "x"), "--fail-node x: there is no such node"),
        (("--fail", "a-x"), "--fail a-x: there are no two such nodes"),
        (("--fail", "ab"), "--fail ab: give the two nodes of a link as A-B"),
        (("--fail", "a-c"), "--fail a-c: there is no link between the two"),
        (("--fail", "a-a"), "--fail a-a: there is no link between the two"),
        (("--from", "a", "--fail-node", "a"), "--from a: --fail-node has taken that node out"),
    ],
)
def test_names_that_do_not_fit_the_graph_are_refused(node_link, arguments, said):
    assert said in refusal("--input", node_link(*SQUARE), *arguments)


# Files


def test_links_stand_in_for_edges_and_numbers_are_names_as_text(node_link):
    result = answer("--input", node_link((10, 9, 1), key="links"))
    assert result["mwt"]["edges"] == [["10", "9", 1]]
    assert result["spt"]["9"] == {"10": {"distance": 1, "next_hops": ["10"]}}


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("form", ["gml", "graphml", "json"])
def test_what_networkx_writes_is_read_back_whole(tmp_path, form, directed):
    graph = nx.MultiDiGraph() if directed else nx.MultiGraph()
    graph.add_nodes_from(["Zürich", "Oslo", "Rome", 4])
    graph.add_edges_from([("Oslo", "Rome", {"w": 2}), ("Oslo", "Rome", {"w": 2}), ("Rome", "Zürich", {"w": 1.5})])
    path = tmp_path / f"graph.{form}"
    if form == "gml":
        nx.write_gml(graph, path)
    elif form == "graphml":
        nx.write_graphml(graph, path)
    else:
        path.write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
    result = answer("--input", path, "--weight", "w")
    assert result["mwt"]["edges"] == [["Oslo", "Rome", 2], ["Oslo", "Rome", 2], ["Rome", "Zürich", 1.5]]
    assert sorted(result["spt"]) == ["4", "Oslo", "Rome", "Zürich"]
    assert result["spt"]["Oslo"]["Zürich"] == {"distance": 3.5, "next_hops": ["Rome"]}
    assert ("Oslo" in result["spt"]["Rome"]) is not directed


GML = 'graph [ {head} node [ id 0 label "A" ] node [ id 1 {label} ] edge [ source 0 target 1 ] {edge} ]'


def test_a_gml_file_with_parallel_edges_need_not_say_that_it_is_a_multigraph(write):
    for head in ("", "multigraph 0", "multigraph 1"):
        path = write("g.gml", GML.format(head=head, label='label "B"', edge="edge [ source 1 target 0 ]"))
        assert answer("--input", path)["mwt"]["edges"] == [["A", "B", 1], ["A", "B", 1]]


def test_a_gml_node_without_a_label_goes_by_its_id(write):
    path = write("g.gml", GML.format(head="directed 1", label="", edge=""))
    assert answer("--input", path)["spt"] == {"1": {}, "A": {"1": {"distance": 1, "next_hops": ["1"]}}}


def test_a_gml_file_in_utf_8_is_read_as_such(write):
    path = write("g.gml", GML.format(head="", label='label "Århus"', edge=""))
    assert "Århus" in answer("--input", path)["spt"]


def test_a_gml_file_that_is_not_utf_8_is_taken_for_latin_1(write):
    path = write("g.gml", GML.format(head="", label='label "Århus"', edge="").encode("latin-1"))
    assert "Århus" in answer("--input", path)["spt"]


def test_two_nodes_of_one_label_are_refused(write):
    assert "two nodes are named A" in refusal(
        "--input", write("g.gml", GML.format(head="", label='label "A"', edge=""))
    )


GRAPHML = """<?xml version="1.0" encoding="UTF-8"?><graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key id="k0" for="node" attr.name="label" attr.type="string"/>
<key id="k1" for="edge" attr.name="cost" attr.type="{type}"><default>4</default></key>
<graph edgedefault="undirected"><node id="n0"><data key="k0">Oslo</data></node><node id="n1"/>
<edge id="e" source="n0" target="n1"><data key="k1">4</data></edge><edge id="e" source="n0" target="n1"/>{more}
</graph></graphml>"""


def test_graphml_nodes_go_by_label_and_edges_of_one_id_stay_apart_and_take_the_default(write):
    path = write("g.graphml", GRAPHML.format(type="int", more=""))
    assert answer("--input", path, "--weight", "cost")["mwt"]["edges"] == [["Oslo", "n1", 4], ["Oslo", "n1", 4]]


def test_a_graphml_weight_declared_as_text_is_refused(write):
    path = write("g.graphml", GRAPHML.format(type="string", more=""))
    assert "edge Oslo-n1: cost is '4'" in refusal("--input", path, "--weight", "cost")


def test_a_file_without_a_telling_suffix_is_told_by_its_first_character(write):
    assert answer("--input", write("g", GRAPHML.format(type="int", more="")))["spt"]["n1"]
    assert answer("--input", write("h", '\n{"nodes": [{"id": 1}], "links": []}'))["spt"] == {"1": {}}
    assert answer("--input", write("i", GML.format(head="", label="", edge="")))["spt"]["A"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("g.gml", ""),
        ("g.gml", "graph ["),
        ("g.gml", 'graph [ node [ label "A" ] ]'),
        ("g.gml", "graph [ node [ id 0 ] edge [ source 0 target 7 ] ]"),
        ("g.gml", "graph [ node 5 ]"),
        ("g.gml", 'graph [ node [ id 0 label "A\n\n'),
        ("g.gml", "graph " + "[ a " * 5000),
        ("g.gml", b"\xff\xfe\x00graph"),
        ("g.graphml", ""),
        ("g.graphml", "<graphml>"),
        ("g.graphml", "<svg/>"),
        ("g.graphml", GRAPHML.format(type="complex", more="")),
        ("g.graphml", GRAPHML.format(type="int", more='<edge source="n0" target="n7"/>')),
        ("g.graphml", GRAPHML.format(type="int", more='<node id="n0"/>')),
        ("g.graphml", GRAPHML.format(type="int", more='<edge source="n0" target="n1"><data key="k1">x</data></edge>')),
        ("g.json", ""),
        ("g.json", "[]"),
        ("g.json", "{"),
        ("g.json", b'{"nodes": [{"id": "\xff"}]}'),
        ("g.json", '{"nodes": []}'),
        ("g.json", '{"links": []}'),
        ("g.json", '{"nodes": [7], "links": []}'),
        ("g.json", '{"nodes": [{"id": null}], "links": []}'),
        ("g.json", '{"nodes": [{"id": 1}, {"id": "1"}], "links": []}'),
        ("g.json", '{"nodes": [{"id": 1}], "links": [{"source": 1, "target": 2}]}'),
        ("g.json", '{"nodes": [{"id": 1}], "links": [{"source": 1}]}'),
        ("g.json", '{"directed": "no", "nodes": [], "links": []}'),
        ("g.json", "[" * 100_000),
    ],
)
def test_a_malformed_file_is_refused_in_one_line_that_names_it(write, name, content):
    assert name in refusal("--input", write(name, content))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert "No such file" in refusal("--input", tmp_path / "nowhere.gml")
    assert "directory" in refusal("--input", tmp_path)


def test_control_characters_in_names_do_not_break_the_line(node_link):
    assert r"edge a\nb-c\x1b" in refusal("--input", node_link(("a\nb", "c\x1b", 0)), "--weight", "w")


def test_the_policies_offered_are_the_ones_there_are():
    (option,) = [parameter for parameter in compute.params if parameter.name == "policy"]
    assert tuple(option.type.choices) == POLICIES


def test_networkx_is_not_imported_before_it_is_needed():
    code = "import sys, dmssd.cli.compute, dmssd.offline; sys.exit('networkx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0


# Real networks


def topology(name):
    path = TOPOLOGIES / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the project")
    return path


@pytest.mark.parametrize("name", ["Abilene.gml", "Geant2012.gml"])
def test_a_real_network_is_answered_as_networkx_answers(name):
    path = topology(name)
    graph = nx.relabel_nodes(nx.read_gml(path), str)
    result = answer("--input", path)
    assert sorted(result["mwt"]["edges"]) == sorted([*sorted(edge), 1] for edge in graph.edges)
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    for source, row in result["spt"].items():
        assert {to: way["distance"] for to, way in row.items()} == {
            t: n for t, n in lengths[source].items() if t != source
        }
        for to, way in row.items():
            assert way["next_hops"] == sorted(v for v in graph[source] if lengths[v][to] == lengths[source][to] - 1)


def test_abilene_loses_a_link_and_goes_round():
    path = topology("Abilene.gml")
    row = answer("--input", path, "--from", "Denver", "--fail", "Denver-Kansas City")["spt"]["Denver"]
    assert row["Kansas City"] == {"distance": 4, "next_hops": ["Sunnyvale"]}
