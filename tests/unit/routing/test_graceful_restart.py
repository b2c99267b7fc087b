"""Graceful restart: what a restarted daemon leaves unsaid, and whom its neighbours give up."""

import random

import pytest

from routing.flood import FLOOD_CODEC, Flood, FloodItem
from routing.linkstate import (
    SIGNED_CODEC,
    AttachmentsSet,
    FloodReceived,
    LinkState,
    LinkStateConfig,
    OriginationHeld,
    PrefixesSet,
)
from routing.lsa import LSA_CODEC, Adjacency, Attachment, LinkNumber, Lsa, SignedLsa
from routing.neighbours import NeighbourUp
from sansio.core import Wake
from sansio.ids import NodeId
from sansio.instant import SECOND, Instant, after

ME, B, C = (NodeId(letter * 20) for letter in (b"M", b"B", b"C"))
NOW, UNTIL = Instant(0), Instant(3 * SECOND)
LATER = after(NOW, LinkStateConfig().hold_down)


class Seal:
    def sign(self, body):
        return b"sealed"

    def verify(self, origin, body, proof):
        return proof == b"sealed"


def up(node, link):
    return NeighbourUp(node, LinkNumber(link), LinkNumber(7), f"fe80::{link}", 1)


def before_the_restart():
    adjacencies = tuple(Adjacency(node, LinkNumber(link), LinkNumber(7), 1) for node, link in ((B, 1), (C, 2)))
    body = LSA_CODEC.encode(Lsa(ME, 900, "me", adjacencies, ()))
    item = FloodItem(signed=SIGNED_CODEC.encode(SignedLsa(body, b"sealed")), remaining_ms=3_600_000)
    return FloodReceived(B, FLOOD_CODEC.encode(Flood((item,))))


@pytest.fixture
def held():
    core = LinkState(ME, "me", Seal(), Seal(), (1000).to_bytes(8, "big"), random.Random(1))
    core.handle(OriginationHeld(UNTIL), NOW)
    core.handle(PrefixesSet(()), NOW)
    return core


def test_a_held_node_floods_nothing_of_itself_and_wants_no_wake_for_it(held):
    held.handle(up(B, 1), NOW)
    assert ME not in held.lsdb
    assert held.deadline() > NOW


def test_what_it_said_before_the_restart_stands_for_itself_too(held):
    held.handle(up(B, 1), NOW)
    held.handle(before_the_restart(), NOW)
    assert held.lsdb[ME].sequence == 900
    assert held.lsdb[ME].adjacencies[0].neighbour == B


def test_it_speaks_again_once_all_its_adjacencies_are_back(held):
    held.handle(up(B, 1), NOW)
    held.handle(before_the_restart(), NOW)
    held.handle(up(C, 2), LATER)
    assert held.lsdb[ME].sequence > 900
    assert {adjacency.neighbour for adjacency in held.lsdb[ME].adjacencies} == {B, C}


def test_what_it_said_is_not_replaced_before_the_other_cores_have_read_it(held):
    """A speaker's rank is in it: said anew without, its seat is another's."""
    held.handle(up(B, 1), NOW)
    held.handle(up(C, 2), NOW)
    held.handle(before_the_restart(), NOW)
    assert held.lsdb[ME].sequence == 900
    held.handle(AttachmentsSet((Attachment(LinkNumber(1), b"\xfe\x80" + bytes(14), 7),)), NOW)
    assert held.lsdb[ME].sequence == 900
    assert NOW < held.deadline() <= LATER
    held.handle(Wake(), LATER)
    assert held.lsdb[ME].sequence > 900
    assert held.lsdb[ME].attachments[0].speaks == 7


def test_it_speaks_again_when_the_time_is_up_with_what_it_has(held):
    held.handle(up(B, 1), NOW)
    held.handle(before_the_restart(), NOW)
    held.handle(Wake(), UNTIL)
    assert [adjacency.neighbour for adjacency in held.lsdb[ME].adjacencies] == [B]
