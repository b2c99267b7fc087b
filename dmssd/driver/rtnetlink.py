"""The rtnetlink messages that the driver speaks: fixed layouts of include/uapi/linux/rtnetlink.h and its like.

ifinfomsg | u8 family, pad, u16 type, i32 index, u32 flags, u32 change
ifaddrmsg | u8 family, u8 prefix length, u8 flags, u8 scope, u32 index
rtmsg     | u8 family, dst length, src length, tos, table, protocol, scope, type, u32 flags
nhmsg     | u8 family, scope, protocol, reserved, u32 flags
ndmsg     | u8 family, pad, u16 pad, i32 index, u16 state, u8 flags, u8 type
"""

import socket
import struct
from dataclasses import dataclass

from dmssd.driver.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    NetlinkSocket,
    attribute,
    attribute_u32,
    attributes,
)
from routing.fib import FIB_PROTOCOL, Gateway
from routing.lsa import LinkNumber, Prefix

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106

RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV6_IFADDR = 0x100

IFF_UP, IFF_RUNNING, IFF_LOWER_UP = 0x1, 0x40, 0x10000

FIB_METRIC = 201
"""The metric of our routes, so that a foreign route of the same prefix is another route and is never replaced."""

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEXTHOP = struct.Struct("=BBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_GROUP_MEMBER = struct.Struct("=IBBH")
_MULTIPATH_HOP = struct.Struct("=HBBi")

_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_PROTO = 1, 2, 8, 11
_IFA_F_NODAD, _IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x02, 0x08, 0x40
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH, _RTA_NH_ID = 1, 4, 6, 7, 9, 30
_NHA_ID, _NHA_GROUP, _NHA_OIF, _NHA_GATEWAY = 1, 2, 5, 6
_NDA_DST, _NDA_LLADDR = 1, 2
_RT_TABLE_MAIN, _RTN_UNICAST = 254, 1
_SCOPE_LINK, _SCOPE_NOWHERE = 253, 255
_NUD_REACHABLE, _NUD_PERMANENT, _NUD_NOARP = 0x02, 0x80, 0x40


@dataclass(frozen=True, slots=True)
class Link:
    """An interface of the kernel."""

    number: LinkNumber
    name: str
    flags: int
    mtu: int = 0

    @property
    def has_carrier(self) -> bool:
        """Whether it is switched on and the kernel would send on it."""
        needed = IFF_UP | IFF_RUNNING | IFF_LOWER_UP
        return self.flags & needed == needed


@dataclass(frozen=True, slots=True)
class Address:
    """An address of an interface; ``usable`` unless duplicate detection is running or has failed."""

    link: LinkNumber
    packed: bytes
    usable: bool
    length: int
    protocol: int  # who made it, 0 where nobody said (or before Linux 5.18)

    @property
    def is_link_local(self) -> bool:
        """Whether it is of fe80::/10."""
        return len(self.packed) == 16 and self.packed[0] == 0xFE and self.packed[1] & 0xC0 == 0x80


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of the kernel's neighbour table."""

    lladdr: bytes | None
    state: int

    @property
    def is_fixed(self) -> bool:
        """Whether somebody configured it, so that it neither decays nor is ours to change."""
        return bool(self.state & (_NUD_PERMANENT | _NUD_NOARP))


# Links and addresses


def parse_link(body: bytes) -> Link:
    """From an ifinfomsg."""
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    values = attributes(body, _IFINFO.size)
    name = values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    mtu = struct.unpack("=I", values[_IFLA_MTU])[0] if _IFLA_MTU in values else 0
    return Link(LinkNumber(index), name, flags, mtu)


def links(netlink: NetlinkSocket) -> list[Link]:
    """Every interface."""
    return [parse_link(body) for body in netlink.dump(Message(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)))]


def link_switched_on(link: LinkNumber) -> Message:
    """``ip link set LINK up``."""
    return Message(RTM_NEWLINK, _IFINFO.pack(0, 0, link, IFF_UP, IFF_UP))


def addresses(netlink: NetlinkSocket, family: int) -> list[Address]:
    """Every address of a family (``socket.AF_INET`` or ``AF_INET6``)."""
    found: list[Address] = []
    for body in netlink.dump(Message(RTM_GETADDR, _IFADDR.pack(family, 0, 0, 0, 0))):
        _, length, low_flags, _, index = _IFADDR.unpack_from(body)
        values = attributes(body, _IFADDR.size)
        packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        flags = struct.unpack("=I", values[_IFA_FLAGS])[0] if _IFA_FLAGS in values else low_flags
        if packed:
            usable = not flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED)
            protocol = values.get(_IFA_PROTO, b"\0")[0]
            found.append(Address(LinkNumber(index), packed, usable, length, protocol))
    return found


