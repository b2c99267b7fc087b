"""The forwarding table as values: what is installed, what is wanted, and the batch between the two.

Routes never name gateways; they name a nexthop *group*, one per distinct set of gateways, so that repairing ten
thousand routes is one group replaced. A nexthop (link-local IPv6 gateway on an interface) serves IPv4 and IPv6 alike.
Everything carries protocol 201 and is ours; nothing else is ever touched.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

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


FIB_ID_FIRST = 201_000_000
"""Nexthop and group ids are given out upwards from here, so that they are told from other programs' at a glance."""


def diff(installed: Installed, wanted: Wanted) -> tuple[FibOperation, ...]:
    """The operations, in order, that turn ``installed`` into ``wanted``; none where they agree.

    The order keeps every packet forwarded: nexthops are made, groups are set (what heals most comes first and needs no
    route touched), routes are moved, unwanted routes go, and only then what nothing refers to any more. Each group
    keeps its id and takes the members that most of its routes want; where two groups come to want the same, the one
    with fewer routes takes those members as well, then hands its routes over and is deleted.
    """
    ids = _free_ids(installed)
    nexthops, operations = _nexthops(installed, wanted, ids)
    groups, group_operations = _groups(installed, wanted, nexthops, ids)
    operations += group_operations
    for prefix, members in wanted.items():
        if installed.routes.get(prefix) != groups[members]:
            operations.append(SetRoute(prefix, groups[members]))
    operations += [DeleteRoute(prefix) for prefix in installed.routes if prefix not in wanted]
    kept = set(groups.values())
    operations += [DeleteNexthop(group) for group in sorted(installed.groups) if group not in kept]
    used = {nexthops[gateway] for members in groups for gateway, _ in members}
    operations += [DeleteNexthop(nexthop) for nexthop in sorted(installed.nexthops) if nexthop not in used]
    return tuple(operations)


def without(installed: Installed, gateways: Collection[Gateway]) -> tuple[FibOperation, ...]:
    """The local repair: every group that has other members left loses ``gateways``, and nothing else is touched.

    A group that would be left empty stays as it is: its destinations have no other way that this table knows of, so
    whether their routes go or move is for the next ``wanted`` to say.
    """
    dead = {nexthop for nexthop, gateway in installed.nexthops.items() if gateway in gateways}
    operations: list[FibOperation] = []
    for group, members in sorted(installed.groups.items()):
        left = tuple(member for member in members if member[0] not in dead)
        if left and left != members:
            operations.append(SetGroup(group, left))
    return tuple(operations)


def applied(
    installed: Installed, operations: Sequence[FibOperation], failures: Collection[tuple[int, int]] = ()
) -> Installed:
    """What is installed after a batch of which ``failures`` (position, errno) were refused, as the kernel has it.

    As in the kernel, deleting a nexthop takes it out of its groups, and a group that is deleted or emptied takes its
    routes along.
    """
    refused = {position for position, _ in failures}
    nexthops, groups, routes = dict(installed.nexthops), dict(installed.groups), dict(installed.routes)
    for position, operation in enumerate(operations):
        if position in refused:
            continue
        match operation:
            case SetNexthop():
                nexthops[operation.id] = operation.gateway
            case SetGroup():
                groups[operation.id] = operation.members
            case SetRoute():
                routes[operation.prefix] = operation.group
            case DeleteRoute():
                routes.pop(operation.prefix, None)
            case DeleteNexthop():
                _delete(operation.id, nexthops, groups)
            case _:
                assert_never(operation)
    return Installed(nexthops, groups, {prefix: group for prefix, group in routes.items() if group in groups})


def _delete(gone: int, nexthops: dict[int, Gateway], groups: dict[int, tuple[tuple[int, int], ...]]) -> None:
    if nexthops.pop(gone, None) is None:
        groups.pop(gone, None)
        return
    for group, members in list(groups.items()):
        left = tuple(member for member in members if member[0] != gone)
        if left:
            groups[group] = left
        else:
            del groups[group]


def _free_ids(installed: Installed) -> Iterator[int]:
    # An id that this very batch sets free is not given out again: the batch would have to delete before it adds.
    return (
        candidate
        for candidate in itertools.count(FIB_ID_FIRST)
        if candidate not in installed.nexthops and candidate not in installed.groups
    )


def _nexthops(
    installed: Installed, wanted: Wanted, ids: Iterator[int]
) -> tuple[dict[Gateway, int], list[FibOperation]]:
    known: dict[Gateway, int] = {}
    for nexthop, gateway in sorted(installed.nexthops.items()):
        known.setdefault(gateway, nexthop)
    operations: list[FibOperation] = []
    for members in dict.fromkeys(wanted.values()):
        for gateway, _ in members:
            if gateway not in known:
                known[gateway] = next(ids)
                operations.append(SetNexthop(known[gateway], gateway))
    return known, operations


def _groups(
    installed: Installed, wanted: Wanted, nexthops: Mapping[Gateway, int], ids: Iterator[int]
) -> tuple[dict[Members, int], list[FibOperation]]:
    """The group id of each wanted set of members, and the operations that make it so."""
    resolved = {
        members: tuple(sorted((nexthops[gateway], weight) for gateway, weight in members))
        for members in dict.fromkeys(wanted.values())
    }
    heirs, assigned = _heirs(installed, wanted, resolved)
    operations: list[FibOperation] = [
        SetGroup(group, resolved[members])
        for group, members in heirs.items()
        if tuple(sorted(installed.groups[group])) != resolved[members]
    ]
    for members, group_members in resolved.items():
        if members not in assigned:
            assigned[members] = next(ids)
            operations.append(SetGroup(assigned[members], group_members))
    return assigned, operations


def _heirs(
    installed: Installed, wanted: Wanted, resolved: Mapping[Members, tuple[tuple[int, int], ...]]
) -> tuple[dict[int, Members], dict[Members, int]]:
    """For each installed group the members to give it (most routes first), and the group that keeps each members."""
    common: Counter[tuple[int, Members]] = Counter()
    for prefix, members in wanted.items():
        group = installed.routes.get(prefix, 0)
        if group in installed.groups:
            common[group, members] += 1

    def preference(pair: tuple[tuple[int, Members], int]) -> tuple[int, bool]:
        (group, members), routes = pair
        return routes, installed.groups[group] == resolved[members]

    heirs: dict[int, Members] = {}
    assigned: dict[Members, int] = {}
    # Most routes first, so that the fewest routes move; among equals, a group that already is what is wanted.
    for (group, members), routes in sorted(common.items(), key=preference, reverse=True):
        if group not in heirs and (members not in assigned or routes > 1):
            heirs[group] = members
            assigned.setdefault(members, group)
    # A group that no wanted route is in yet may still hold the right members: rather that than a new one.
    by_members = {tuple(sorted(held)): group for group, held in installed.groups.items() if group not in heirs}
    for members, group_members in resolved.items():
        if members not in assigned and group_members in by_members:
            assigned[members] = by_members[group_members]
    return heirs, assigned
