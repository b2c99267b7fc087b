"""Announcements of what others take out of the kernel's tables, from the real kernel."""

import select
from collections.abc import Iterator

import pytest

from dmssd.driver.fib import KernelFib
from dmssd.driver.fibwatch import FibWatch
from dmssd.driver.loop import FibSuspect
from dmssd.driver.netlink import NetlinkSocket
from routing.fib import Gateway, diff
from routing.lsa import LinkNumber, Prefix
from tests.netns.kernel import Namespaces

pytestmark = pytest.mark.netns

TO = Prefix.parse("10.9.0.1/32")


class Bench:
    """One namespace with a link, a route of ours over it, and the watch."""

    def __init__(self, spaces: Namespaces) -> None:
        self.spaces = spaces
        spaces.sysctl("here", "net/ipv4/nexthop_compat_mode", "0")  # else ``ip`` cannot flush routes by nexthop
        self.netlink = spaces.inside("here", NetlinkSocket)
        self.watch = spaces.inside("here", lambda: FibWatch(self.netlink.port))
        self.fib = KernelFib(self.netlink, None, None)
        gateway = Gateway(LinkNumber(spaces.index("here", "m0")), bytes.fromhex("fe80" + 13 * "00" + "01"))
        self.wanted = {TO: ((gateway, 1),)}
        self.program()

    def program(self) -> None:
        assert self.fib.perform(diff(self.fib.read(), self.wanted)) == ()

    def announced(self) -> bool:
        """Whether something comes within a time that the kernel never needs, or at once."""
        return bool(select.select([self.watch.fileno()], [], [], 0.2)[0])


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Namespaces("here", "there") as spaces:
        spaces.veth(("here", "m0"), ("there", "m0"))
        made = Bench(spaces)
        yield made
        made.watch.close()
        made.netlink.close()


def test_where_nothing_was_announced_nothing_is_suspected(bench: Bench) -> None:
    # Found by an idle daemon that read the whole table back at each of its 70 wake-ups a second.
    assert bench.watch.receive() == ([], False)


@pytest.mark.parametrize("flush", ["route flush proto 201", "nexthop flush proto 201"])
def test_a_flush_by_somebody_else_is_suspected_once(bench: Bench, flush: str) -> None:
    bench.spaces.ip("here", *flush.split())
    assert bench.announced()
    assert bench.watch.receive() == ([FibSuspect()], False)
    assert bench.watch.receive() == ([], False)


def test_our_own_deletions_and_the_routes_of_others_are_passed_over(bench: Bench) -> None:
    bench.wanted = {}
    bench.program()
    bench.spaces.ip("here", "route", "add", "10.8.0.0/24", "dev", "m0", "proto", "static")
    bench.spaces.ip("here", "route", "del", "10.8.0.0/24", "dev", "m0")
    assert not bench.announced()
    assert bench.watch.receive() == ([], False)
