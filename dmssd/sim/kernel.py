"""The simulated kernel of one machine: interfaces, nexthop objects, groups, routes, and forwarding by them.

It stands in for the kernel behind ``driver/fib.py``, so it also keeps that file's two rules: deleting what is gone
already is no failure, and once something could not be set no nexthop or group is deleted (ECANCELED). It obeys the
rules that the real one was seen to obey (Linux 6.x, ``net/ipv4/nexthop.c``; FACTS.md), and one conformance test
(tests/netns/test_kernel_conformance.py) holds the two side by side:

- a nexthop needs an existing interface (EINVAL) with carrier (ENETDOWN);
- a group is set as a whole or not at all; each member must exist, be no group, and occur once (EINVAL);
- nexthops and groups share one number space, and neither can replace the other (EINVAL);
- a route needs its group (EINVAL); a deleted nexthop leaves its groups, a deleted group takes its routes along;
- when an interface loses its carrier, its nexthops go, groups shrink, an emptied group goes and takes its routes along,
  and nothing comes back by itself;
- all of it outlives the daemon and dies with the machine.
"""

import errno
import hashlib
from dataclasses import dataclass

from routing.fib import (
    DeleteNexthop,
    DeleteRoute,
    FibOperation,
    Gateway,
    Installed,
    SetGroup,
    SetNexthop,
    SetRoute,
)
from routing.lsa import LinkNumber, Prefix

WEIGHT_MAX = 256


@dataclass(slots=True)
class Interface:
    """``address``: the link-local address as text, and packed."""

    name: str
    address: str
    packed: bytes
    metric: int
    carrier: bool = True


class Kernel:
    """One machine's network stack. ``changes`` counts every change of what it forwards by."""

    def __init__(self, seed: bytes, interfaces: dict[LinkNumber, Interface], local: tuple[Prefix, ...]) -> None:
        self._seed = seed
        self._local = frozenset(local)
        self._nexthops: dict[int, Gateway] = {}
        self._groups: dict[int, tuple[tuple[int, int], ...]] = {}
        self._routes: dict[Prefix, int] = {}
        self.interfaces = interfaces
        self.changes = 0

    def installed(self) -> Installed:
        """What the daemon reads back; members of groups in order, as ``driver/rtnetlink.py`` reads them."""
        groups = {number: tuple(sorted(members)) for number, members in self._groups.items()}
        return Installed(dict(self._nexthops), groups, dict(self._routes))

    def programmed(self) -> dict[Prefix, frozenset[Gateway]]:
        """The gateways of every route there is."""
        routes = ((prefix, self._members(group)) for prefix, group in self._routes.items())
        return {prefix: frozenset(gateway for gateway, _ in members) for prefix, members in routes}

    def forget(self) -> None:
        """The machine lost power."""
        self.changes += 1
        self._nexthops.clear()
        self._groups.clear()
        self._routes.clear()

    def set_carrier(self, link: LinkNumber, carrier: bool) -> None:
        """Carrier came or went at an interface."""
        self.interfaces[link].carrier = carrier
        if not carrier:
            for number in [number for number, gateway in self._nexthops.items() if gateway.link == link]:
                self._remove_nexthop(number)

    # Writing

    def perform(self, operations: tuple[FibOperation, ...]) -> tuple[tuple[int, int], ...]:
        """Perform a batch in order; (position, errno) of each operation refused."""
        self.changes += 1
        failures: list[tuple[int, int]] = []
        for position, operation in enumerate(operations):
            doubtful = failures and isinstance(operation, DeleteNexthop)
            error = errno.ECANCELED if doubtful else self._perform(operation)
            if error:
                failures.append((position, error))
        return tuple(failures)

    def _perform(self, operation: FibOperation) -> int:
        match operation:
            case SetNexthop(number, gateway):
                return self._set_nexthop(number, gateway)
            case SetGroup(number, members):
                return self._set_group(number, members)
            case SetRoute(prefix, group):
                if group not in self._groups and group not in self._nexthops:
                    return errno.EINVAL
                self._routes[prefix] = group
            case DeleteRoute(prefix):
                self._routes.pop(prefix, None)
            case DeleteNexthop(number):
                if number in self._nexthops:
                    self._remove_nexthop(number)
                elif number in self._groups:
                    self._remove_group(number)
        return 0

    def _set_nexthop(self, number: int, gateway: Gateway) -> int:
        interface = self.interfaces.get(gateway.link)
        if interface is None:
            return errno.EINVAL
        if not interface.carrier:
            return errno.ENETDOWN
        if number in self._groups:
            return errno.EINVAL
        self._nexthops[number] = gateway
        return 0

    def _set_group(self, number: int, members: tuple[tuple[int, int], ...]) -> int:
        ids = [member for member, _ in members]
        weights_fit = all(1 <= weight <= WEIGHT_MAX for _, weight in members)
        known = all(member in self._nexthops for member in ids)
        if not ids or len(set(ids)) != len(ids) or not weights_fit or not known or number in self._nexthops:
            return errno.EINVAL
        self._groups[number] = members
        return 0

    def _remove_nexthop(self, number: int) -> None:
        self.changes += 1
        del self._nexthops[number]
        self._remove_routes(number)
        for group, members in list(self._groups.items()):
            left = tuple(member for member in members if member[0] != number)
            if not left:
                self._remove_group(group)
            elif len(left) < len(members):
                self._groups[group] = left

    def _remove_group(self, number: int) -> None:
        del self._groups[number]
        self._remove_routes(number)

    def _remove_routes(self, number: int) -> None:
        for prefix in [prefix for prefix, group in self._routes.items() if group == number]:
            del self._routes[prefix]

    # Forwarding

    def is_local(self, prefix: Prefix) -> bool:
        """Whether packets to this host prefix end here."""
        return prefix in self._local

    def gateways(self, prefix: Prefix) -> tuple[tuple[Gateway, int], ...]:
        """All (gateway, weight) that packets to ``prefix`` (an address of full length) may take; () without a route."""
        group = self._routes.get(prefix)
        if group is None:
            group = self._longest_match(prefix)
        return self._members(group) if group is not None else ()

    def _members(self, group: int) -> tuple[tuple[Gateway, int], ...]:
        if group in self._nexthops:
            return ((self._nexthops[group], 1),)
        return tuple((self._nexthops[member], weight) for member, weight in self._groups[group])

    def choose(self, prefix: Prefix, flow: int) -> Gateway | None:
        """The gateway that one flow takes: by a hash of the flow and this machine's own seed, as weights say."""
        choices = self.gateways(prefix)
        if len(choices) < 2:
            return choices[0][0] if choices else None
        key = self._seed + flow.to_bytes(8, "big")
        point = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") % sum(
            weight for _, weight in choices
        )
        for gateway, weight in choices:
            point -= weight
            if point < 0:
                return gateway
        raise AssertionError("a point below the sum of the weights lies in one of them")

    def _longest_match(self, address: Prefix) -> int | None:
        best: tuple[int, int] | None = None
        for prefix, group in self._routes.items():
            if len(prefix.network) == len(address.network) and (best is None or prefix.length > best[0]):
                shift = len(address.network) * 8 - prefix.length
                wanted = int.from_bytes(prefix.network, "big") >> shift
                if int.from_bytes(address.network, "big") >> shift == wanted:
                    best = (prefix.length, group)
        return best[1] if best else None
