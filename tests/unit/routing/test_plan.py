import msgspec
import pytest

from routing.lsa import Adjacency, LinkNumber, Lsa, Prefix
from routing.plan import ROW_CODEC, NextHop, Planner, Row, acceptable, compute_row, next_hops
from sansio.errors import LocalProtocolError, RemoteProtocolError
from sansio.ids import NodeId

A, B, C, D, E = (NodeId(bytes([n]) * 20) for n in (1, 2, 3, 4, 5))
NODES = {"a": A, "b": B, "c": C, "d": D, "e": E}


def mesh(*links, sequence=1, alone=""):
    """An LSDB of (u, v, metric) links, numbered from 1 in the order given, the same number at both ends."""
    said = {name: [] for name in [end for u, v, _ in links for end in (u, v)] + list(alone)}
    for number, (u, v, metric) in enumerate(links, 1):
        link = LinkNumber(number)
        said[u].append(Adjacency(NODES[v], link, link, metric))
        said[v].append(Adjacency(NODES[u], link, link, metric))
    prefixes = {name: (Prefix.parse(f"10.5.0.{NODES[name][0]}"),) for name in said}
    return {NODES[n]: Lsa(NODES[n], sequence, n, tuple(said[n]), prefixes[n]) for n in said}


SQUARE = mesh(("a", "b", 1), ("a", "c", 1), ("b", "d", 1), ("c", "d", 1), alone="e")


def test_a_row_has_every_way_to_each_origin_of_the_component_with_its_prefixes():
    row = compute_row(SQUARE, A)
    assert [(entry.origin, entry.distance, entry.group) for entry in row.entries] == [
        (A, 0, -1),
        (B, 1, 0),
        (C, 1, 1),
        (D, 2, 2),
    ]
    assert row.groups == ((NextHop(1, B),), (NextHop(2, C),), (NextHop(1, B), NextHop(2, C)))
    assert [str(prefix) for prefix in row.entries[3].prefixes] == ["10.5.0.4/32"]


def test_origins_reached_by_the_same_ways_share_a_group():
    row = compute_row(mesh(("a", "b", 1), ("b", "c", 1), ("c", "d", 1)), A)
    assert row.groups == ((NextHop(1, B),),)
    assert [entry.group for entry in row.entries] == [-1, 0, 0, 0]


def test_parallel_links_of_equal_cost_are_next_hops_of_their_own_and_a_dearer_one_is_none():
    row = compute_row(mesh(("a", "b", 3), ("a", "b", 3), ("a", "b", 4)), A)
    assert row.groups == ((NextHop(1, B), NextHop(2, B)),)


def test_two_ports_of_one_neighbour_on_one_of_our_links_are_one_next_hop():
    lsdb = {
        A: Lsa(A, 1, "a", (Adjacency(B, 1, 7, 10), Adjacency(B, 1, 8, 10)), ()),
        B: Lsa(B, 1, "b", (Adjacency(A, 7, 1, 10), Adjacency(A, 8, 1, 10)), ()),
    }
    assert compute_row(lsdb, A).groups == ((NextHop(1, B),),)
    assert compute_row(lsdb, B).groups == ((NextHop(7, A), NextHop(8, A)),)


def test_next_hops_of_a_group_are_in_order_of_their_links():
    row = compute_row(mesh(("a", "c", 1), ("a", "b", 1), ("b", "d", 1), ("c", "d", 1)), A)
    assert row.groups[row.entries[3].group] == (NextHop(1, C), NextHop(2, B))


def test_the_bytes_of_a_row_do_not_depend_on_the_order_of_the_database():
    turned = dict(reversed(SQUARE.items()))
    for node in SQUARE:
        assert ROW_CODEC.encode(compute_row(turned, node)) == ROW_CODEC.encode(compute_row(SQUARE, node))


def test_a_row_survives_the_wire():
    row = compute_row(SQUARE, A)
    assert ROW_CODEC.decode(ROW_CODEC.encode(row), "test") == row


def test_a_row_with_an_empty_group_is_not_decoded():
    row = compute_row(SQUARE, A)
    with pytest.raises(RemoteProtocolError):
        ROW_CODEC.decode(ROW_CODEC.encode(msgspec.structs.replace(row, groups=((),))), "test")


def test_an_isolated_forwarders_row_covers_itself_alone():
    row = compute_row(SQUARE, E)
    assert [entry.origin for entry in row.entries] == [E]
    assert acceptable(row, E, 1, None)


def test_a_forwarder_without_an_lsa_has_no_row():
    assert compute_row(mesh(("a", "b", 1)), C) is None


