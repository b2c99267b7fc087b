from ipaddress import IPv6Address

import pytest

from routing.lsa import Adjacency, Attachment, LinkNumber, Lsa
from routing.neighbours import (
    SPARED,
    LinkDown,
    LinkUp,
    NeighbourDown,
    NeighbourRestarting,
    NeighbourSpeaks,
    NeighbourUp,
)
from routing.segments import (
    AttachmentsSet,
    Forgotten,
    GatewaysSet,
    LsdbMoved,
    Met,
    PairWanted,
    RankSet,
    Segments,
    SegmentsConfig,
    Spared,
    Unmet,
)
from sansio.core import Wake
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Instant

A, B, C, D, E, F = NODES = tuple(NodeId(bytes([n]) * 20) for n in range(1, 7))
LAN = LinkNumber(7)
CONFIG = SegmentsConfig()


def address(node):
    return f"fe80::{node[0]:x}"


def lan(speakers, members=NODES, protocol=2):
    """The database of a segment whose members are adjacent to the speakers alone; ``speakers``: rank by node."""
    found = {}
    for node in members:
        beside = [far for far in members if far != node and (node in speakers or far in speakers)]
        adjacencies = tuple(Adjacency(far, LAN, LAN, 10) for far in beside)
        packed = IPv6Address(address(node)).packed
        attachments = (Attachment(LAN, packed, speakers.get(node, 0)),)
        found[node] = Lsa(node, 1, "", adjacencies, (), protocol=protocol, attachments=attachments)
    return found


