"""The forwarding table writer on the real kernel, read back by ``ip``."""

import errno
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from dmssd.driver import rtnetlink
from dmssd.driver.fib import KernelFib
from dmssd.driver.kernel import KernelSettings
from dmssd.driver.netlink import NetlinkSocket
from routing.fib import DeleteNexthop, Gateway, Installed, Members, SetGroup, SetNexthop, SetRoute, diff
from routing.lsa import LinkNumber, Prefix
from tests.netns.kernel import Namespaces

pytestmark = pytest.mark.netns

# West, middle and east in a line; west and middle are joined twice.
CABLES = (
    (("west", "m0"), ("middle", "w0")),
    (("west", "m1"), ("middle", "w1")),
    (("middle", "e0"), ("east", "m0")),
)
ADDRESSES = {"west": ("10.5.0.1", "fd05::1"), "middle": ("10.5.0.2", "fd05::2"), "east": ("10.5.0.3", "fd05::3")}


class Node:
    """One namespace with its writer."""

    def __init__(self, spaces: Namespaces, name: str) -> None:
        self.spaces = spaces
        self.name = name
        self.netlink = spaces.inside(name, NetlinkSocket)
        four, six = (ip_address(address).packed for address in ADDRESSES[name])
        spaces.inside(name, lambda: self._prepare(four, six))
        self.fib = KernelFib(self.netlink, four, six)

    def _prepare(self, four: bytes, six: bytes) -> None:
        kernel = KernelSettings(self.netlink)
        kernel.prepare_node([four, six], 1 + int(four[3]))
        for link in rtnetlink.links(self.netlink):
            if link.name != "lo":
                kernel.prepare_link(link)

    def gateway(self, link: str, neighbour: str, remote_link: str) -> Gateway:
        address = ip_address(self.spaces.link_local(neighbour, remote_link)).packed
        return Gateway(LinkNumber(self.spaces.index(self.name, link)), address)

    def want(self, wanted: dict[Prefix, Members]) -> Installed:
        failures = self.fib.perform(diff(self.fib.read(), wanted))
        assert failures == ()
        return self.fib.read()

    def ping(self, address: str) -> bool:
        return self.spaces.run(self.name, "ping", "-n", "-c", "1", "-W", "2", address).returncode == 0


def test_routes_start_from_another_address_once_the_node_has_another(line: dict[str, "Node"]) -> None:
    west, to = line["west"], Prefix.parse("10.5.0.2/32")
    west.want({to: ((west.gateway("m0", "middle", "w0"), 1),)})
    west.spaces.ip("west", "addr", "add", "10.5.0.77/32", "dev", "lo")
    west.fib.set_sources(ip_address("10.5.0.77").packed, ip_address("fd05::1").packed)
    (route,) = west.spaces.ip_json("west", "route", "show", "proto", "201")
    assert route["prefsrc"] == "10.5.0.77"
    assert west.fib.read().routes.keys() == {to}


@pytest.fixture
def line() -> Iterator[dict[str, Node]]:
    with Namespaces("west", "middle", "east") as spaces:
        for first, second in CABLES:
            spaces.veth(first, second)
        nodes = {name: Node(spaces, name) for name in ADDRESSES}
        yield nodes
        for node in nodes.values():
            node.netlink.close()


def hosts(*names: str) -> list[Prefix]:
    return [Prefix.parse(address) for name in names for address in ADDRESSES[name]]


def both_ways(west: Node) -> Members:
    return tuple(sorted([(west.gateway("m0", "middle", "w0"), 1), (west.gateway("m1", "middle", "w1"), 1)]))


def fill(line: dict[str, Node]) -> dict[Prefix, Members]:
    west, middle, east = line["west"], line["middle"], line["east"]
    wanted: dict[Prefix, Members] = dict.fromkeys(hosts("middle", "east"), both_ways(west))
    west.want(wanted)
    to_west = tuple(sorted([(middle.gateway("w0", "west", "m0"), 1), (middle.gateway("w1", "west", "m1"), 1)]))
    to_east: Members = ((middle.gateway("e0", "east", "m0"), 1),)
    middle.want(dict.fromkeys(hosts("west"), to_west) | dict.fromkeys(hosts("east"), to_east))
    east.want(dict.fromkeys(hosts("west", "middle"), ((east.gateway("m0", "middle", "e0"), 1),)))
    return wanted


