"""One machine under a new key, as the database is read: pure functions, and the live view."""

import itertools
import random

import pytest

from routing.lsa import LSA_CODEC, Adjacency, LinkNumber, Lsa
from routing.lsdb import Entry, Lsdb
from routing.plan import compute_row
from routing.succession import LINE_MAX, heirs, renamed
from sansio.ids import NodeId

A, B, C, D = (NodeId(letter * 20) for letter in (b"A", b"B", b"C", b"D"))


def lsa(origin: NodeId, *neighbours: NodeId, sequence: int = 1, **fields: NodeId | None) -> Lsa:
    adjacencies = tuple(
        Adjacency(node, LinkNumber(number), LinkNumber(1), 5) for number, node in enumerate(neighbours, 1)
    )
    return Lsa(origin, sequence, "x", adjacencies, (), **fields)


def entry(of: Lsa) -> Entry:
    return Entry(of, LSA_CODEC.encode(of), b"proof", b"signed", None)


def database(*lsas: Lsa, me: NodeId | None = None) -> Lsdb:
    lsdb = Lsdb(me)
    for each in lsas:
        lsdb.put(entry(each))
    return lsdb


HANDED = lsa(A, C, successor=B)
TAKEN = lsa(B, C, predecessor=A)
NEIGHBOUR = lsa(C, A)


def test_only_where_each_names_the_other_is_it_one_machine():
    assert heirs({A: HANDED, B: TAKEN}) == {A: B}
    assert heirs({A: HANDED, B: lsa(B, C)}) == {}
    assert heirs({A: lsa(A, C), B: TAKEN}) == {}
    assert heirs({A: HANDED}) == {}
    assert heirs({A: HANDED, B: TAKEN}, me=A) == {}


def test_a_line_of_successions_leads_to_its_end_and_a_circle_nowhere():
    first, second = lsa(A, successor=B), lsa(B, predecessor=A, successor=C)
    assert heirs({A: first, B: second, C: lsa(C, predecessor=B)}) == {A: C, B: C}
    circle = {A: lsa(A, successor=B, predecessor=B), B: lsa(B, successor=A, predecessor=A)}
    assert heirs(circle) == {}
    nodes = [NodeId(bytes((number,)) * 20) for number in range(LINE_MAX + 2)]
    line = {
        node: lsa(node, successor=after, predecessor=before)
        for before, node, after in zip([None, *nodes], nodes, [*nodes[1:], None], strict=False)
    }
    assert nodes[0] not in heirs(line)
    assert heirs(line)[nodes[-2]] == nodes[-1]


def test_a_neighbour_named_under_both_names_is_one_adjacency():
    both = Lsa(C, 1, "c", tuple(Adjacency(node, LinkNumber(1), LinkNumber(1), 5) for node in (A, B)), ())
    assert [each.neighbour for each in renamed(both, {A: B}).adjacencies] == [B]
    assert renamed(lsa(C, D), {A: B}) == lsa(C, D)


@pytest.mark.parametrize("order", [*itertools.permutations((HANDED, TAKEN, NEIGHBOUR))])
def test_in_whatever_order_they_come_the_machine_is_read_under_its_new_name(order: tuple[Lsa, ...]):
    lsdb = database(*order)
    assert lsdb.view.keys() == {B, C}
    assert [each.neighbour for each in lsdb.view[C].adjacencies] == [B]
    assert lsdb.heirs == {A: B}
    # What is signed and compared is not touched by it.
    assert {found.lsa.origin for found in lsdb.between(b"", b"\xff" * 20)} == {A, B, C}
    assert lsdb.digest == database(HANDED, TAKEN, NEIGHBOUR, me=A).digest


def test_whoever_hands_over_still_lives_under_its_old_name_in_its_own_copy():
    assert database(HANDED, TAKEN, NEIGHBOUR, me=A).view == {A: HANDED, B: TAKEN, C: NEIGHBOUR}


def test_when_the_old_lsa_is_forgotten_the_others_are_read_as_written():
    lsdb = database(HANDED, TAKEN, NEIGHBOUR)
    lsdb.put(entry(lsa(C, B, sequence=2)))
    before = dict(lsdb.view)
    lsdb.remove(A)
    assert lsdb.heirs == {}
    assert lsdb.view == before


def test_rows_over_the_machine_are_the_same_before_and_after_but_for_its_name():
    before = database(lsa(A, C), NEIGHBOUR)
    handed = database(HANDED, TAKEN, NEIGHBOUR)
    (old,), (new,) = compute_row(before.view, C).groups, compute_row(handed.view, C).groups
    assert [(hop.link, hop.neighbour) for hop in old] == [(1, A)]
    assert [(hop.link, hop.neighbour) for hop in new] == [(1, B)]


def test_the_view_is_what_reading_everything_again_would_give():
    rng = random.Random(7)
    nodes = [NodeId(bytes((number,)) * 20) for number in range(6)]
    lsdb, held = Lsdb(), dict[NodeId, Lsa]()
    for step in range(2_000):
        node = rng.choice(nodes)
        if rng.random() < 0.2:
            lsdb.remove(node)
            held.pop(node, None)
            continue
        others = [each for each in rng.sample(nodes, 3) if each != node]
        successor, predecessor = (rng.choice([None, None, *nodes]) for _ in range(2))
        said = lsa(node, *others, sequence=step + 1, successor=successor, predecessor=predecessor)
        lsdb.put(entry(said))
        held[node] = said
        known = heirs(held)
        assert lsdb.heirs == known
        assert lsdb.view == {each: renamed(held[each], known) for each in held if each not in known}
