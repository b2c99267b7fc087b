"""The rules that tie two cores together."""

from dmssd.rules.meeting import Meetings
from dmssd.rules.paths import Paths
from dmssd.rules.relaying import control_routes
from dmssd.rules.restarting import Restarts
from dmssd.security.sessions import LinkPath, RoutedPath
from routing.discovery import NeighbourSeen
from routing.lsa import Adjacency, Attachment, LinkNumber, Lsa
from routing.neighbours import NeighbourDown, NeighbourUp
from sansio.ids import MeshId, NodeId
from sansio.instant import SECOND, Duration, Instant

A, B, C, D, E = (NodeId(letter * 20) for letter in (b"A", b"B", b"C", b"D", b"E"))
WINDOW, LATER = Duration(SECOND), Instant(5 * SECOND)
MESH, OTHER_MESH = MeshId(b"m" * 16), MeshId(b"o" * 16)
NUMBER = {A: 1, B: 2, C: 3, D: 4, E: 5}


def lsdb(*edges):
    """Link-state of undirected unit edges; the link from u to v has v's number at u."""
    neighbours = {}
    for u, v in edges:
        neighbours.setdefault(u, []).append(v)
        neighbours.setdefault(v, []).append(u)
    return {
        node: Lsa(
            node,
            1,
            chr(node[0]),
            tuple(Adjacency(v, LinkNumber(NUMBER[v]), LinkNumber(NUMBER[node]), 1) for v in sorted(near)),
            (),
        )
        for node, near in neighbours.items()
    }


RING = ((A, B), (B, D), (A, C), (C, D))
LINE = ((A, B), (B, C), (C, D))


# Relaying


def test_control_messages_go_around_a_daemon_that_is_away():
    assert control_routes(lsdb(*RING), A, frozenset()).next_hops[D] == B
    assert control_routes(lsdb(*RING), A, frozenset({B})).next_hops[D] == C


def test_a_daemon_that_is_away_is_itself_reached_the_plain_way():
    assert control_routes(lsdb(*RING), A, frozenset({B})).next_hops[B] == B


def test_where_there_is_no_way_around_the_plain_one_is_tried():
    routes = control_routes(lsdb(*LINE), A, frozenset({B}))
    assert routes.next_hops[D] == B
    assert routes.hops[D] == 3


def test_being_held_away_oneself_changes_nothing():
    assert control_routes(lsdb(*RING), A, frozenset({A})).next_hops[D] == B


# Restarting neighbours


def test_a_restarting_neighbour_is_kept_while_nothing_else_changes():
    restarts = Restarts(A, WINDOW)
    restarts.moved(lsdb(*RING), Instant(0))
    restarts.began(B, LATER)
    again = {node: Lsa(node, 2, lsa.name, lsa.adjacencies, ()) for node, lsa in lsdb(*RING).items()}
    assert restarts.to_give_up(again) == []


def test_a_restarting_neighbour_is_given_up_when_a_link_elsewhere_is_lost():
    restarts = Restarts(A, WINDOW)
    full = (*RING, (B, C))
    restarts.moved(lsdb(*full), Instant(0))
    restarts.began(B, LATER)
    assert restarts.to_give_up(lsdb(*(edge for edge in full if edge != (B, D)))) == [B]


