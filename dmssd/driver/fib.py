"""The kernel's forwarding table: performs :mod:`routing.fib` operations and reads back what is ours.

Nexthop objects, groups and routes of protocol 201 in the main table; routes carry metric 201. Only what this class
has read or written before is replaced; anything else is created exclusively, so that a nexthop or route that another
program made under the same key is refused with EEXIST, never overwritten. Routes start from the node's own address of
their family.
"""

import errno
from collections import Counter
from collections.abc import Sequence
from typing import assert_never

from dmssd.driver import rtnetlink
from dmssd.driver.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message, NetlinkSocket
from routing.fib import DeleteNexthop, DeleteRoute, FibOperation, Installed, SetGroup, SetNexthop, SetRoute
from routing.lsa import Prefix

_ABSENT = {DeleteRoute: (errno.ESRCH,), DeleteNexthop: (errno.ENOENT,)}
_REPLACE = NLM_F_CREATE | NLM_F_REPLACE
_CREATE = NLM_F_CREATE | NLM_F_EXCL


class KernelFib:
    """Our part of this network namespace's forwarding table.

    ``performed`` and ``refused`` count operations by bytes of the prefix's address, 0 for nexthops and groups;
    ``reads`` how often the table was read.
    """

    def __init__(self, netlink: NetlinkSocket, address4: bytes | None = None, address6: bytes | None = None) -> None:
        self._netlink = netlink
        self._sources = {4: address4, 16: address6}
        self._ids: set[int] = set()
        self.performed: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.reads = 0
        self._routes: dict[Prefix, int] = {}  # -> group

    def read(self) -> Installed:
        """What the kernel holds of ours."""
        self.reads += 1
        nexthops, groups = rtnetlink.nexthops(self._netlink)
        routes = rtnetlink.routes(self._netlink)
        self._ids = {*nexthops, *groups}
        self._routes = dict(routes)
        return Installed(nexthops, groups, routes)

    def set_sources(self, address4: bytes | None, address6: bytes | None) -> None:
        """Have routes start from these addresses, those that are there already too."""
        before, self._sources = self._sources, {4: address4, 16: address6}
        moved = {size for size, source in self._sources.items() if source != before[size]}
        again = [SetRoute(prefix, group) for prefix, group in self._routes.items() if len(prefix.network) in moved]
        self._netlink.write([self._message(route) for route in again])

    def perform(self, operations: Sequence[FibOperation]) -> tuple[tuple[int, int], ...]:
        """Perform a batch in order; (position, errno) of each operation refused.

        Deleting what is gone already is no failure. Once something could not be set, no nexthop or group is deleted:
        a route may still hang on it, and the kernel would take that along. Those deletions fail with ECANCELED.
        """
        failures = self._batch(operations)
        self.performed.update(map(_kind, operations))
        self.refused.update(_kind(operations[position]) for position, _ in failures)
        return failures

    def _batch(self, operations: Sequence[FibOperation]) -> tuple[tuple[int, int], ...]:
        failures: list[tuple[int, int]] = []
        ends = [position for position, operation in enumerate(operations) if isinstance(operation, DeleteNexthop)]
        sweep = ends[0] if ends else len(operations)
        failures += self._perform(operations, 0, sweep)
        if failures:
            return tuple(failures) + self._cautiously(operations, sweep)
        return tuple(self._perform(operations, sweep, len(operations)))

    def _cautiously(self, operations: Sequence[FibOperation], start: int) -> tuple[tuple[int, int], ...]:
        failures: list[tuple[int, int]] = []
        for position in range(start, len(operations)):
            if isinstance(operations[position], DeleteNexthop):
                failures.append((position, errno.ECANCELED))
            else:
                failures += self._perform(operations, position, position + 1)
        return tuple(failures)

    def _perform(self, operations: Sequence[FibOperation], start: int, end: int) -> list[tuple[int, int]]:
        sent = [position for position in range(start, end) if _is_sane(operations[position])]
        failures = [(position, errno.EINVAL) for position in range(start, end) if not _is_sane(operations[position])]
        results = self._netlink.write([self._message(operations[position]) for position in sent])
        for position, result in zip(sent, results, strict=True):
            operation = operations[position]
            if result and result not in _ABSENT.get(type(operation), ()):
                failures.append((position, result))
            else:
                self._remember(operation)
        return sorted(failures)

    def _message(self, operation: FibOperation) -> Message:
        match operation:
            case SetRoute(prefix, group):
                flags = _REPLACE if prefix in self._routes else _CREATE
                return rtnetlink.route_set(prefix, group, self._sources[len(prefix.network)], flags)
            case SetGroup(number, members):
                return rtnetlink.group_set(number, members, _REPLACE if number in self._ids else _CREATE)
            case SetNexthop(number, gateway):
                return rtnetlink.nexthop_set(number, gateway, _REPLACE if number in self._ids else _CREATE)
            case DeleteRoute(prefix):
                return rtnetlink.route_deleted(prefix)
            case DeleteNexthop(number):
                return rtnetlink.nexthop_deleted(number)
            case _:
                assert_never(operation)

    def _remember(self, operation: FibOperation) -> None:
        match operation:
            case SetRoute():
                self._routes[operation.prefix] = operation.group
            case SetGroup() | SetNexthop():
                self._ids.add(operation.id)
            case DeleteRoute():
                self._routes.pop(operation.prefix, None)
            case DeleteNexthop():
                self._ids.discard(operation.id)
            case _:
                assert_never(operation)


def _kind(operation: FibOperation) -> int:
    return len(operation.prefix.network) if isinstance(operation, SetRoute | DeleteRoute) else 0


def _is_sane(operation: FibOperation) -> bool:
    """Whether a prefix, which other nodes announce as they please, is one at all.

    The kernel would refuse host bits for IPv4 but cut them off for IPv6, and what is read back would never match.
    """
    if not isinstance(operation, SetRoute):
        return True
    network, length = operation.prefix.network, operation.prefix.length
    bits = 8 * len(network)
    return bits in (32, 128) and length <= bits and not int.from_bytes(network, "big") & ((1 << bits - length) - 1)
