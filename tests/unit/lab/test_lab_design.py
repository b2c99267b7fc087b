"""Names, addresses, TopologyProcessors and the order of admission, before anything is made."""

import tomllib

import pytest

from dmssd.config.load import parse as parse_config
from dmssd.lab.design import LABS_DIRECTORY, config_text, design, interface_name, socket_path
from dmssd.lab.errors import LabError
from dmssd.lab.shapes import neighbours, parse

SHAPES = ["abilene", "line:1", "line:9", "ring:5", "star:12", "grid:4x4", "full:12", "line:64"]


@pytest.mark.parametrize("shape", SHAPES)
def test_interface_names_fit_the_kernel_and_are_unique_on_their_node(shape: str) -> None:
    plan = design(parse(shape), "lab", 3)
    ends = [(link.a, link.a_interface) for link in plan.links] + [(link.b, link.b_interface) for link in plan.links]
    assert len(set(ends)) == 2 * len(plan.links)
    assert all(len(interface) <= 15 for _, interface in ends)


def test_a_long_peer_is_cut_at_a_word_and_parallel_links_are_numbered() -> None:
    assert interface_name("washington-dc", 1, []) == "to-washington"
    assert interface_name("los-angeles", 1, []) == "to-los-angeles"
    assert interface_name("los-angeles", 2, ["to-los-angeles"]) == "to-los-2"
    assert interface_name("abcdefghijklmnop", 1, []) == "to-abcdefghijkl"


def test_peers_that_begin_alike_get_different_interfaces() -> None:
    taken: list[str] = []
    for number in range(30):
        name = interface_name(f"abcdefghijklmnop{number}", 1, taken)
        assert name not in taken
        assert len(name) <= 15
        taken.append(name)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_address_and_namespace_is_unique(shape: str) -> None:
    plan = design(parse(shape), "lab", 3)
    for values in zip(*((n.name, n.namespace, n.address4, n.address6) for n in plan.nodes), strict=True):
        assert len(set(values)) == len(plan.nodes)
    assert plan.nodes[0].address4 == "10.5.0.1"


@pytest.mark.parametrize("shape", SHAPES)
def test_everyone_but_the_founder_joins_once_through_a_neighbour_that_is_a_member(shape: str) -> None:
    laid = parse(shape)
    plan = design(laid, "lab", 3)
    members = [plan.founder]
    for admission in plan.admissions:
        assert admission.peer in members
        assert admission.peer in neighbours(laid)[admission.node]
        assert (admission.interface, admission.peer) in {
            (link.a_interface, link.b) if link.a == admission.node else (link.b_interface, link.a)
            for link in plan.links_of(admission.node)
        }
        members.append(admission.node)
    assert sorted(members) == sorted(laid.nodes)


def test_most_nodes_of_abilene_join_through_members_that_are_not_the_founder() -> None:
    plan = design(parse("abilene"), "lab", 3)
    assert sum(1 for admission in plan.admissions if admission.peer != plan.founder) >= 8


def test_a_node_joins_over_the_segment_that_it_shares_with_its_peer() -> None:
    plan = design(parse("segment:4+1x3"), "lab", 1)
    assert [segment.namespace for segment in plan.segments] == ["dmssd-lab-lan"]
    by_node = {admission.node: admission for admission in plan.admissions}
    assert len(by_node) == 6
    assert {by_node[node].interface for node in ("n2", "n3", "n4") if node != plan.founder} == {"to-lan"}
    assert by_node["s1n3"].interface in ("to-s1n1", "to-s1n2")


def test_topology_processors_are_not_neighbours_where_that_can_be_had() -> None:
    laid = parse("abilene")
    tps = design(laid, "lab", 3).tps
    assert len(tps) == 3
    assert not any(a in neighbours(laid)[b] for a in tps for b in tps)
    assert design(parse("full:3"), "lab", 2).tps == ("n1", "n2")
    assert design(parse("line:2"), "lab", 9).tps == ("n1", "n2")
    assert design(parse("line:2"), "lab", 0).tps == ()


@pytest.mark.parametrize("name", ["Lab", "a-b", "", "x" * 17, "../x", "a/b", "a b"])
def test_a_lab_name_that_could_reach_another_labs_things_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="cannot name a lab"):
        design(parse("line:2"), name, 1)


def test_a_configuration_says_what_the_daemon_reads() -> None:
    plan = design(parse("abilene"), "lab", 3)
    chicago = plan.node("chicago")
    config = parse_config(tomllib.loads(config_text(plan, chicago)))
    assert (config.name, config.address4, config.address6) == ("chicago", chicago.address4, chicago.address6)
    assert config.socket == socket_path("lab", "chicago") == LABS_DIRECTORY / "lab" / "chicago" / "dmssd.sock"
    assert config.mesh.tp == plan.tps
    assert {rule.match: rule.metric for rule in config.links} == {
        "to-indianapolis": 3,
        "to-new-york": 11,
        "to-new-york-2": 25,
    }


def test_only_nodes_named_as_topology_processors_have_the_role() -> None:
    plan = design(parse("line:4"), "lab", 2)
    for node in plan.nodes:
        config = parse_config(tomllib.loads(config_text(plan, node)))
        assert config.roles == (("fd", "tp") if node.name in plan.tps else ("fd",))


def test_the_longest_socket_path_fits_the_kernel() -> None:
    assert len(str(socket_path("x" * 16, "y" * 32))) < 108


def test_a_name_that_does_not_exist_is_answered_with_some_that_do() -> None:
    plan = design(parse("line:3"), "lab", 1)
    with pytest.raises(LabError, match=r"no node 'n9'; it has n1, n2, n3"):
        plan.node("n9")
    with pytest.raises(LabError, match="no link joins n1 and n3"):
        plan.between("n1", "n3")
