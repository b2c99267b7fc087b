"""UDP, echo, links, neighbours and settings on the real kernel, in two namespaces joined by a cable."""

import select
import socket
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from dmssd.driver import rtnetlink
from dmssd.driver.devices import DeviceSettings, KernelDevices
from dmssd.driver.disk import Store
from dmssd.driver.echo import EchoSocket
from dmssd.driver.kernel import KernelSettings
from dmssd.driver.links import LinkRule, Links
from dmssd.driver.loop import FibSuspect
from dmssd.driver.neighbours import NeighbourTable
from dmssd.driver.netlink import NetlinkSocket
from dmssd.driver.udp import DRAIN_MAX, UdpSocket
from dmssd.events import Datagram, EchoReplied, LinkDown, LinkUp, NetworksRead, SendDatagram, SetAddresses
from routing.lsa import LinkNumber, Prefix
from sansio.errors import ConfigError
from tests.netns.kernel import Namespaces

pytestmark = pytest.mark.netns

PORT = 4747


@pytest.fixture
def pair() -> Iterator[Namespaces]:
    with Namespaces("here", "there") as spaces:
        spaces.veth(("here", "mesh0"), ("there", "mesh0"))
        spaces.veth(("here", "other0"), ("there", "other0"))
        yield spaces


def number(spaces: Namespaces, name: str, link: str = "mesh0") -> LinkNumber:
    return LinkNumber(spaces.index(name, link))


def joined(spaces: Namespaces, name: str) -> UdpSocket:
    udp = spaces.inside(name, lambda: UdpSocket(PORT))
    udp.join(number(spaces, name))
    return udp


def readable(descriptor: int, wait_s: float = 5) -> bool:
    return bool(select.select([descriptor], [], [], wait_s)[0])


def next_of(source: UdpSocket | EchoSocket) -> list[Datagram] | list[EchoReplied]:
    assert readable(source.fileno())
    return source.receive()[0]


def test_a_datagram_arrives_with_its_link_and_its_senders_address(pair: Namespaces) -> None:
    here, there = joined(pair, "here"), joined(pair, "there")
    there.send(number(pair, "there"), pair.link_local("here", "mesh0"), b"to you")
    sender = pair.link_local("there", "mesh0")
    assert next_of(here) == [Datagram(number(pair, "here"), sender, b"to you")]


def test_multicast_reaches_the_other_end_of_the_link_and_not_the_sender(pair: Namespaces) -> None:
    here, there = joined(pair, "here"), joined(pair, "there")
    there.send(number(pair, "there"), None, b"to all")
    assert next_of(here) == [Datagram(number(pair, "here"), pair.link_local("there", "mesh0"), b"to all")]
    assert there.receive() == ([], False)


def test_links_that_the_mesh_does_not_use_are_not_heard(pair: Namespaces) -> None:
    here, there = joined(pair, "here"), joined(pair, "there")
    there.send(number(pair, "there", "other0"), pair.link_local("here", "other0"), b"by the wrong door")
    there.send(number(pair, "there", "other0"), None, b"to all by the wrong door")
    assert next_of(here) == []
    assert here.dropped == {"link is not used by the mesh": 1}
    here.leave(number(pair, "here"))
    there.send(number(pair, "there"), pair.link_local("here", "mesh0"), b"too late")
    assert next_of(here) == []


def test_the_group_joined_by_another_program_on_another_link_is_not_heard_here(pair: Namespaces) -> None:
    here, there = joined(pair, "here"), joined(pair, "there")
    other = pair.inside("here", lambda: UdpSocket(PORT + 1))
    other.join(number(pair, "here", "other0"))
    there.send(number(pair, "there", "other0"), None, b"to all by the wrong door")
    assert next_of(here) == [], "the kernel delivers it: it compares groups, not links"
    assert here.dropped == {"link is not used by the mesh": 1}
    other.close()


def test_a_datagram_that_may_have_crossed_a_router_is_refused(pair: Namespaces) -> None:
    here = joined(pair, "here")
    forger = pair.inside("there", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    forger.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 254)
    forger.sendto(b"forged", (pair.link_local("here", "mesh0"), PORT, 0, number(pair, "there")))
    assert next_of(here) == []
    assert here.dropped == {"hop limit is not 255": 1}


