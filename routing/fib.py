"""The forwarding table as values: what is installed, what is wanted, and the batch between the two.

Routes never name gateways; they name a nexthop *group*, one per distinct set of gateways, so that repairing ten
thousand routes is one group replaced. A nexthop (link-local IPv6 gateway on an interface) serves IPv4 and IPv6 alike.
Everything carries protocol 201 and is ours; nothing else is ever touched.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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

GroupMembers = tuple[tuple[int, int], ...]
"""A group as the kernel has it: (nexthop id, weight 1..256), sorted by id."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What the kernel holds of ours."""

    nexthops: Mapping[int, Gateway] = field(default_factory=dict)
    groups: Mapping[int, GroupMembers] = field(default_factory=dict)  # id -> ((nexthop id, weight), ...)
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
    members: GroupMembers


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
    # Each wanted set of members gets a number, so that it is hashed once for each prefix and not five times.
    numbers: dict[Members, int] = {}
    chosen = {prefix: numbers.setdefault(members, len(numbers)) for prefix, members in wanted.items()}
    nexthops, operations = _nexthops(installed, numbers, ids)
    resolved = [tuple(sorted((nexthops[gateway], weight) for gateway, weight in members)) for members in numbers]
    groups, group_operations = _groups(installed, chosen, resolved, ids)
    operations += group_operations
    for prefix, number in chosen.items():
        if installed.routes.get(prefix) != groups[number]:
            operations.append(SetRoute(prefix, groups[number]))
    operations += [DeleteRoute(prefix) for prefix in installed.routes if prefix not in wanted]
    kept = set(groups.values())
    operations += [DeleteNexthop(group) for group in sorted(installed.groups) if group not in kept]
    used = {nexthop for members in resolved for nexthop, _ in members}
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


def _delete(gone: int, nexthops: dict[int, Gateway], groups: dict[int, GroupMembers]) -> None:
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
    installed: Installed, wanted: Iterable[Members], ids: Iterator[int]
) -> tuple[dict[Gateway, int], list[FibOperation]]:
    known: dict[Gateway, int] = {}
    for nexthop, gateway in sorted(installed.nexthops.items()):
        known.setdefault(gateway, nexthop)
    operations: list[FibOperation] = []
    for members in wanted:
        for gateway, _ in members:
            if gateway not in known:
                known[gateway] = next(ids)
                operations.append(SetNexthop(known[gateway], gateway))
    return known, operations


def _groups(
    installed: Installed, chosen: Mapping[Prefix, int], resolved: Sequence[GroupMembers], ids: Iterator[int]
) -> tuple[dict[int, int], list[FibOperation]]:
    """The group of each number in ``resolved``, and the operations that make it so."""
    heirs, groups = _heirs(installed, chosen, resolved)
    operations: list[FibOperation] = [
        SetGroup(group, resolved[number])
        for group, number in heirs.items()
        if tuple(sorted(installed.groups[group])) != resolved[number]
    ]
    for number, members in enumerate(resolved):
        if number not in groups:
            groups[number] = next(ids)
            operations.append(SetGroup(groups[number], members))
    return groups, operations


def _heirs(
    installed: Installed, chosen: Mapping[Prefix, int], resolved: Sequence[GroupMembers]
) -> tuple[dict[int, int], dict[int, int]]:
    """For each installed group the number to give it, most routes first, and for each number the group that keeps it.

    A group may be given what another keeps: it forwards rightly until its routes have moved there.
    """
    held = installed.routes
    common = Counter((held[prefix], number) for prefix, number in chosen.items() if prefix in held)

    def preference(pair: tuple[tuple[int, int], int]) -> tuple[int, bool]:
        (group, number), routes = pair
        return routes, installed.groups.get(group) == resolved[number]

    heirs: dict[int, int] = {}
    groups: dict[int, int] = {}
    # Most routes first, so that the fewest routes move; among equals, a group that already is what is wanted.
    for (group, number), routes in sorted(common.items(), key=preference, reverse=True):
        if group in installed.groups and group not in heirs and (number not in groups or routes > 1):
            heirs[group] = number
            groups.setdefault(number, group)
    # A group that no wanted route is in yet may still hold the right members: rather that than a new one.
    idle = {tuple(sorted(members)): group for group, members in installed.groups.items() if group not in heirs}
    for number, members in enumerate(resolved):
        if number not in groups and members in idle:
            groups[number] = idle[members]
    return heirs, groups
