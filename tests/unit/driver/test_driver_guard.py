"""The guard's table as text and as a rule: what is let through, before any kernel sees it."""

import pytest

from dmssd.driver.guard import Admitted, admitted, is_guardable, ruleset
from routing.lsa import Prefix


def prefix(text: str) -> Prefix:
    return Prefix.parse(text)


FOREIGN = [
    (prefix("0.0.0.0/0"), "wan0"),
    (prefix("10.1.0.0/24"), "lan1"),
    (prefix("10.1.1.0/24"), "lan2"),
    (prefix("10.1.9.0/24"), "mesh0"),
    (prefix("192.168.0.0/16"), "lan3"),
    (prefix("192.168.4.0/24"), "lan4"),
    (prefix("fd01::/64"), "lan1"),
]


def opened(*announced: str) -> Admitted:
    return admitted(["mesh1", "mesh0"], [prefix(text) for text in announced], FOREIGN, closes_ipv6=False)


def test_a_node_that_announces_nothing_lets_nothing_out_of_its_links() -> None:
    assert opened() == Admitted(("mesh0", "mesh1"))


def test_an_announced_prefix_opens_every_interface_that_a_part_of_it_is_on_and_never_a_link() -> None:
    whole = prefix("10.1.0.0/16")
    assert opened("10.1.0.0/16").open == (("lan1", whole), ("lan2", whole))


def test_an_announced_part_of_a_network_opens_the_interface_of_the_longest_route_to_it_alone() -> None:
    assert opened("192.168.4.16/28").open == (("lan4", prefix("192.168.4.16/28")),)
    assert opened("192.168.5.0/24").open == (("lan3", prefix("192.168.5.0/24")),)


def test_a_prefix_without_a_route_of_its_own_does_not_open_the_uplink() -> None:
    assert opened("172.16.0.0/12") == Admitted(("mesh0", "mesh1"))


def test_families_are_not_mixed_up() -> None:
    assert opened("fd01::/64").open == (("lan1", prefix("fd01::/64")),)


def test_an_announced_default_opens_the_uplink_of_its_family_outwards_and_for_answers_only() -> None:
    assert opened("0.0.0.0/0").uplinks == ("wan0",)
    assert opened("::/0").uplinks == ()
    text = ruleset(opened("0.0.0.0/0"))
    assert 'iifname @links oifname "wan0" accept' in text
    assert 'iifname "wan0" oifname @links ct state established,related accept' in text
    assert text.count('iifname "wan0"') == 1


def test_ipv6_between_other_interfaces_is_dropped_only_where_it_is_to_be_closed() -> None:
    closing = "meta nfproto ipv6 iifname != @links oifname != @links counter drop"
    assert closing in ruleset(Admitted(("mesh0",), closes_ipv6=True))
    assert closing not in ruleset(Admitted(("mesh0",)))


def test_the_last_rule_drops_whatever_touches_a_link() -> None:
    rules = [line.strip() for line in ruleset(Admitted(("mesh0",))).splitlines()]
    assert rules[-3:] == ["counter drop", "}", "}"]


@pytest.mark.parametrize("name", ["eth0", "to-b.2", "br-1a2b", "vlan@x", "_x"])
def test_usual_names_can_stand_in_the_table(name: str) -> None:
    assert is_guardable(name)


@pytest.mark.parametrize("name", ['e"; drop', "eth*", "", "a b", "sixteen-letters-", "é"])
def test_names_that_nft_would_read_as_something_else_cannot(name: str) -> None:
    assert not is_guardable(name)