def address_added(link: LinkNumber, packed: bytes) -> Message:
    """A host address (/32 or /128) on an interface, without duplicate detection, marked as ours."""
    header = _IFADDR.pack(_family(packed), 8 * len(packed), _IFA_F_NODAD if len(packed) == 16 else 0, 0, link)
    body = header + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    body += attribute(_IFA_PROTO, bytes((FIB_PROTOCOL,)))
    return Message(RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_EXCL)


def address_deleted(link: LinkNumber, packed: bytes, length: int | None = None) -> Message:
    """Take an address off an interface; without ``length`` a host address (/32 or /128)."""
    header = _IFADDR.pack(_family(packed), 8 * len(packed) if length is None else length, 0, 0, link)
    return Message(RTM_DELADDR, header + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed))


# Neighbours


def neighbour(netlink: NetlinkSocket, link: LinkNumber, packed: bytes) -> Neighbour | None:
    """The entry of one IPv6 address on one interface."""
    header = _NEIGHBOUR.pack(socket.AF_INET6, link, 0, 0, 0)
    body = netlink.get(Message(RTM_GETNEIGH, header + attribute(_NDA_DST, packed)))
    if body is None:
        return None
    _, _, state, _, _ = _NEIGHBOUR.unpack_from(body)
    return Neighbour(attributes(body, _NEIGHBOUR.size).get(_NDA_LLADDR), state)


def neighbour_reachable(link: LinkNumber, packed: bytes, lladdr: bytes) -> Message:
    """Confirm an entry as if the neighbour had just answered a solicitation."""
    header = _NEIGHBOUR.pack(socket.AF_INET6, link, _NUD_REACHABLE, 0, 0)
    body = header + attribute(_NDA_DST, packed) + attribute(_NDA_LLADDR, lladdr)
    return Message(RTM_NEWNEIGH, body, NLM_F_CREATE | NLM_F_REPLACE)


# Nexthops, groups, routes


def nexthop_set(number: int, gateway: Gateway, flags: int) -> Message:
    """A nexthop object: an IPv6 gateway on an interface, which serves IPv4 routes too."""
    body = (
        _NEXTHOP.pack(socket.AF_INET6, 0, FIB_PROTOCOL, 0, 0)
        + attribute_u32(_NHA_ID, number)
        + attribute_u32(_NHA_OIF, gateway.link)
        + attribute(_NHA_GATEWAY, gateway.address)
    )
    return Message(RTM_NEWNEXTHOP, body, flags)


def group_set(number: int, members: tuple[tuple[int, int], ...], flags: int) -> Message:
    """A group of nexthops: (id, weight 1..256)."""
    packed = b"".join(_GROUP_MEMBER.pack(member, weight - 1, 0, 0) for member, weight in members)
    body = (
        _NEXTHOP.pack(socket.AF_UNSPEC, 0, FIB_PROTOCOL, 0, 0)
        + attribute_u32(_NHA_ID, number)
        + attribute(_NHA_GROUP, packed)
    )
    return Message(RTM_NEWNEXTHOP, body, flags)


def nexthop_deleted(number: int) -> Message:
    """Away with a nexthop or group."""
    return Message(RTM_DELNEXTHOP, _NEXTHOP.pack(0, 0, 0, 0, 0) + attribute_u32(_NHA_ID, number))


def nexthops(netlink: NetlinkSocket) -> tuple[dict[int, Gateway], dict[int, tuple[tuple[int, int], ...]]]:
    """Our nexthops and our groups."""
    gateways: dict[int, Gateway] = {}
    groups: dict[int, tuple[tuple[int, int], ...]] = {}
    for body in netlink.dump(Message(RTM_GETNEXTHOP, _NEXTHOP.pack(0, 0, 0, 0, 0))):
        if _NEXTHOP.unpack_from(body)[2] != FIB_PROTOCOL:
            continue
        values = attributes(body, _NEXTHOP.size)
        number = struct.unpack("=I", values[_NHA_ID])[0]
        if _NHA_GROUP in values:
            members = _GROUP_MEMBER.iter_unpack(values[_NHA_GROUP])
            groups[number] = tuple(sorted((member, weight + 1) for member, weight, _, _ in members))
        elif _NHA_GATEWAY in values and _NHA_OIF in values:
            link = LinkNumber(struct.unpack("=I", values[_NHA_OIF])[0])
            gateways[number] = Gateway(link, values[_NHA_GATEWAY])
    return gateways, groups