def test_ipv4_and_ipv6_cross_two_unnumbered_links_by_nexthop_groups(line: dict[str, Node]) -> None:
    fill(line)
    for address in ADDRESSES["east"]:
        assert line["west"].ping(address), address


def test_ip_shows_routes_by_group_with_our_protocol_metric_and_source(line: dict[str, Node]) -> None:
    fill(line)
    spaces, west = line["west"].spaces, line["west"]
    (group,) = west.fib.read().groups
    for family, position in (("-4", 0), ("-6", 1)):
        routes = {route["dst"]: route for route in spaces.ip_json("west", family, "route", "show", "protocol", "201")}
        assert set(routes) == {ADDRESSES["middle"][position], ADDRESSES["east"][position]}
        for route in routes.values():
            assert (route["nhid"], route["metric"], route["prefsrc"]) == (group, 201, ADDRESSES["west"][position])
    shown = {entry["id"]: entry for entry in spaces.ip_json("west", "nexthop", "show")}
    assert {member["id"] for member in shown[group]["group"]} == set(shown) - {group}


def test_what_is_read_back_is_what_was_wanted(line: dict[str, Node]) -> None:
    wanted = fill(line)
    assert diff(line["west"].fib.read(), wanted) == ()
    assert diff(KernelFib(line["west"].netlink).read(), wanted) == ()


def test_weights_survive_the_kernel(line: dict[str, Node]) -> None:
    west = line["west"]
    (first, _), (second, _) = both_ways(west)
    wanted: dict[Prefix, Members] = dict.fromkeys(hosts("east"), ((first, 1), (second, 256)))
    held = west.want(wanted)
    assert sorted(weight for _, weight in next(iter(held.groups.values()))) == [1, 256]
    assert diff(held, wanted) == ()


def test_ten_thousand_routes_go_in_and_their_group_is_swapped_without_touching_them(line: dict[str, Node]) -> None:
    west = line["west"]
    ways = both_ways(west)
    prefixes = [Prefix.parse(f"10.{64 + number // 256}.{number % 256}.0/24") for number in range(10_000)]
    started = time.monotonic()
    held = west.want(dict.fromkeys(prefixes, ways))
    assert len(held.routes) == 10_000
    assert len(west.spaces.ip("west", "route", "show", "protocol", "201").splitlines()) == 10_000
    operations = diff(held, dict.fromkeys(prefixes, ways[1:]))
    assert [type(operation) for operation in operations] == [SetGroup, DeleteNexthop]
    assert west.fib.perform(operations) == ()
    assert set(west.fib.read().routes) == set(prefixes)
    assert west.want({}) == Installed()
    assert time.monotonic() - started < 10, "0.3 s is usual"


def test_carrier_loss_shrinks_the_group_and_reconciling_restores_it(line: dict[str, Node]) -> None:
    wanted = fill(line)
    west = line["west"]
    full = west.fib.read()
    (lost, _), (kept, _) = both_ways(west)
    for state, gateways in (("down", {kept}), ("up", {lost, kept})):
        west.spaces.ip("middle", "link", "set", "w0", state)
        wait_for_carrier(west, "m0", state == "up")
        alive: Members = tuple((gateway, 1) for gateway in (lost, kept) if gateway in gateways)
        held = west.want(dict.fromkeys(wanted, alive))
        assert set(held.nexthops.values()) == gateways
        assert set(held.routes) == set(wanted)
    assert list(west.fib.read().groups) == list(full.groups), "the group keeps its id throughout"


