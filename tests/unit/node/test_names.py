"""What nodes are called, and whose word counts for it."""

from dmssd.rules.names import GREETERS_MAX, NAMES_MAX, Names
from sansio.ids import NodeId

ME, BOB, EVE = NodeId(b"m" * 20), NodeId(b"b" * 20), NodeId(b"e" * 20)


def numbered(number: int) -> NodeId:
    return NodeId(number.to_bytes(20, "big"))


def test_a_certificate_counts_before_gossip_and_gossip_before_a_greeting() -> None:
    certified: dict[NodeId, str] = {}
    names = Names(ME, "me", certified)
    names.greeted(BOB, "greeted")
    assert names.get(BOB) == "greeted"
    names.told(BOB, "told")
    names.greeted(BOB, "again")
    assert names.get(BOB) == "told"
    certified[BOB] = "bob"
    assert names.get(BOB) == "bob"


def test_nothing_said_renames_this_node() -> None:
    names = Names(ME, "me", {})
    names.told(ME, "other")
    names.greeted(ME, "other")
    assert names.get(ME) == "me"
    assert names.called("other") == []


def test_a_greeter_cannot_make_the_name_of_a_member_ambiguous() -> None:
    names = Names(ME, "me", {BOB: "bob"})
    names.greeted(EVE, "bob")
    names.greeted(EVE, "me")
    assert names.called("bob") == [BOB]
    assert names.called("me") == [ME]


def test_a_greeter_is_found_by_a_name_that_no_member_has() -> None:
    names = Names(ME, "me", {})
    names.greeted(EVE, "eve")
    assert names.called("eve") == [EVE]
    assert set(names) == {ME, EVE}


def test_a_flood_of_greeters_pushes_out_greeters_and_no_member() -> None:
    names = Names(ME, "me", {})
    names.told(BOB, "bob")
    for number in range(2 * GREETERS_MAX):
        names.greeted(numbered(number), "x")
    assert names.get(BOB) == "bob"
    assert names.get(numbered(0)) == ""
    assert len(list(names)) == GREETERS_MAX + 2


def test_more_members_than_fit_push_out_the_oldest_and_never_this_node() -> None:
    names = Names(ME, "me", {})
    for number in range(NAMES_MAX + 1):
        names.told(numbered(number), "x")
    assert names.get(numbered(0)) == ""
    assert names.get(ME) == "me"