def test_a_source_that_is_not_link_local_is_refused(pair: Namespaces) -> None:
    here = joined(pair, "here")
    for name, address in (("here", "fd01::1/64"), ("there", "fd01::2/64")):
        pair.ip(name, "addr", "add", address, "dev", "mesh0", "nodad")
    stranger = pair.inside("there", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    stranger.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
    stranger.sendto(b"from afar", ("fd01::1", PORT))
    assert next_of(here) == []
    assert here.dropped == {"source is not link-local": 1}


def test_a_drain_is_bounded_and_says_that_more_is_waiting(pair: Namespaces) -> None:
    here, there = joined(pair, "here"), joined(pair, "there")
    for count in range(DRAIN_MAX + 3):
        there.send(number(pair, "there"), pair.link_local("here", "mesh0"), bytes([count]))
    assert readable(here.fileno())
    first, more = here.receive()
    rest, nothing_more = here.receive()
    assert (len(first), more, len(rest), nothing_more) == (DRAIN_MAX, True, 3, False)


def test_a_port_in_use_is_a_clear_error(pair: Namespaces) -> None:
    first = joined(pair, "here")
    with pytest.raises(ConfigError, match="port: UDP port 4747 is in use: stop"):
        pair.inside("here", lambda: UdpSocket(PORT))
    first.close()
    pair.inside("here", lambda: UdpSocket(PORT)).close()


def test_sending_on_a_link_that_has_gone_is_counted_and_no_error(pair: Namespaces) -> None:
    here = joined(pair, "here")
    link = number(pair, "here")
    pair.ip("here", "link", "del", "mesh0")
    here.send(link, "fe80::1", b"into the void")
    here.leave(link)
    assert sum(count for reason, count in here.dropped.items() if reason.startswith("send: ")) == 1


def test_the_other_kernel_answers_an_echo_with_its_nonce(pair: Namespaces) -> None:
    echo = pair.inside("here", EchoSocket)
    there = pair.link_local("there", "mesh0")
    nonce = 0x0123456789ABCDEF
    echo.send(number(pair, "here"), there, nonce)
    assert next_of(echo) == [EchoReplied(number(pair, "here"), there, nonce)]


def test_somebody_elses_echo_replies_are_ignored(pair: Namespaces) -> None:
    echo = pair.inside("here", EchoSocket)
    zone = f"{pair.link_local('there', 'mesh0')}%mesh0"
    for size in ("8", "56"):
        assert pair.run("here", "ping", "-c", "1", "-s", size, zone).returncode == 0
    assert next_of(echo) == []


def link_watch(spaces: Namespaces, *rules: LinkRule) -> Links:
    def make() -> Links:
        netlink = NetlinkSocket()
        return Links(netlink, rules, lambda _: None)

    return spaces.inside("here", make)


def up(pair: Namespaces, link: int, name: str, metric: int) -> LinkUp:
    """A link of ours as the kernel has it: with its own link-local address."""
    return LinkUp(LinkNumber(link), name, metric, pair.link_local("here", name), mtu=1500)


def test_links_are_the_interfaces_that_a_rule_matches_first_and_never_loopback(pair: Namespaces) -> None:
    links = link_watch(pair, LinkRule("mesh*", 7), LinkRule("*", 100))
    here, other = number(pair, "here"), number(pair, "here", "other0")
    settle(pair, "mesh0", "other0")
    assert links.read().events == (up(pair, here, "mesh0", 7), up(pair, other, "other0", 100))
    assert {status.name for status in links.table.values()} == {"mesh0", "other0"}
    assert links.read().events == ()


def test_an_unmatched_interface_is_no_link(pair: Namespaces) -> None:
    links = link_watch(pair, LinkRule("mesh?", 7))
    assert [status.name for _ in [links.read()] for status in links.table.values()] == ["mesh0"]


def test_carrier_loss_takes_a_link_down_and_suspects_the_table_and_carrier_brings_it_back(pair: Namespaces) -> None:
    links = link_watch(pair, LinkRule("mesh*", 7))
    link = number(pair, "here")
    settle(pair, "mesh0")
    assert links.read().events == (up(pair, link, "mesh0", 7),)
    pair.ip("there", "link", "set", "mesh0", "down")
    assert announced(links, 1) == ([LinkDown(link)], True)
    assert links.table[link].state == "no carrier"
    pair.ip("there", "link", "set", "mesh0", "up")
    assert announced(links, 1) == ([up(pair, link, "mesh0", 7)], True)
    pair.ip("here", "link", "set", "mesh0", "down")
    assert announced(links, 1) == ([LinkDown(link)], True)
    assert links.table[link].state == "switched off"


def test_a_link_without_a_link_local_address_is_not_up(pair: Namespaces) -> None:
    links = link_watch(pair, LinkRule("mesh*", 7))
    link = number(pair, "here")
    settle(pair, "mesh0")
    links.read()
    pair.ip("here", "addr", "flush", "dev", "mesh0", "scope", "link")
    assert announced(links, 1)[0] == [LinkDown(link)]
    assert links.table[link].state == "no address"


def test_an_interface_that_appears_or_goes_is_noticed(pair: Namespaces) -> None:
    links = link_watch(pair, LinkRule("late*", 3))
    assert links.read().events == ()
    pair.veth(("here", "late0"), ("there", "late0"))
    link = number(pair, "here", "late0")
    assert announced(links, 1)[0] == [up(pair, link, "late0", 3)]
    pair.ip("here", "link", "del", "late0")
    assert announced(links, 1) == ([LinkDown(link)], True)
    assert links.table == {}


def test_an_event_on_somebody_elses_interface_does_not_suspect_the_table(pair: Namespaces) -> None:
    links = link_watch(pair, LinkRule("mesh*", 7))
    settle(pair, "mesh0", "other0")
    links.read()
    while links.receive() is not None:
        pass
    pair.ip("here", "link", "set", "other0", "mtu", "1400")
    assert readable(links.fileno())
    read = links.receive()
    assert read is not None
    assert (read.events, read.fib_suspect) == ((), False)


def test_announcements_lost_for_want_of_space_are_made_up_by_reading_again(pair: Namespaces) -> None:
    links = link_watch(pair, LinkRule("late*", 3))
    links.read()
    # Far more than the socket holds, and nobody listening.
    batch = "\n".join(f"link set dev mesh0 mtu {1400 + count % 2}" for count in range(2000))
    Path(f"/tmp/{pair.full('here')}.batch").write_text(batch)
    try:
        pair.ip("here", "-batch", f"/tmp/{pair.full('here')}.batch")
    finally:
        Path(f"/tmp/{pair.full('here')}.batch").unlink()
    pair.veth(("here", "late0"), ("there", "late0"))
    settle(pair, "late0")
    found, suspect = announced(links, 1)
    assert (found, suspect) == ([up(pair, number(pair, "here", "late0"), "late0", 3)], True)


def test_pinning_confirms_a_neighbour_with_the_address_the_kernel_has_learned(pair: Namespaces) -> None:
    netlink = pair.inside("here", NetlinkSocket)
    there = pair.link_local("there", "mesh0")
    assert pair.run("here", "ping", "-c", "1", f"{there}%mesh0").returncode == 0
    (learned,) = pair.ip_json("here", "-6", "neigh", "show", there, "dev", "mesh0")
    pair.ip("here", "-6", "neigh", "change", there, "dev", "mesh0", "lladdr", learned["lladdr"], "nud", "stale")
    NeighbourTable(netlink).pin(number(pair, "here"), there)
    (pinned,) = pair.ip_json("here", "-6", "neigh", "show", there, "dev", "mesh0")
    assert (pinned["state"], pinned["lladdr"]) == (["REACHABLE"], learned["lladdr"])


def test_pinning_leaves_alone_what_is_unresolved_or_configured(pair: Namespaces) -> None:
    table = NeighbourTable(pair.inside("here", NetlinkSocket))
    table.pin(number(pair, "here"), "fe80::dead")
    assert pair.ip_json("here", "-6", "neigh", "show", "fe80::dead", "dev", "mesh0") == []
    pair.ip(
        "here", "-6", "neigh", "add", "fe80::beef", "dev", "mesh0", "lladdr", "02:00:00:00:00:01", "nud", "permanent"
    )
    table.pin(number(pair, "here"), "fe80::beef")
    (kept,) = pair.ip_json("here", "-6", "neigh", "show", "fe80::beef", "dev", "mesh0")
    assert kept["state"] == ["PERMANENT"]


def test_the_kernel_is_prepared_for_forwarding_and_only_where_the_mesh_is(pair: Namespaces) -> None:
    pair.sysctl("here", "net/ipv4/conf/all/rp_filter", "1")
    netlink = pair.inside("here", NetlinkSocket)
    addresses = [ip_address(text).packed for text in ("10.5.0.1", "fd05::1")]
    forwarded_without_a_link: list[bool] = []

    def prepare() -> None:
        kernel = KernelSettings(netlink)
        kernel.prepare_node(addresses, 4711)
        forwarded_without_a_link.append(kernel.forwards_ipv6())
        for link in rtnetlink.links(netlink):
            if link.name == "mesh0":
                kernel.prepare_link(link)
        kernel.prepare_node(addresses, 4711)

    pair.ip("here", "link", "set", "lo", "down")
    pair.inside("here", prepare)
    assert forwarded_without_a_link == [False]
    settings = {
        "net/ipv4/nexthop_compat_mode": "0",
        "net/ipv4/fib_multipath_hash_policy": "1",
        "net/ipv6/fib_multipath_hash_policy": "1",
        "net/ipv6/conf/all/forwarding": "1",
        "net/ipv4/conf/mesh0/forwarding": "1",
        "net/ipv4/conf/mesh0/rp_filter": "2",
        "net/ipv6/conf/mesh0/accept_dad": "0",
        "net/ipv4/conf/other0/forwarding": "0",
        "net/ipv4/ip_forward": "0",
    }
    assert {key: pair.sysctl("here", key) for key in settings} == settings
    held = [info for entry in pair.ip_json("here", "addr", "show", "dev", "lo") for info in entry["addr_info"]]
    assert {(info["local"], info["prefixlen"]) for info in held} >= {("10.5.0.1", 32), ("fd05::1", 128)}


def test_an_interface_told_to_make_no_link_local_address_makes_one(pair: Namespaces) -> None:
    netlink = pair.inside("here", NetlinkSocket)
    settle(pair, "mesh0")
    pair.ip("here", "link", "set", "mesh0", "addrgenmode", "none")
    pair.ip("here", "addr", "flush", "dev", "mesh0", "scope", "link")
    (link,) = [link for link in rtnetlink.links(netlink) if link.name == "mesh0"]
    assert pair.inside("here", lambda: KernelSettings(netlink).prepare_link(link)) is None
    assert pair.link_local("here", "mesh0").startswith("fe80:")


def test_a_link_that_cannot_be_prepared_is_not_up_says_why_and_is_tried_again(pair: Namespaces) -> None:
    problems = iter(["net/ipv4/conf/mesh0/forwarding: cannot be written", None])

    def make() -> Links:
        return Links(NetlinkSocket(), [LinkRule("mesh*", 7)], lambda _: next(problems))

    links = pair.inside("here", make)
    settle(pair, "mesh0")
    link = number(pair, "here")
    assert links.read().events == ()
    assert links.table[link].state == "net/ipv4/conf/mesh0/forwarding: cannot be written"
    assert links.read().events == (up(pair, link, "mesh0", 7),)


def test_an_address_that_another_interface_has_is_not_added_again(pair: Namespaces) -> None:
    pair.ip("here", "addr", "add", "10.5.0.1/24", "dev", "mesh0")
    netlink = pair.inside("here", NetlinkSocket)
    pair.inside("here", lambda: KernelSettings(netlink).prepare_node([ip_address("10.5.0.1").packed], 1))
    held = [
        info["local"]
        for entry in pair.ip_json("here", "-4", "addr", "show", "dev", "lo")
        for info in entry["addr_info"]
    ]
    assert "10.5.0.1" not in held


def test_all_devices_open_together_tell_how_things_stand_and_carry_datagrams(pair: Namespaces, tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    settings = DeviceSettings(PORT, (LinkRule("mesh*", 7),), 99)
    settle(pair, "mesh0")
    devices = pair.inside("here", lambda: KernelDevices(settings, store))
    try:
        link = number(pair, "here")
        assert list(devices.start()) == [FibSuspect(), NetworksRead(()), up(pair, link, "mesh0", 7)]
        there = joined(pair, "there")
        devices.send(SendDatagram(link, None, b"hello"))
        assert next_of(there) == [Datagram(number(pair, "there"), pair.link_local("here", "mesh0"), b"hello")]
        while devices.link_changes():
            pass
        pair.ip("there", "link", "set", "mesh0", "down")
        (source, *_) = devices.sources()
        found: list[object] = []
        while LinkDown(link) not in found:
            assert readable(source.fileno())
            found += source.receive()[0]
        assert found[-1] == FibSuspect()
    finally:
        devices.close()
        store.close()


def test_own_addresses_come_and_go_and_foreign_ones_stay(pair: Namespaces, tmp_path: Path) -> None:
    def on_lo() -> set[str]:
        found = pair.ip_json("here", "addr", "show", "dev", "lo")
        return {each["local"] for entry in found for each in entry["addr_info"] if each["scope"] == "global"}

    pair.ip("here", "addr", "add", "10.9.9.9/32", "dev", "lo")
    store = Store(tmp_path / "state")
    devices = pair.inside("here", lambda: KernelDevices(DeviceSettings(PORT, (LinkRule("mesh*", 7),), 99), store))
    try:
        devices.set_addresses(SetAddresses((Prefix.parse("10.5.0.1"), Prefix.parse("fd05::1"))))
        assert on_lo() == {"10.9.9.9", "10.5.0.1", "fd05::1"}
        devices.set_addresses(SetAddresses((Prefix.parse("10.5.0.2"), Prefix.parse("fd05::1"))))
        assert on_lo() == {"10.9.9.9", "10.5.0.2", "fd05::1"}
        devices.set_addresses(SetAddresses(()))
        assert on_lo() == {"10.9.9.9"}
    finally:
        devices.close()
        store.close()


def test_the_machines_own_networks_are_told_and_told_again_when_they_change(pair: Namespaces, tmp_path: Path) -> None:
    pair.ip("here", "addr", "add", "192.168.7.20/24", "dev", "other0")
    store = Store(tmp_path / "state")
    devices = pair.inside("here", lambda: KernelDevices(DeviceSettings(PORT, (LinkRule("mesh*", 7),), 99), store))
    try:
        devices.set_addresses(SetAddresses((Prefix.parse("10.5.0.1"),)))
        assert NetworksRead((Prefix.parse("192.168.7.0/24"),)) in devices.start()
        while devices.link_changes():
            pass
        pair.ip("here", "addr", "add", "172.16.5.1/30", "dev", "other0")
        (source, *_) = devices.sources()
        assert readable(source.fileno())
        told = NetworksRead((Prefix.parse("172.16.5.0/30"), Prefix.parse("192.168.7.0/24")))
        assert told in source.receive()[0]
    finally:
        devices.close()
        store.close()


def test_missing_capabilities_are_named_before_anything_is_touched(pair: Namespaces) -> None:
    code = (
        "import sys; from dmssd.driver.devices import *\n"
        "from sansio.errors import ConfigError\n"
        "try: KernelDevices(DeviceSettings(4747, (), 1), None)\n"
        "except ConfigError as problem: sys.exit(str(problem))"
    )
    command = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", "--", sys.executable, "-c", code)
    done = pair.run("here", *command)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "privilege: CAP_NET_RAW is missing: run as root, or from the systemd unit, which grants them"
    )


def announced(links: Links, events_min: int) -> tuple[list[LinkUp | LinkDown], bool]:
    """What is announced until at least ``events_min`` events have come, within ten seconds."""
    found: list[LinkUp | LinkDown] = []
    suspect = False
    deadline = time.monotonic() + 10
    while len(found) < events_min and time.monotonic() < deadline:
        if readable(links.fileno(), 1) and (read := links.receive()) is not None:
            found += read.events
            suspect = suspect or read.fib_suspect
    return found, suspect


def settle(spaces: Namespaces, *names: str) -> None:
    """Until both ends of fresh cables have carrier and an address; the kernel takes a moment."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        shown = {entry["ifname"]: entry for entry in spaces.ip_json("here", "-6", "addr", "show", "scope", "link")}
        if all(name in shown and shown[name]["operstate"] == "UP" for name in names):
            return
    raise AssertionError(f"{names} never came up")