def test_an_emptied_group_takes_its_routes_along_and_reconciling_brings_them_back(line: dict[str, Node]) -> None:
    wanted = fill(line)
    west = line["west"]
    for link in ("w0", "w1"):
        west.spaces.ip("middle", "link", "set", link, "down")
    wait_for_carrier(west, "m0", False)
    wait_for_carrier(west, "m1", False)
    assert west.fib.read() == Installed()
    assert {number for _, number in west.fib.perform(diff(west.fib.read(), wanted))} >= {errno.ENETDOWN}
    for link in ("w0", "w1"):
        west.spaces.ip("middle", "link", "set", link, "up")
    wait_for_carrier(west, "m0", True)
    wait_for_carrier(west, "m1", True)
    assert west.fib.read() == Installed(), "they do not come back by themselves"
    fill(line)
    assert west.ping(ADDRESSES["east"][0])


def test_foreign_nexthops_and_routes_are_neither_read_nor_replaced(line: dict[str, Node]) -> None:
    west = line["west"]
    spaces = west.spaces
    ways = both_ways(west)
    spaces.ip("west", "nexthop", "add", "id", "77", "blackhole")
    for family, prefix in (("-4", "10.9.0.0/24"), ("-6", "fd09::/64")):
        spaces.ip("west", family, "route", "add", prefix, "dev", "m0", "metric", "201")
    assert west.fib.read() == Installed()
    operations = (
        SetNexthop(77, ways[0][0]),
        SetNexthop(78, ways[0][0]),
        SetGroup(79, ((78, 1),)),
        SetRoute(Prefix.parse("10.9.0.0/24"), 79),
        SetRoute(Prefix.parse("fd09::/64"), 79),
    )
    assert west.fib.perform(operations) == ((0, errno.EEXIST), (3, errno.EEXIST), (4, errno.EEXIST))
    assert "blackhole" in spaces.ip("west", "nexthop", "show", "id", "77")
    assert "dev m0" in spaces.ip("west", "route", "show", "10.9.0.0/24")


def test_nothing_is_deleted_once_something_could_not_be_set(line: dict[str, Node]) -> None:
    fill(line)
    west = line["west"]
    before = west.fib.read()
    (group,) = before.groups
    missing = SetGroup(4711, ((4712, 1),))
    assert west.fib.perform([missing, DeleteNexthop(group)]) == ((0, errno.EINVAL), (1, errno.ECANCELED))
    assert west.fib.read() == before


@pytest.mark.parametrize(
    "prefix",
    [Prefix(b"\x0a\x00\x00\x01", 24), Prefix(bytes(15) + b"\x01", 64), Prefix(bytes(5), 8), Prefix(bytes(4), 33)],
    ids=["ipv4 host bits", "ipv6 host bits", "five bytes", "too long"],
)
def test_what_is_no_prefix_is_refused_and_the_rest_of_the_batch_performed(
    line: dict[str, Node], prefix: Prefix
) -> None:
    west = line["west"]
    good = hosts("east")[0]
    nexthop, group = SetNexthop(1, both_ways(west)[0][0]), SetGroup(2, ((1, 1),))
    operations = (nexthop, group, SetRoute(prefix, 2), SetRoute(good, 2))
    assert west.fib.perform(operations) == ((2, errno.EINVAL),)
    assert west.fib.read().routes == {good: 2}


def test_default_routes_of_both_families_go_in_and_come_back(line: dict[str, Node]) -> None:
    wanted: dict[Prefix, Members] = {Prefix(bytes(size), 0): both_ways(line["west"]) for size in (4, 16)}
    assert diff(line["west"].want(wanted), wanted) == ()


def test_deleting_what_has_gone_already_is_no_failure(line: dict[str, Node]) -> None:
    west = line["west"]
    held = west.want(dict.fromkeys(hosts("east"), both_ways(west)))
    operations = diff(held, {})
    assert west.fib.perform(operations) == ()
    assert west.fib.perform(operations) == ()


def wait_for_carrier(node: Node, link: str, wanted: bool) -> None:
    number = node.spaces.index(node.name, link)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = next(entry for entry in rtnetlink.links(node.netlink) if entry.number == number)
        if found.has_carrier == wanted:
            return
    raise AssertionError(f"{link} never {'got' if wanted else 'lost'} carrier")
