"""Where the two machines of one identity are, from the LSAs that they contest."""

import pytest

from dmssd.rules.doubles import DOUBLES_MAX, Doubles, told
from routing.lsa import FLAG_CONTESTED, Adjacency, Attachment, LinkNumber, Lsa, Prefix
from sansio.ids import NodeId, node_id

X, A, B, C = (node_id(bytes([number])) for number in range(4))


def said(*neighbours: NodeId, flags: int = FLAG_CONTESTED, origin: NodeId = X, link: int = 1) -> Lsa:
    adjacencies = tuple(Adjacency(each, LinkNumber(1), LinkNumber(link), 10) for each in neighbours)
    return Lsa(origin, 1, "x", adjacencies, (Prefix.parse("10.5.0.1"), Prefix.parse("10.9.0.0/16")), flags)


def after(*lsas: Lsa | None) -> Doubles:
    doubles = Doubles()
    for lsa in lsas:
        doubles.moved([X], {X: lsa} if lsa is not None else {})
    return doubles


def test_lsas_without_one_adjacency_in_common_are_a_machine_each():
    one, other = said(A), said(B, C)
    assert after(one).places() == [(X, one, None)]
    assert after(one, other).places() == [(X, other, one)]
    assert after(one, other, one).places() == [(X, one, other)]


def test_a_machine_that_loses_and_finds_neighbours_is_still_one():
    assert after(said(A), said(A, B), said(B)).places() == [(X, said(B), None)]
    assert after(said(A), said(), said(A)).places() == [(X, said(A), None)]


def test_two_machines_at_one_neighbour_are_told_apart_by_its_links():
    assert after(said(A, link=1), said(A, link=2)).places()[0][2] == said(A, link=1)


@pytest.mark.parametrize("last", [None, said(A, flags=0), said(A, B, flags=0)])
def test_an_origin_that_is_gone_or_contests_nothing_is_not_shown(last):
    assert after(said(B), said(A), last).places() == []
    assert after(said(A, flags=0), said(B, flags=0)).places() == []


def test_of_two_machines_one_may_be_of_a_version_that_does_not_say_so():
    assert after(said(A), said(B, flags=0), said(A)).places() == [(X, said(A), said(B, flags=0))]


def test_no_more_are_remembered_than_there_is_room_for():
    doubles = Doubles()
    lsdb = {origin: said(A, origin=origin) for origin in (node_id(b"%d" % n) for n in range(DOUBLES_MAX + 9))}
    doubles.moved(lsdb, lsdb)
    assert len(doubles.places()) == DOUBLES_MAX


def test_a_place_is_told_by_neighbours_and_addresses():
    names = {A: "anna", B: "bert"}.get
    assert told(said(), names) == "next to nobody (10.5.0.1)"
    attached = Attachment(LinkNumber(3), bytes.fromhex("fe80") + bytes(13) + b"\x07")
    lsa = Lsa(X, 1, "x", said(A, B).adjacencies, (), 0, attachments=(attached,))
    assert told(lsa, names).startswith("next to ")
    assert {"anna", "bert"} == set(told(lsa, names).split(" (")[0].removeprefix("next to ").split(", "))
    assert told(lsa, names).endswith(" (fe80::7)")