def test_what_changed_just_before_the_neighbour_was_missed_counts_too():
    full = (*RING, (B, C))
    restarts = Restarts(A, WINDOW)
    restarts.moved(lsdb(*full), Instant(0))
    less = lsdb(*(edge for edge in full if edge != (B, D)))
    restarts.moved(less, Instant(LATER - SECOND // 2))
    restarts.began(B, LATER)
    assert restarts.to_give_up(less) == [B]


def test_what_changed_long_before_it_was_missed_does_not_count():
    full = (*RING, (B, C))
    restarts = Restarts(A, WINDOW)
    restarts.moved(lsdb(*full), Instant(0))
    less = lsdb(*(edge for edge in full if edge != (B, D)))
    restarts.moved(less, Instant(LATER - 2 * SECOND))
    restarts.began(B, LATER)
    assert restarts.to_give_up(less) == []


def test_a_restarting_neighbour_is_kept_where_the_mesh_would_fall_apart_without_it():
    restarts = Restarts(A, WINDOW)
    restarts.moved(lsdb(*LINE), Instant(0))
    restarts.began(B, LATER)
    assert restarts.to_give_up(lsdb((A, B), (B, C), (C, D), (B, D))) == []


def test_a_restarting_leaf_is_kept_because_it_forwards_for_nobody():
    restarts = Restarts(A, WINDOW)
    restarts.moved(lsdb((A, B), (A, C), (C, D), (A, D)), Instant(0))
    restarts.began(B, LATER)
    assert restarts.to_give_up(lsdb((A, B), (A, C), (C, D))) == []


def test_the_return_of_a_restarting_neighbour_is_no_change_elsewhere():
    restarts = Restarts(A, WINDOW)
    whole = lsdb(*RING)
    restarts.moved(whole, Instant(0))
    restarts.began(B, LATER)
    assert restarts.to_give_up(whole | {B: Lsa(B, 9, "B", (), ())}) == []


def segment(*speakers, gone=()):
    """The four on one segment by their links 1, adjacent to the speakers alone; ``gone``: whom nobody holds."""
    lan, nodes = LinkNumber(1), (A, B, C, D)
    found = {}
    for node in nodes:
        beside = [far for far in nodes if far != node and (node in speakers or far in speakers) and far not in gone]
        adjacencies = tuple(Adjacency(far, lan, lan, 1) for far in beside)
        rank = speakers.index(node) + 1 if node in speakers else 0
        attachments = (Attachment(lan, b"\xfe\x80" + bytes(13) + node[:1], rank),)
        found[node] = Lsa(node, 1, "", adjacencies, (), protocol=2, attachments=attachments)
    return found


def linked(lsdb, *edges):
    """The same with point-to-point links; the link from u to v has the number 10 more than v's at u."""
    for u, v in (*edges, *((v, u) for u, v in edges)):
        lsa = lsdb.get(u) or Lsa(u, 1, "", (), (), protocol=2)
        link = Adjacency(v, LinkNumber(10 + NUMBER[v]), LinkNumber(10 + NUMBER[u]), 1)
        lsdb[u] = Lsa(u, 1, "", (*lsa.adjacencies, link), (), protocol=2, attachments=lsa.attachments)
    return lsdb


def test_another_speaker_on_a_segment_is_no_change_for_those_who_forward_over_it():
    restarts = Restarts(A, WINDOW)
    restarts.moved(segment(A, B), Instant(0))
    restarts.began(B, LATER)
    assert restarts.to_give_up(segment(A, C, B)) == []


def test_a_node_lost_from_a_segment_is_a_change_and_a_restarting_speaker_is_given_up_for_it():
    restarts = Restarts(A, WINDOW)
    restarts.moved(linked(segment(A, B), (B, E), (E, A)), Instant(0))
    restarts.began(B, LATER)
    assert restarts.to_give_up(linked(segment(A, C, B), (B, E), (E, A))) == []
    assert restarts.to_give_up(linked(segment(A, B, gone=(D,)), (B, E), (E, A))) == [B]


def test_a_neighbour_that_is_back_is_restarting_no_more():
    restarts = Restarts(A, WINDOW)
    restarts.moved(lsdb(*RING), Instant(0))
    restarts.began(B, LATER)
    assert restarts.nodes == {B}
    assert restarts.ended(B)
    assert not restarts.ended(B)
    assert restarts.to_give_up(lsdb((A, C), (C, D))) == []


# Paths


def up(node, link, metric=1):
    return NeighbourUp(node, LinkNumber(link), LinkNumber(9), f"fe80::{link}", metric)


def test_a_neighbour_is_spoken_to_over_its_cheapest_adjacency():
    paths = Paths()
    paths.up(up(B, 1, metric=5))
    paths.up(up(B, 2, metric=3))
    assert paths.to(B) == LinkPath(LinkNumber(2), "fe80::2")


def test_a_neighbour_whose_links_went_silent_is_reached_the_way_round():
    paths = Paths()
    paths.met(B, LinkNumber(1), "fe80::1")
    paths.up(up(B, 1))
    paths.down(NeighbourDown(B, LinkNumber(1), "echo lost", LinkNumber(9), "fe80::1"))
    paths.next_hops = {B: C}
    assert paths.to(B) == RoutedPath(B, ())


def test_a_neighbour_just_met_is_spoken_to_on_the_link_it_was_met_on():
    paths = Paths()
    assert paths.met(B, LinkNumber(1), "fe80::1")
    assert not paths.met(B, LinkNumber(1), "fe80::1")
    assert paths.to(B) == LinkPath(LinkNumber(1), "fe80::1")
    paths.lost(LinkNumber(1))
    assert paths.to(B) == RoutedPath(B, ())
    assert paths.neighbours() == ()


# Meetings


def seen(node, link=1, mesh=MESH):
    return NeighbourSeen(LinkNumber(link), f"fe80::{node[0]:x}", node, chr(node[0]), mesh)


def test_the_smaller_id_opens_the_session_at_once_the_larger_one_when_greeted_again():
    assert Meetings(A, MESH).seen(seen(B), in_session=False)
    meetings = Meetings(B, MESH)
    assert not meetings.seen(seen(A), in_session=False)
    assert meetings.seen(seen(A), in_session=False)


def test_nobody_opens_a_session_with_a_member_of_another_mesh_or_twice():
    meetings = Meetings(A, MESH)
    assert not meetings.seen(seen(B, mesh=OTHER_MESH), in_session=False)
    assert not meetings.seen(seen(B), in_session=True)


def test_a_peer_is_met_wherever_it_greets():
    meetings = Meetings(A, MESH)
    meetings.seen(seen(B, link=1), in_session=False)
    meetings.seen(seen(B, link=2), in_session=False)
    meetings.seen(seen(C, link=3), in_session=False)
    assert sorted(meetings.where(B)) == [(1, "fe80::42"), (2, "fe80::42")]
    meetings.lost(LinkNumber(2))
    assert list(meetings.where(B)) == [(1, "fe80::42")]