class Bench:
    """A core, its database, a clock, and everything it has said."""

    def __init__(self, me, kind="auto"):
        self.lsdb = {}
        self.core = Segments(me, self.lsdb, CONFIG)
        self.now = Instant(SECOND)
        self.tell(LinkUp(LAN, "eth0", 10, address(me), kind))

    def tell(self, *events, after=0):
        self.now = Instant(self.now + after)
        self.said = [action for event in events for action in self.core.handle(event, self.now)]
        return self.said

    def wait(self, length):
        until = self.now + length
        actions = []
        while (due := self.core.deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            actions += self.core.handle(Wake(), self.now)
        self.now = Instant(until)
        return actions

    def moved(self, lsdb):
        self.lsdb.clear()
        self.lsdb.update(lsdb)
        return self.tell(LsdbMoved())

    def up(self, *nodes):
        return self.tell(*(NeighbourUp(node, LAN, LAN, address(node), 10) for node in nodes))

    def down(self, node, reason="echo lost"):
        return self.tell(NeighbourDown(node, LAN, reason, LAN, address(node)))

    def meet(self, *nodes, protocol=2):
        return self.tell(*(Met(node, LAN, address(node), protocol) for node in nodes))


def of(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


def wanted(actions):
    return [action.node for action in of(actions, PairWanted)]


def member(me=E, speakers=None):
    """A node that has been on a segment of six for long, adjacent to its speakers."""
    speakers = {B: 1, D: 2} if speakers is None else speakers
    bench = Bench(me)
    bench.up(*(node for node in speakers if node != me))
    bench.tell(*(NeighbourSpeaks(node, LAN, rank) for node, rank in speakers.items() if node != me))
    bench.moved(lan(speakers))
    bench.wait(CONFIG.wait)
    return bench


# Who speaks


def test_on_a_link_with_one_other_node_nobody_speaks_and_nothing_is_attached():
    bench = Bench(A)
    assert bench.up(B) + bench.wait(10 * SECOND) == []


def test_of_three_the_two_of_lowest_id_speak_after_having_listened():
    for me, speaks in ((A, True), (B, True), (C, False)):
        bench = Bench(me)
        bench.up(*(node for node in (A, B, C) if node != me))
        assert bench.core.rank(LAN) == 0
        bench.wait(CONFIG.wait)
        assert bool(bench.core.rank(LAN)) == speaks
        assert bench.core.rank(LinkNumber(LAN + 1)) == 0


def test_a_newcomer_of_lower_id_displaces_nobody():
    bench = Bench(A)
    bench.up(D, E)
    bench.tell(NeighbourSpeaks(D, LAN, 1), NeighbourSpeaks(E, LAN, 2))
    bench.wait(CONFIG.wait)
    assert bench.core.rank(LAN) == 0


def test_a_speaker_that_was_cut_off_listens_again_before_it_speaks():
    bench = member(A, {A: 1, B: 2})
    bench.up(C, D, E, F)
    for node in (B, C, D, E, F):
        bench.down(node)
    bench.moved({A: Lsa(A, 2, "", (), (), protocol=2)})
    assert bench.core.rank(LAN) == 0
    bench.up(B, C)
    assert bench.core.rank(LAN) == 0
    bench.tell(NeighbourSpeaks(B, LAN, 2), NeighbourSpeaks(C, LAN, 3))
    bench.wait(10 * SECOND)
    assert bench.core.rank(LAN) == 0


def test_a_lost_speaker_is_replaced_at_once_by_the_lowest_of_the_others_as_the_most_junior():
    bench = member(A)
    assert RankSet(LAN, 3) in bench.down(B)
    assert not of(member(E).down(B), RankSet)


def test_a_restarting_speaker_keeps_its_seat_unless_nobody_who_speaks_is_left():
    bench = member(A)
    assert not of(bench.tell(NeighbourRestarting(B, LAN)), RankSet)
    assert of(bench.tell(NeighbourRestarting(D, LAN)), RankSet) == [RankSet(LAN, 3)]


def test_a_speaker_with_two_seniors_steps_down():
    bench = member(A)
    bench.down(B)
    assert bench.core.rank(LAN) == 3
    assert of(bench.up(B), RankSet) == [RankSet(LAN, 0)]


def test_after_a_speaker_has_stepped_down_others_listen_before_they_take_its_place():
    bench = member(A)
    assert not of(bench.tell(NeighbourSpeaks(B, LAN, 0)), RankSet)
    bench.moved(lan({D: 2}))
    assert of(bench.wait(CONFIG.wait), RankSet)


def test_a_speaker_that_restarts_takes_its_seat_again_from_its_own_lsa():
    bench = Bench(E)
    assert RankSet(LAN, 2) in bench.moved(lan({B: 1, E: 2}))


# What the LSA says


def test_a_shared_link_is_attached_with_its_own_address_and_not_once_it_is_not_shared():
    bench = Bench(E)
    bench.up(B)
    (said,) = of(bench.up(C), AttachmentsSet)
    assert said.attachments == (Attachment(LAN, IPv6Address(address(E)).packed, 0),)
    assert of(bench.down(C), AttachmentsSet) == [AttachmentsSet(())]


@pytest.mark.parametrize(
    ("kind", "others", "attached"), [("segment", (B,), True), ("point-to-point", (B, C, D), False)]
)
def test_the_configuration_says_what_a_link_is_before_anyone_is_counted(kind, others, attached):
    bench = Bench(E, kind)
    bench.up(*others)
    bench.wait(CONFIG.wait)
    assert bool(bench.core._attachments) == attached


def test_one_lsa_of_protocol_1_and_nothing_is_attached_nobody_spared_and_everyone_paired():
    bench = member(E)
    bench.meet(A, C, F)
    said = bench.moved(lan({B: 1, D: 2}) | {F: Lsa(F, 1, "", (), ())})
    assert of(said, AttachmentsSet) == [AttachmentsSet(())]
    assert of(said, Spared) == [Spared(LAN, frozenset())]
    assert wanted(said) == [A, C, F]


# Who is adjacent


def test_the_first_met_is_paired_at_once_then_the_two_of_lowest_id_then_whoever_no_segment_covers():
    bench = Bench(F)
    assert wanted(bench.meet(E)) == [E]
    assert wanted(bench.meet(D, C, A, B)) == []
    assert sorted(wanted(bench.wait(CONFIG.settle))) == [A, B]
    assert sorted(wanted(bench.wait(CONFIG.patience))) == [C, D]


def test_a_peer_of_protocol_1_is_paired_at_once():
    bench = Bench(F)
    bench.meet(E)
    assert wanted(bench.meet(D, protocol=1)) == [D]


def test_who_was_met_on_a_link_that_went_down_is_to_be_met_again() -> None:
    other = LinkNumber(LAN + 1)
    bench = Bench(F)
    bench.tell(LinkUp(other, "eth1", 10, address(F), "auto"))
    bench.tell(Met(E, LAN, address(E), 2), Met(D, other, address(D), 2), LinkDown(LAN))
    bench.tell(LinkUp(LAN, "eth0", 10, address(F), "auto"))
    assert wanted(bench.wait(10 * SECOND)) == []
    assert wanted(bench.meet(E)) == [E]


def test_pairs_on_one_segment_of_which_neither_speaks_are_spared():
    bench = member(E)
    assert bench.core._links[LAN].spared == {A, C, F}
    assert wanted(bench.meet(A, C, F) + bench.wait(10 * SECOND)) == []


def test_who_comes_to_speak_pairs_with_all_on_the_segment_known_or_not():
    bench = member(A)
    bench.meet(C)
    said = bench.down(B)
    assert sorted(wanted(said)) == [C, E, F]
    assert of(said, Spared) == [Spared(LAN, frozenset())]


def test_who_has_fallen_off_the_segment_is_not_paired_until_met_again():
    bench = member(E)
    bench.meet(F)
    assert of(bench.moved(lan({B: 1, D: 2}, (A, B, C, D, E))), Unmet) == [Unmet(F, LAN, address(F))]
    assert wanted(bench.wait(10 * SECOND)) == []
    assert wanted(bench.meet(F) + bench.wait(10 * SECOND)) == [F]


def test_a_place_that_was_forgotten_is_paired_when_met_again():
    bench = Bench(A)
    bench.meet(B)
    bench.tell(Forgotten(B, LAN, address(B)))
    assert wanted(bench.meet(B)) == [B]


# Who is reached


def reached(bench):
    return sorted(node for node, _ in bench.core.gateways().addresses)


def test_everyone_on_the_segment_is_reached_by_its_own_address():
    bench = member(E)
    assert bench.core.gateways().addresses == {(node, LAN): address(node) for node in (A, B, C, D, F)}


def test_a_lost_speaker_is_reached_no_more_at_once_and_again_when_it_is_back():
    bench = member(E)
    (said,) = of(bench.down(B), GatewaysSet)
    assert sorted(node for node, _ in said.addresses) == [A, C, D, F]
    bench.up(B)
    assert B in reached(bench)


def test_losing_the_designated_member_moves_nothing_between_the_others():
    bench = member(E)
    bench.down(B)
    before = {node: bench.core.gateways().addresses[node, LAN] for node in (A, C, D, F)}
    bench.moved(lan({A: 3, D: 2}, (A, C, D, E, F)))
    assert {node: bench.core.gateways().addresses[node, LAN] for node in (A, C, D, F)} == before


def test_without_any_adjacency_on_the_link_nobody_is_reached_over_it():
    bench = member(E)
    bench.down(B)
    bench.down(D)
    assert reached(bench) == []


def test_an_adjacency_given_up_because_it_is_superfluous_is_no_loss():
    bench = member(E)
    bench.up(A)
    bench.down(A, SPARED)
    assert A in reached(bench)


def test_a_loss_of_before_does_not_count_once_the_pair_needs_no_adjacency():
    bench = member(E)
    bench.down(B)
    assert B not in reached(bench)
    bench.moved(lan({A: 3, D: 2}))
    assert B in reached(bench)


def test_a_link_that_has_gone_reaches_nobody_and_is_attached_no_more():
    bench = member(E)
    said = bench.tell(LinkDown(LAN))
    assert of(said, GatewaysSet) == [GatewaysSet({})]
    assert of(said, AttachmentsSet) == [AttachmentsSet(())]


# Pairs that cannot hear one another


def test_who_cannot_be_adjacent_to_a_speaker_that_others_hold_withdraws_until_it_can():
    bench = member(E)
    bench.down(B)
    assert not of(bench.wait(CONFIG.pair_patience - MILLISECOND), AttachmentsSet)
    assert of(bench.wait(2 * MILLISECOND), AttachmentsSet) == [AttachmentsSet(())]
    (back,) = of(bench.up(B), AttachmentsSet)
    assert back.attachments[0].link == LAN


def test_a_speaker_that_all_have_lost_makes_nobody_withdraw():
    bench = member(E)
    bench.down(B)
    bench.moved(lan({A: 3, D: 2}, (A, C, D, E, F)))
    bench.up(A)
    assert not of(bench.wait(10 * SECOND), AttachmentsSet)