def test_spanning_rows_go_by_the_spanning_graph_and_say_so():
    lsdb = mesh(("a", "b", 2), ("b", "c", 2), ("a", "c", 3))
    spanning, shortest = compute_row(lsdb, A, "spanning"), compute_row(lsdb, A, "shortest")
    assert [entry.distance for entry in spanning.entries] == [0, 2, 4]
    assert [entry.distance for entry in shortest.entries] == [0, 2, 3]
    assert spanning.algorithm != shortest.algorithm


def test_an_unknown_policy_is_refused():
    with pytest.raises(LocalProtocolError):
        Planner(SQUARE, "cheapest")


def test_a_row_is_acceptable_if_it_covers_the_forwarders_latest_lsa():
    row = compute_row(SQUARE, A)
    assert acceptable(row, A, 1, None)
    assert not acceptable(row, A, 2, None)


def test_another_forwarders_row_is_not_acceptable():
    assert not acceptable(compute_row(SQUARE, B), A, 1, None)


def test_a_row_older_in_one_origin_than_the_installed_one_is_not_acceptable():
    newer = {**SQUARE, D: msgspec.structs.replace(SQUARE[D], sequence=2)}
    assert not acceptable(compute_row(SQUARE, A), A, 1, compute_row(newer, A))
    assert acceptable(compute_row(newer, A), A, 1, compute_row(SQUARE, A))


def test_an_origin_that_was_cut_off_or_has_just_come_does_not_make_a_row_older():
    less = mesh(("a", "b", 1), sequence=2)
    assert acceptable(compute_row(less, A), A, 2, compute_row(SQUARE, A))
    assert acceptable(compute_row(SQUARE, A), A, 1, compute_row(mesh(("a", "b", 1)), A))


def broken_rows():
    row = compute_row(SQUARE, A)
    first, *rest = row.entries
    yield "a group that is not there", msgspec.structs.replace(row, groups=row.groups[:2])
    yield "entries out of order", msgspec.structs.replace(row, entries=(first, *reversed(rest)))
    yield "an origin twice", msgspec.structs.replace(row, entries=(first, rest[0], *rest))
    yield "the forwarder missing", msgspec.structs.replace(row, entries=tuple(rest))
    yield (
        "the forwarder sent away",
        msgspec.structs.replace(row, entries=(msgspec.structs.replace(first, group=0), *rest)),
    )
    yield (
        "another taken for the forwarder",
        msgspec.structs.replace(row, entries=(first, msgspec.structs.replace(rest[0], group=-1), *rest[1:])),
    )
    yield (
        "the forwarder far from itself",
        msgspec.structs.replace(row, entries=(msgspec.structs.replace(first, distance=1), *rest)),
    )


@pytest.mark.parametrize(
    ("fault", "row"), list(broken_rows()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_row_that_makes_no_sense_is_not_acceptable(fault: str, row: Row):
    assert not acceptable(row, A, 1, None)


def test_next_hops_leaves_the_forwarder_out():
    ways = next_hops(compute_row(SQUARE, A))
    assert ways == {B: (NextHop(1, B),), C: (NextHop(2, C),), D: (NextHop(1, B), NextHop(2, C))}


def test_the_control_next_hop_is_the_lowest_neighbour_of_the_first_hops():
    assert Planner(SQUARE).next_hops(D) == {A: B, B: B, C: C}


def test_control_next_hops_go_by_the_global_topology_whatever_the_policy():
    lsdb = mesh(("a", "b", 2), ("b", "c", 2), ("a", "c", 3))
    assert Planner(lsdb, "spanning").next_hops(A) == Planner(lsdb).next_hops(A) == {B: B, C: C}


def test_hop_counts_allow_for_the_longest_of_the_shortest_paths():
    planner = Planner(mesh(("a", "b", 1), ("b", "c", 1), ("c", "d", 1), ("a", "d", 3), alone="e"))
    assert planner.hop_counts(A) == {B: 1, C: 2, D: 3}


def test_hop_counts_do_not_take_the_path_found_last_for_the_longest():
    links = [("a", "b", 1), ("b", "c", 1), ("c", "e", 3), ("a", "d", 4), ("d", "e", 1)]
    assert Planner(mesh(*links)).hop_counts(A)[E] == 3


def test_a_stranger_to_the_database_has_no_next_hops_and_no_component():
    planner = Planner(mesh(("a", "b", 1)))
    assert planner.next_hops(E) == planner.hop_counts(E) == {}
    assert planner.component(E) == frozenset()


def test_a_component_is_what_two_way_links_join():
    planner = Planner(SQUARE)
    assert planner.component(B) == {A, B, C, D}
    assert planner.component(E) == {E}


def test_a_planner_does_not_see_later_changes_of_the_database():
    lsdb = dict(SQUARE)
    planner = Planner(lsdb)
    del lsdb[D]
    assert planner.row(A) == compute_row(SQUARE, A)
