"""The simulated kernel and the real one, side by side through the same operations: same refusals, same tables.

What simulated worlds prove about forwarding is worth as much as this test.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

import pytest

from dmssd.driver import rtnetlink
from dmssd.driver.fib import KernelFib
from dmssd.driver.kernel import KernelSettings
from dmssd.driver.netlink import NetlinkSocket
from dmssd.sim.kernel import Interface, Kernel
from routing.fib import DeleteNexthop, DeleteRoute, FibOperation, Gateway, SetGroup, SetNexthop, SetRoute
from routing.lsa import LinkNumber, Prefix
from tests.netns.kernel import Namespaces

pytestmark = pytest.mark.netns

HERE, PEER = "here", "peer"
LINKS = ("a0", "a1", "a2")
OWN = (Prefix.parse("10.5.0.1"), Prefix.parse("fd05::1"))
PREFIXES = tuple(Prefix.parse(text) for text in ("10.5.0.2", "10.5.0.3", "10.5.1.0/24", "fd05::2", "fd05::3"))
CARRIER_DEADLINE_S = 5.0


@dataclass
class Both:
    """The same machine twice."""

    spaces: Namespaces
    real: KernelFib
    netlink: NetlinkSocket
    simulated: Kernel
    links: tuple[LinkNumber, ...]

    def gateway(self, link: int, host: int) -> Gateway:
        return Gateway(self.links[link], IPv6Address(f"fe80::{host:x}").packed)

    def perform(self, *operations: FibOperation) -> tuple[tuple[int, int], ...]:
        """Have both perform a batch; they must refuse the same for the same reason and then hold the same."""
        real, simulated = self.real.perform(operations), self.simulated.perform(operations)
        assert simulated == real, operations
        assert self.simulated.installed() == self.real.read(), operations
        return real

    def carrier(self, link: int, on: bool) -> None:
        """Plug or unplug; the real kernel says when it has noticed."""
        self.simulated.set_carrier(self.links[link], on)
        self.spaces.ip(PEER, "link", "set", LINKS[link], "up" if on else "down")
        deadline = time.monotonic() + CARRIER_DEADLINE_S
        while self._has_carrier(link) != on or (not on and self._in_use(link)):
            assert time.monotonic() < deadline, "the kernel did not notice the carrier"
            time.sleep(0.005)
        assert self.simulated.installed() == self.real.read()

    def _has_carrier(self, link: int) -> bool:
        return next(found.has_carrier for found in rtnetlink.links(self.netlink) if found.number == self.links[link])

    def _in_use(self, link: int) -> bool:
        return any(gateway.link == self.links[link] for gateway in self.real.read().nexthops.values())


@pytest.fixture
def both() -> Iterator[Both]:
    with Namespaces(HERE, PEER) as spaces:
        for link in LINKS:
            spaces.veth((HERE, link), (PEER, link))
        netlink = spaces.inside(HERE, NetlinkSocket)
        four, six = (prefix.network for prefix in OWN)
        spaces.inside(HERE, lambda: KernelSettings(netlink).prepare_node([four, six], 1))
        numbers = tuple(LinkNumber(spaces.index(HERE, link)) for link in LINKS)
        interfaces = {number: Interface(name, "", b"", 1) for number, name in zip(numbers, LINKS, strict=True)}
        both = Both(spaces, KernelFib(netlink, four, six), netlink, Kernel(b"", interfaces, OWN), numbers)
        for link in range(len(LINKS)):
            both.carrier(link, True)
        yield both
        netlink.close()


def test_each_refusal_is_the_real_kernels(both: Both) -> None:
    two_ways = (
        SetNexthop(1, both.gateway(0, 1)),
        SetNexthop(2, both.gateway(1, 2)),
        SetGroup(10, ((1, 1), (2, 3))),
        *(SetRoute(prefix, 10) for prefix in PREFIXES),
    )
    assert both.perform(*two_ways) == ()
    refused: tuple[FibOperation, ...] = (
        SetNexthop(3, Gateway(LinkNumber(9999), both.gateway(0, 1).address)),
        SetNexthop(10, both.gateway(0, 1)),
        SetGroup(1, ((2, 1),)),
        SetGroup(11, ((1, 1), (99, 1))),
        SetGroup(10, ((1, 1), (99, 1))),
        SetGroup(11, ((1, 1), (1, 1))),
        SetGroup(11, ((10, 1),)),
        SetGroup(11, ()),
        SetRoute(PREFIXES[0], 99),
        SetRoute(PREFIXES[3], 99),
    )
    for operation in refused:
        assert both.perform(operation), operation
    both.perform(SetRoute(PREFIXES[0], 99), DeleteRoute(PREFIXES[1]), DeleteNexthop(1))


def test_deleting_takes_along_what_hangs_on_it(both: Both) -> None:
    both.perform(SetNexthop(1, both.gateway(0, 1)), SetNexthop(2, both.gateway(1, 2)), SetGroup(10, ((1, 1), (2, 1))))
    both.perform(SetGroup(11, ((1, 1),)), *(SetRoute(prefix, 10 + n % 2) for n, prefix in enumerate(PREFIXES)))
    both.perform(SetRoute(PREFIXES[0], 2))
    assert both.perform(DeleteNexthop(1)) == ()
    assert both.simulated.installed().groups == {10: ((2, 1),)}
    assert both.perform(DeleteNexthop(2), DeleteNexthop(2), DeleteRoute(PREFIXES[0])) == ()
    assert not both.simulated.installed().routes


def test_carrier_loss_shrinks_groups_and_takes_emptied_ones_along(both: Both) -> None:
    both.perform(SetNexthop(1, both.gateway(0, 1)), SetNexthop(2, both.gateway(1, 2)), SetGroup(10, ((1, 1), (2, 1))))
    both.perform(SetGroup(11, ((1, 1),)), *(SetRoute(prefix, 10 + n % 2) for n, prefix in enumerate(PREFIXES)))
    both.carrier(0, False)
    assert both.simulated.installed().groups == {10: ((2, 1),)}
    assert len(both.simulated.installed().routes) == 3
    assert both.perform(SetNexthop(1, both.gateway(0, 1)))  # no carrier, no nexthop
    both.carrier(1, False)
    assert not both.simulated.installed().routes
    both.carrier(0, True)
    both.carrier(1, True)
    assert not both.simulated.installed().nexthops


@pytest.mark.parametrize("seed", range(3))
def test_long_random_histories_agree(both: Both, seed: int) -> None:
    rng = random.Random(seed)
    carriers = [True] * len(LINKS)
    for _ in range(80):
        if rng.random() < 0.1:
            link = rng.randrange(len(LINKS))
            carriers[link] = not carriers[link]
            both.carrier(link, carriers[link])
        else:
            both.perform(*batch(rng, both))


def batch(rng: random.Random, both: Both) -> list[FibOperation]:
    """A batch such as ``fib.diff`` makes: nothing touched twice, nexthops and groups deleted last."""
    drawn = [draw(rng, both) for _ in range(rng.randint(1, 8))]
    touched = {op.prefix if isinstance(op, SetRoute | DeleteRoute) else op.id: op for op in drawn}
    return sorted(touched.values(), key=lambda operation: isinstance(operation, DeleteNexthop))


def draw(rng: random.Random, both: Both) -> FibOperation:
    """Any operation, sensible ones more often than not."""
    nexthop, group = rng.randint(1, 6), rng.randint(11, 14)
    kind = rng.random()
    if kind < 0.35:
        return SetNexthop(nexthop if rng.random() < 0.95 else group, both.gateway(rng.randrange(3), nexthop))
    if kind < 0.6:
        ids = [rng.randint(1, 6) for _ in range(rng.randint(1, 3))]
        return SetGroup(group, tuple((number, rng.randint(1, 4)) for number in ids))
    if kind < 0.85:
        return SetRoute(rng.choice(PREFIXES), group if rng.random() < 0.9 else nexthop)
    if kind < 0.93:
        return DeleteRoute(rng.choice(PREFIXES))
    return DeleteNexthop(rng.choice((nexthop, group)))
