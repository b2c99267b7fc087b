"""Which interfaces are links of the mesh, and whether each can be used now.

The configuration lists glob patterns; the first that matches an interface's name decides its metric, kind and medium,
and ``lo`` is never a link. A link is *up* when its interface is switched on, has carrier, and holds a link-local IPv6
address that duplicate detection has passed. The kernel announces changes; what they amount to is read afresh each time,
so that a lost announcement (ENOBUFS) costs one reading and no more.

The kernel also removes nexthops of a link that loses carrier without a word (FACTS: only NEWLINK is announced), so
every announcement about one of our links asks for the forwarding table to be read back.
"""

import fnmatch
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from dmssd.driver import rtnetlink
from dmssd.driver.netlink import NetlinkMonitor, NetlinkSocket
from dmssd.events import LinkDown, LinkUp
from routing.lsa import LinkNumber

DEVICES = Path("/sys/class/net")
DRAIN_MAX = 64
LINKS_MAX = 256
"""Links of one node; an LSA holds no more adjacencies. Interfaces beyond are left alone, in the kernel's order."""


@dataclass(frozen=True, slots=True)
class LinkRule:
    """One ``[[links]]`` entry: what interfaces are whose name matches the glob.

    ``kind``: ``auto``, ``segment`` or ``point-to-point``; ``medium``: ``auto``, ``wire`` or ``radio``.
    ``metric`` 0: it is measured.
    """

    match: str
    metric: int
    kind: str = "auto"
    medium: str = "auto"


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """What people are told of a link.

    ``state`` is ``up``, ``switched off``, ``no carrier``, ``no address``, or why the kernel could not be prepared.
    """

    name: str
    metric: int
    state: str


@dataclass(frozen=True, slots=True)
class LinksRead:
    """What changed: events for the node, and whether the forwarding table may have changed with it."""

    events: tuple[LinkUp | LinkDown, ...]
    fib_suspect: bool


class Links:
    """The links of this node.

    ``prepare`` is called for each interface before it may become one, until it answers ``None`` and not with what is
    in the way. ``cover`` is called at each reading with the names of all, before that: what it answers is in the way of
    every one that is not prepared yet.
    """

    def __init__(
        self,
        netlink: NetlinkSocket,
        rules: Sequence[LinkRule],
        prepare: Callable[[rtnetlink.Link], str | None],
        cover: Callable[[Sequence[str]], str | None] = lambda _: None,
    ) -> None:
        self._netlink = netlink
        self._rules = tuple(rules)
        self._prepare = prepare
        self._cover = cover
        self._prepared: set[tuple[LinkNumber, str]] = set()
        self._up: dict[LinkNumber, LinkUp] = {}
        self.table: dict[LinkNumber, LinkStatus] = {}
        groups = rtnetlink.RTMGRP_LINK | rtnetlink.RTMGRP_IPV4_IFADDR | rtnetlink.RTMGRP_IPV6_IFADDR
        self._monitor = NetlinkMonitor(groups)

    def fileno(self) -> int:
        """For the event loop."""
        return self._monitor.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._monitor.close()

    def read(self) -> LinksRead:
        """What the kernel says now, against what was last told."""
        return LinksRead(self._changes(), True)

    def receive(self) -> LinksRead | None:
        """What announcements amount to; ``None`` where there were none."""
        announced, lost = self._monitor.receive(DRAIN_MAX)
        if not announced and not lost:
            return None
        concerned = lost or any(self._concerns(kind, body) for kind, body in announced)
        return LinksRead(self._changes(), concerned)

    def set_rules(self, rules: Sequence[LinkRule]) -> LinksRead:
        """Go by other rules from now on; what that changes. A link that keeps its place only changes its metric."""
        self._rules = tuple(rules)
        return self.read()

    def forget(self, link: LinkNumber) -> None:
        """Have ``link`` told again at the next reading: it could not be put to use."""
        self._up.pop(link, None)

    def _concerns(self, kind: int, body: bytes) -> bool:
        if kind not in (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK):
            return False
        link = rtnetlink.parse_link(body)
        return link.number in self.table or self._rule(link.name) is not None

    def _rule(self, name: str) -> LinkRule | None:
        if name == "lo":
            return None
        return next((rule for rule in self._rules if fnmatch.fnmatchcase(name, rule.match)), None)

    def _changes(self) -> tuple[LinkUp | LinkDown, ...]:
        up = self._usable()
        # Told again with another metric, a link stays up; under another name it is another link.
        downs = [LinkDown(link) for link, told in self._up.items() if link not in up or up[link].name != told.name]
        ups = [told for link, told in up.items() if self._up.get(link) != told]
        self._up = up
        return (*downs, *ups)

    def selected(self) -> list[tuple[rtnetlink.Link, LinkRule]]:
        """The interfaces that the configuration selects, each with the rule that does."""
        chosen: list[tuple[rtnetlink.Link, LinkRule]] = []
        for link in rtnetlink.links(self._netlink):
            rule = self._rule(link.name)
            if rule is not None and len(chosen) < LINKS_MAX:
                chosen.append((link, rule))
        return chosen

    def _usable(self) -> dict[LinkNumber, LinkUp]:
        chosen = self.selected()
        problems = self._prepare_new([link for link, _ in chosen])
        addressed: dict[LinkNumber, str] = {}
        for address in rtnetlink.addresses(self._netlink, socket.AF_INET6):
            if address.usable and address.is_link_local:
                addressed.setdefault(address.link, str(IPv6Address(address.packed)))
        self.table = {
            link.number: LinkStatus(
                link.name, rule.metric, problems.get(link.number) or _state(link, link.number in addressed)
            )
            for link, rule in chosen
        }
        return {
            link.number: LinkUp(
                link.number, link.name, rule.metric, addressed[link.number], rule.kind, _medium(link, rule), link.mtu
            )
            for link, rule in chosen
            if self.table[link.number].state == "up"
        }

    def _prepare_new(self, links: Sequence[rtnetlink.Link]) -> dict[LinkNumber, str]:
        # By number and name: settings belong to the name, and a number is given out again.
        self._prepared &= {(link.number, link.name) for link in links}
        problems: dict[LinkNumber, str] = {}
        uncovered = self._cover([link.name for link in links])
        for link in links:
            if (link.number, link.name) in self._prepared:
                continue
            problem = uncovered or self._prepare(link)
            if problem is None:
                self._prepared.add((link.number, link.name))
            else:
                problems[link.number] = problem
        return problems


def _medium(link: rtnetlink.Link, rule: LinkRule) -> str:
    return medium_of(link.name) if rule.medium == "auto" else rule.medium


def medium_of(name: str, devices: Path = DEVICES) -> str:
    """``radio`` for what the kernel knows as a wireless interface, else ``wire``."""
    wireless = any((devices / name / sign).exists() for sign in ("wireless", "phy80211"))
    return "radio" if wireless else "wire"


def _state(link: rtnetlink.Link, addressed: bool) -> str:
    if not link.flags & rtnetlink.IFF_UP:
        return "switched off"
    if not link.has_carrier:
        return "no carrier"
    return "up" if addressed else "no address"
