"""Segments as pseudonodes against their oracle: the full mesh of adjacencies that they stand for."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.lsa import Adjacency, Attachment, LinkNumber, Lsa, Prefix
from routing.mwt import SHORTEST, SPANNING, minimum_weight
from routing.plan import OVER_SEGMENTS, Planner
from routing.pseudonode import segments, topology
from routing.spf import run_buckets, run_heap, shortest_paths
from sansio.ids import NodeId

NODES = 8
METRICS = st.sampled_from((1, 1, 2, 3, 10))


def node(number):
    return NodeId(bytes([number + 1]) * 20)


def address(number, link):
    return b"\xfe\x80" + bytes(12) + bytes([number, link])


@st.composite
def sites(draw):
    """Point-to-point links, and segments as (members with their metrics, how many of them speak)."""
    number = st.integers(0, NODES - 1)
    links = draw(st.lists(st.tuples(number, number, METRICS, METRICS), max_size=8))
    members = st.lists(number, min_size=3, max_size=NODES, unique=True)
    shared = draw(st.lists(members, max_size=2))
    return links, [
        ([(member, draw(METRICS)) for member in found], draw(st.integers(1, min(3, len(found))))) for found in shared
    ]


def lsdb(links, shared, *, full):
    """``full``: every pair on a segment is adjacent, and nothing is said of segments; else only speakers are."""
    said = {number: [] for number in range(NODES)}
    attached = {number: [] for number in range(NODES)}
    for key, (a, b, there, back) in enumerate(links, 1):
        if a != b:
            said[a].append(Adjacency(node(b), LinkNumber(key), LinkNumber(key), there))
            said[b].append(Adjacency(node(a), LinkNumber(key), LinkNumber(key), back))
    for key, (members, speakers) in enumerate(shared, 100):
        ranks = {member: rank for rank, (member, _) in enumerate(members[:speakers], 1)}
        for member, _ in members:
            attached[member].append(Attachment(LinkNumber(key), address(member, key), ranks.get(member, 0)))
        for (near, metric), (far, _) in itertools.permutations(members, 2):
            if full or near in ranks or far in ranks:
                said[near].append(Adjacency(node(far), LinkNumber(key), LinkNumber(key), metric))
    return {
        node(number): Lsa(
            node(number),
            1,
            f"n{number}",
            tuple(sorted(said[number])),
            (Prefix.parse(f"10.5.0.{number}"),),
            protocol=2,
            attachments=() if full else tuple(attached[number]),
        )
        for number in range(NODES)
    }


def both(site):
    return lsdb(*site, full=False), lsdb(*site, full=True)


@settings(deadline=None, max_examples=200)
@given(sites())
def test_rows_over_pseudonodes_are_those_over_the_full_mesh(site):
    derived, mesh = both(site)
    assert len(segments(derived)) == len(site[1])
    over, plain = Planner(derived), Planner(mesh)
    for origin in derived:
        ours, oracle = over.row(origin), plain.row(origin)
        assert (ours.entries, ours.groups) == (oracle.entries, oracle.groups)
        assert ours.algorithm == oracle.algorithm + (OVER_SEGMENTS if site[1] else 0)
        assert over.component(origin) == plain.component(origin)


@settings(deadline=None, max_examples=100)
@given(sites())
def test_both_queues_agree_over_pseudonodes(site):
    graph = topology(lsdb(*site, full=False))
    for source in range(NODES):
        assert run_heap(graph, source) == run_buckets(graph, source)


@settings(deadline=None, max_examples=100)
@given(sites())
def test_the_minimum_weight_topology_over_pseudonodes_loses_no_shortest_path(site):
    graph = topology(lsdb(*site, full=False))
    kept = graph.keeping(minimum_weight(graph, SHORTEST).kept)
    for source in range(NODES):
        whole, less = (shortest_paths(which, node(source)) for which in (graph, kept))
        for target in range(NODES):
            assert whole.distance(node(target)) == less.distance(node(target))
            assert set(whole.hops(node(target))) == set(less.hops(node(target)))


@settings(deadline=None, max_examples=100)
@given(sites())
def test_spanning_over_pseudonodes_disconnects_nobody(site):
    derived = lsdb(*site, full=False)
    planner = Planner(derived, SPANNING)
    for origin in derived:
        assert {entry.origin for entry in planner.row(origin).entries} == planner.component(origin)


@settings(deadline=None, max_examples=60)
@given(sites(), st.randoms(use_true_random=False))
def test_segments_do_not_depend_on_the_order_of_the_database(site, rng):
    derived = lsdb(*site, full=False)
    order = list(derived)
    rng.shuffle(order)
    turned = {origin: derived[origin] for origin in order}
    assert segments(turned) == segments(derived)
    assert topology(turned).edges == topology(derived).edges
