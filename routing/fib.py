"""The forwarding table as values: what is installed, what is wanted, and the batch between the two.

Routes never name gateways; they name a nexthop *group*, one per distinct set of gateways, so that repairing ten
thousand routes is one group replaced. A nexthop (link-local IPv6 gateway on an interface) serves IPv4 and IPv6 alike.
Everything carries protocol 201 and is ours; nothing else is ever touched.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from routing.lsa import LinkNumber, Prefix

FIB_PROTOCOL = 201


@dataclass(frozen=True, slots=True, order=True)
class Gateway:
    """A neighbour's link-local address on one of our interfaces: 16 bytes, network order."""

    link: LinkNumber
    address: bytes


Members = tuple[tuple[Gateway, int], ...]
"""A group as wanted: (gateway, weight 1..256), sorted, no gateway twice, never empty."""

Wanted = Mapping[Prefix, Members]


@dataclass(frozen=True, slots=True)
class Installed:
    """What the kernel holds of ours."""

    nexthops: Mapping[int, Gateway] = field(default_factory=dict)
    groups: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)  # id -> ((nexthop id, weight), ...)
    routes: Mapping[Prefix, int] = field(default_factory=dict)  # prefix -> group id


@dataclass(frozen=True, slots=True)
class SetNexthop:
    """Add or replace a nexthop object."""

    id: int
    gateway: Gateway


@dataclass(frozen=True, slots=True)
class SetGroup:
    """Add or replace a group; every member must exist."""

    id: int
    members: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SetRoute:
    """Add or replace the route of a prefix."""

    prefix: Prefix
    group: int


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    """Remove our route of a prefix."""

    prefix: Prefix


@dataclass(frozen=True, slots=True)
class DeleteNexthop:
    """Remove a nexthop or a group (the kernel keeps both in one number space)."""

    id: int


FibOperation = SetNexthop | SetGroup | SetRoute | DeleteRoute | DeleteNexthop