# A route is by far the most frequent message: one packing each. Header; RTA_DST; RTA_PRIORITY; RTA_NH_ID; RTA_PREFSRC.
_ROUTE_BY_GROUP = {
    4: struct.Struct("=BBBBBBBBI HH4s HHI HHI"),
    16: struct.Struct("=BBBBBBBBI HH16s HHI HHI"),
}


def route_set(prefix: Prefix, group: int, source: bytes | None, flags: int) -> Message:
    """A route in the main table by way of a group; ``source`` is the address that packets of our own start from."""
    network = prefix.network
    size = len(network)
    body = _ROUTE_BY_GROUP[size].pack(
        *(socket.AF_INET if size == 4 else socket.AF_INET6, prefix.length, 0, 0),
        *(_RT_TABLE_MAIN, FIB_PROTOCOL, 0, _RTN_UNICAST, 0),
        *(4 + size, _RTA_DST, network),
        *(8, _RTA_PRIORITY, FIB_METRIC),
        *(8, _RTA_NH_ID, group),
    )
    if source is not None:
        body += attribute(_RTA_PREFSRC, source)
    return Message(RTM_NEWROUTE, body, flags)


def route_deleted(prefix: Prefix) -> Message:
    """Away with our route of a prefix."""
    header = _ROUTE.pack(
        *(_family(prefix.network), prefix.length, 0, 0),
        *(_RT_TABLE_MAIN, FIB_PROTOCOL, _SCOPE_NOWHERE, _RTN_UNICAST, 0),
    )
    body = header + attribute(_RTA_DST, prefix.network) + attribute_u32(_RTA_PRIORITY, FIB_METRIC)
    return Message(RTM_DELROUTE, body)


def routes(netlink: NetlinkSocket) -> dict[Prefix, int]:
    """Our routes in the main table: prefix to group, 0 where a route goes by no group."""
    found: dict[Prefix, int] = {}
    for family, bytes_ in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        header = _ROUTE.pack(family, 0, 0, 0, _RT_TABLE_MAIN, FIB_PROTOCOL, 0, _RTN_UNICAST, 0)
        for body in netlink.dump(Message(RTM_GETROUTE, header)):
            _, length, _, _, table, protocol, _, _, _ = _ROUTE.unpack_from(body)
            if protocol != FIB_PROTOCOL or table != _RT_TABLE_MAIN:
                continue
            values = attributes(body, _ROUTE.size)
            group = values.get(_RTA_NH_ID)
            prefix = Prefix(values.get(_RTA_DST, bytes(bytes_)), length)
            found[prefix] = struct.unpack("=I", group)[0] if group else 0
    return found


def foreign_routes(netlink: NetlinkSocket) -> list[tuple[Prefix, str]]:
    """The unicast routes of others in the main table, as (prefix, interface): several where one has several."""
    names = {link.number: link.name for link in links(netlink)}
    found: list[tuple[Prefix, str]] = []
    for family, bytes_ in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        for body in netlink.dump(Message(RTM_GETROUTE, _ROUTE.pack(family, 0, 0, 0, _RT_TABLE_MAIN, 0, 0, 0, 0))):
            _, length, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
            if protocol == FIB_PROTOCOL or table != _RT_TABLE_MAIN or kind != _RTN_UNICAST:
                continue
            values = attributes(body, _ROUTE.size)
            prefix = Prefix(values.get(_RTA_DST, bytes(bytes_)), length)
            found += [(prefix, names[number]) for number in _route_links(values) if number in names]
    return found


def _route_links(values: dict[int, bytes]) -> list[LinkNumber]:
    if _RTA_OIF in values:
        return [LinkNumber(struct.unpack("=I", values[_RTA_OIF])[0])]
    hops, numbers = values.get(_RTA_MULTIPATH, b""), []
    while len(hops) >= _MULTIPATH_HOP.size:
        length, _, _, number = _MULTIPATH_HOP.unpack_from(hops)
        numbers.append(LinkNumber(number))
        hops = hops[max(length + 3 & ~3, _MULTIPATH_HOP.size) :]
    return numbers


def _family(packed: bytes) -> int:
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6
