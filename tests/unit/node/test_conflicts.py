"""Addresses that more than one member calls its own."""

from dmssd.rules.conflicts import SHOWN_MAX, address_conflicts
from routing.lsa import Lsa, Prefix
from sansio.ids import NodeId

A, B, C = (NodeId(letter * 20) for letter in (b"A", b"B", b"C"))


def said(me: NodeId = A, **prefixes: str) -> list[str]:
    ids = {"a": A, "b": B, "c": C}
    lsdb = {ids[n]: Lsa(ids[n], 1, n, (), tuple(map(Prefix.parse, text.split()))) for n, text in prefixes.items()}
    return address_conflicts(lsdb, me, lambda who: chr(who[0]).lower())


def test_an_address_of_two_members_is_a_conflict_that_names_both() -> None:
    (sentence,) = said(a="10.5.0.1", b="10.5.0.2", c="10.5.0.2")
    assert sentence.startswith("address 10.5.0.2 is announced by b, c: traffic goes to the nearest; next: ")


def test_a_member_that_takes_this_nodes_own_address_comes_first() -> None:
    first, second = said(B, a="fd00::9 10.5.0.1", b="fd00::9", c="10.5.0.1")
    assert first.startswith("address fd00::9 is announced by a, this node:")
    assert second.startswith("address 10.5.0.1 is announced by a, c:")


def test_a_network_behind_several_members_is_none() -> None:
    assert said(a="10.1.0.0/16 0.0.0.0/0 fd00::/64", b="10.1.0.0/16 0.0.0.0/0 fd00::/64") == []


def test_many_conflicts_are_counted_and_not_all_told() -> None:
    all_of_them = " ".join(f"10.5.0.{number}" for number in range(SHOWN_MAX + 3))
    sentences = said(a=all_of_them, b=all_of_them)
    assert len(sentences) == SHOWN_MAX + 1
    assert sentences[-1] == "3 more addresses are announced by several members"
