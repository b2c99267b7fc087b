import msgspec
import pytest

from routing.lsa import Adjacency, Attachment, LinkNumber, Lsa
from routing.lsdb import lsa_problem
from routing.plan import Planner, next_hops
from routing.pseudonode import Port, segments, topology, view
from sansio.ids import NodeId

A, B, C, D, E = NODES = tuple(NodeId(bytes([n]) * 20) for n in range(1, 6))
LAN = LinkNumber(7)


def address(node):
    return b"\xfe\x80" + bytes(13) + node[:1]


def lan(pairs, speakers, *, attached=NODES, protocol=2):
    """The LSDB of nodes on one segment, each by its link 7: who is adjacent to whom, who speaks by which rank."""
    said = {node: [] for node in NODES}
    for near, far in pairs:
        said[near].append(Adjacency(far, LAN, LAN, 10))
        said[far].append(Adjacency(near, LAN, LAN, 10))
    attachments = {node: (Attachment(LAN, address(node), speakers.get(node, 0)),) for node in attached}
    return {
        node: Lsa(node, 1, "", tuple(said[node]), (), protocol=protocol, attachments=attachments.get(node, ()))
        for node in NODES
    }


def members(segment):
    return [port.node for port in segment.members]


TO_TWO = [(A, B), *((speaker, far) for speaker in (A, B) for far in (C, D, E))]


def test_five_nodes_on_a_segment_are_five_adjacencies_to_one_pseudonode():
    (segment,) = segments(lan(TO_TWO, {A: 1, B: 2}))
    assert segment.speakers == (Port(A, LAN), Port(B, LAN))
    assert members(segment) == [A, B, C, D, E]
    assert segment.members[Port(C, LAN)] == address(C)
    graph = topology(lan(TO_TWO, {A: 1, B: 2}))
    assert [(edge.u, edge.weight) for edge in graph.edges if edge.v == segment.pseudonode] == [
        (node, 10) for node in NODES
    ]
    assert len(graph.edges) == 10


def test_the_senior_speaker_is_designated_whatever_its_id_and_of_equals_the_lower_id():
    assert segments(lan(TO_TWO, {A: 9, B: 2}))[0].designated.node == B
    assert segments(lan(TO_TWO, {A: 2, B: 2}))[0].designated.node == A


def test_losing_one_of_two_speakers_changes_nothing_between_the_others():
    whole = lan(TO_TWO, {A: 1, B: 2})
    half_lost = lan([pair for pair in TO_TWO if pair not in ((A, C), (A, D))], {A: 1, B: 2})
    lost = lan([pair for pair in TO_TWO if A not in pair], {A: 1, B: 2})
    for lsdb in (half_lost, lost):
        ways, before = next_hops(Planner(lsdb).row(C)), next_hops(Planner(whole).row(C))
        assert {node: ways[node] for node in (B, D, E)} == {node: before[node] for node in (B, D, E)}
    assert members(segments(lost)[0]) == [B, C, D, E]


def test_speakers_that_lost_one_another_speak_for_segments_of_their_own():
    found = segments(lan([(A, C), (A, D), (B, E), (B, D)], {A: 1, B: 2}))
    assert [members(segment) for segment in found] == [[A, C, D], [B, D, E]]


def test_an_adjacency_seen_one_way_puts_nobody_on_a_segment():
    lsdb = lan(TO_TWO, {A: 1, B: 2})
    lsdb[C] = Lsa(C, 2, "", (), (), protocol=2, attachments=lsdb[C].attachments)
    assert C not in members(segments(lsdb)[0])


def test_an_adjacent_node_that_is_not_attached_stays_a_plain_neighbour():
    lsdb = lan(TO_TWO, {A: 1, B: 2}, attached=(A, B, C, D))
    assert members(segments(lsdb)[0]) == [A, B, C, D]
    assert {(edge.u, edge.v) for edge in topology(lsdb).edges if E in (edge.u, edge.v)} == {
        (A, E),
        (E, A),
        (B, E),
        (E, B),
    }


def test_two_nodes_and_attached_nodes_without_a_speaker_make_no_segment():
    assert segments(lan([(A, B)], {A: 1, B: 2})) == ()
    assert segments(lan(TO_TWO, {})) == ()


def test_one_lsa_of_protocol_1_and_there_are_no_segments():
    lsdb = lan(TO_TWO, {A: 1, B: 2})
    lsdb[E] = Lsa(E, 1, "", lsdb[E].adjacencies, ())
    assert segments(lsdb) == ()
    assert topology(lsdb).pseudonodes == frozenset()
    assert {hop.neighbour for group in Planner(lsdb).row(C).groups for hop in group} == {A, B}


def test_control_messages_travel_by_the_adjacencies_that_there_are():
    planner = Planner(lan(TO_TWO, {A: 1, B: 2}))
    assert planner.next_hops(C) == {A: A, B: B, D: A, E: A}
    assert planner.hop_counts(C) == {A: 1, B: 1, D: 2, E: 2}


@pytest.mark.parametrize(
    "attachments",
    [
        (Attachment(LAN, address(A)), Attachment(LAN, address(B))),
        (Attachment(LAN, b"\x20\x01" + bytes(14)),),
    ],
)
def test_an_lsa_attached_twice_or_by_no_link_local_address_is_a_problem(attachments):
    assert "attach" in lsa_problem(Lsa(A, 1, "", (), (), attachments=attachments))


def test_one_state_of_the_database_is_worked_out_once_and_another_anew():
    lsdb = lan(TO_TWO, {A: 1, B: 2})
    without = {node: lsa for node, lsa in lsdb.items() if node != E}
    assert topology(lsdb) is topology(dict(lsdb))
    whole, less = topology(lsdb), topology(without)
    assert E not in less.nodes
    assert topology(lsdb) is whole
    assert topology(without) is less
    lsdb[C] = msgspec.structs.replace(lsdb[C], sequence=2, adjacencies=())
    assert topology(lsdb) is not whole
    assert C not in members(segments(lsdb)[0])
    assert view(lsdb).lsdb[C].sequence == 2


def test_a_view_does_not_follow_the_database():
    lsdb = lan(TO_TWO, {A: 1, B: 2})
    before = view(lsdb)
    del lsdb[E]
    assert members(before.segments[0]) == [A, B, C, D, E]
