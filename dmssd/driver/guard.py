"""The guard: an nftables table of our own, so that a board that forwards for the mesh never becomes an open router.

Theory of operation. What the daemon switches on is guarded, and nothing else. A packet forwarded *from or to* a link
of the mesh must have the other end there too, or lie in a prefix that this node announces and go by an interface that
leads to it. Forwarding between other interfaces (a container bridge and the uplink) is somebody else's and passes, but
for IPv6 where this daemon was the one who switched it on: Linux knows IPv6 forwarding for all interfaces together
only, so that without the guard it would have opened them all.

    forward, priority -10: before the filters of others, which still see what passes here
    link -> link                          pass
    link -> interface, prefix announced   pass, and the way back
    link -> uplink of a gateway           pass; the way back only for what was begun from inside
    other -> other                        pass (IPv6: see above)
    everything else                       counted, dropped

The table is written whole in one transaction by ``nft -f -`` (nftables.org), before any forwarding is switched on, and
again when links, or the interfaces that announced prefixes are on, change. Somebody who takes it away (``nft flush
ruleset``, a restart of nftables.service) finds it put back: the kernel announces deletions. It stays when the daemon
stops, as forwarding does; ``dmssd guard remove`` takes it away.

Limit: a host on the same segment as a link counts as being on that link, and addresses are not compared with who sent
them.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dmssd.driver import rtnetlink
from dmssd.driver.loop import FibSuspect
from dmssd.driver.netlink import NetlinkMonitor, NetlinkSocket, attributes
from dmssd.events import NodeEvent
from routing.lsa import Prefix
from sansio.errors import ConfigError

TABLE = "dmssd"
INTERFACES_MAX = 512
"""Interfaces named in the table; more links than this node may have, and as many others."""

_NFT_TIMEOUT_S = 20
_NFT = "/usr/sbin/nft"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:+-]{0,14}")
_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 1 << 6  # NFNLGRP_NFTABLES, 7
_SUBSYSTEM_NFTABLES = 10
_DELETIONS = (2, 5, 8, 11, 14)  # NFT_MSG_DELTABLE, DELCHAIN, DELRULE, DELSET, DELSETELEM
_NFPROTO_INET = 1
_DRAIN_MAX = 64
_DRAIN_ROUNDS_MAX = 32


@dataclass(frozen=True, slots=True)
class Admitted:
    """What may be forwarded.

    ``links``: interfaces of the mesh. ``open``: (interface, announced prefix that it leads to). ``uplinks``: interfaces
    that a gateway's default route uses. ``closes_ipv6``: whether IPv6 between other interfaces is dropped. All sorted.
    """

    links: tuple[str, ...]
    open: tuple[tuple[str, Prefix], ...] = ()
    uplinks: tuple[str, ...] = ()
    closes_ipv6: bool = False


def is_guardable(interface: str) -> bool:
    """Whether a name can stand in the table as it is: the kernel also allows quotes and stars in names."""
    return bool(_SAFE_NAME.fullmatch(interface))


def ruleset(admitted: Admitted) -> str:
    """The transaction that replaces the table; for ``nft -f -``."""
    elements = f" elements = {{ {_quoted(admitted.links)} }}" if admitted.links else ""
    rules = "".join(f"    {rule}\n" for rule in _rules(admitted))
    return (
        f"{removal()}"
        f"table inet {TABLE} {{\n"
        f"  set links {{ type ifname;{elements} }}\n"
        "  chain forward {\n"
        "    type filter hook forward priority -10; policy accept;\n"
        f"{rules}"
        "  }\n"
        "}\n"
    )


def removal() -> str:
    """The transaction that takes the table away, whether or not it is there."""
    return f"table inet {TABLE} {{ }}\ndelete table inet {TABLE}\n"


def _rules(admitted: Admitted) -> Iterator[str]:
    yield "iifname @links oifname @links accept"
    if admitted.closes_ipv6:
        # Loopback and the same interface twice (a bridge's hairpin) are nobody's way through this machine.
        yield "meta nfproto ipv6 iifname != @links oifname != @links counter drop"
    yield "iifname != @links oifname != @links accept"
    for interface, prefix in admitted.open:
        family = "ip" if len(prefix.network) == 4 else "ip6"
        yield f'iifname @links oifname "{interface}" {family} daddr {prefix} accept'
        yield f'iifname "{interface}" oifname @links {family} saddr {prefix} accept'
    for interface in admitted.uplinks:
        yield f'iifname @links oifname "{interface}" accept'
        yield f'iifname "{interface}" oifname @links ct state established,related accept'
    yield "counter drop"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def admitted(
    links: Sequence[str], announced: Sequence[Prefix], foreign: Sequence[tuple[Prefix, str]], *, closes_ipv6: bool
) -> Admitted:
    """What to admit, given the links, what this node announces, and where the machine's own routes lead.

    ``foreign``: (prefix, interface) of every route that is not ours. An interface leads to an announced prefix if a
    route of it lies within that prefix, or is the longest that holds it whole.
    """
    inner = [prefix for prefix in announced if prefix.length]
    opened = {
        (interface, prefix)
        for prefix in inner
        for interface in _leading_to(prefix, foreign)
        if interface not in links and is_guardable(interface)
    }
    families = {len(prefix.network) for prefix in announced if not prefix.length}
    uplinks = {
        interface
        for prefix, interface in foreign
        if not prefix.length and len(prefix.network) in families and interface not in links and is_guardable(interface)
    }
    return Admitted(
        tuple(sorted(links)),
        tuple(sorted(opened))[:INTERFACES_MAX],
        tuple(sorted(uplinks))[:INTERFACES_MAX],
        closes_ipv6,
    )


def _leading_to(prefix: Prefix, foreign: Sequence[tuple[Prefix, str]]) -> set[str]:
    within = {interface for route, interface in foreign if prefix.holds(route)}
    around = [(route, interface) for route, interface in foreign if route.holds(prefix)]
    longest = max((route.length for route, _ in around), default=0)
    return within | {interface for route, interface in around if route.length == longest > 0}


def nft(transaction: str) -> str | None:
    """Perform a transaction; ``None``, or why it was not performed (then nothing has changed)."""
    program = shutil.which("nft") or _NFT
    try:
        done = subprocess.run(
            [program, "-f", "-"],
            input=transaction,
            text=True,
            capture_output=True,
            check=False,
            timeout=_NFT_TIMEOUT_S,
        )
    except FileNotFoundError:
        return "nft is not installed: apt-get install nftables"
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"nft cannot be run ({problem})"
    if done.returncode == 0:
        return None
    said = " ".join(done.stderr.split())[:200]
    return f"the kernel refused the nftables table ({said}): is nf_tables in this kernel?"


class Guard:
    """Keeps the table in this network namespace equal to what is admitted now.

    ``announced`` are the prefixes that this node announces beside its own addresses. ``opens_ipv6`` is asked, whether
    or not there are links, if it is this daemon that switches IPv6 forwarding on, or has; once it did, that stays so.
    """

    def __init__(self, netlink: NetlinkSocket, announced: Sequence[Prefix], opens_ipv6: Callable[[bool], bool]) -> None:
        self._netlink = netlink
        self._opens_ipv6 = opens_ipv6
        self._closes_ipv6 = False
        self._applied: Admitted | None = None
        self._monitor = NetlinkMonitor(_GROUP_NFTABLES, _NETLINK_NETFILTER)
        self.announced = tuple(announced)
        self.restored = 0
        self.problem: str | None = None

    @property
    def applied(self) -> Admitted | None:
        """What the table says, as far as is known; ``None`` where it could not be written."""
        return self._applied

    def close(self) -> None:
        """Stop listening; the table stays."""
        self._monitor.close()

    def fileno(self) -> int:
        """For the event loop."""
        return self._monitor.fileno()

    def cover(self, links: Sequence[str]) -> str | None:
        """Have the table say what these links need; ``None``, or why it does not (then they must not be used)."""
        unsafe = [link for link in links if not is_guardable(link)]
        if unsafe:
            return f"interface {unsafe[0]!r} has a name that nftables cannot hold: rename it"
        self._closes_ipv6 = self._closes_ipv6 or self._opens_ipv6(bool(links))
        foreign = rtnetlink.foreign_routes(self._netlink) if self.announced else []
        return self._apply(admitted(links, self.announced, foreign, closes_ipv6=self._closes_ipv6))

    def receive(self) -> tuple[list[NodeEvent | FibSuspect], bool]:
        """Put the table back where somebody has taken it, or a part of it, away."""
        if self._was_touched() and self._applied is not None:
            wanted, self._applied = self._applied, None
            self.restored += 1
            self._apply(wanted)
        return [], False

    def _apply(self, wanted: Admitted) -> str | None:
        if wanted == self._applied:
            return None
        self.problem = nft(ruleset(wanted))
        if self.problem is None:
            self._applied = wanted
            self._was_touched()  # by ourselves just now
        return self.problem

    def _was_touched(self) -> bool:
        touched = False
        for _ in range(_DRAIN_ROUNDS_MAX):
            announced, lost = self._monitor.receive(_DRAIN_MAX)
            touched = touched or lost or any(_is_ours(kind, body) for kind, body in announced)
            if not announced and not lost:
                break
        return touched


def _is_ours(kind: int, body: bytes) -> bool:
    if kind >> 8 != _SUBSYSTEM_NFTABLES or kind & 0xFF not in _DELETIONS or not body or body[0] != _NFPROTO_INET:
        return False
    return attributes(body, 4).get(1, b"").rstrip(b"\0") == TABLE.encode()


def guard_shown(policy: str, guard: Guard | None) -> dict[str, Any]:
    """For people and programs: the policy, the table, how often it was put back, and what is wrong with it."""
    if guard is None:
        return {"policy": policy, "ruleset": "", "restored": 0, "problem": None}
    text = ruleset(guard.applied) if guard.applied is not None else ""
    return {"policy": policy, "ruleset": text, "restored": guard.restored, "problem": guard.problem}


def is_there() -> bool:
    """Whether this network namespace has the table; ``ConfigError`` where ``nft`` cannot tell."""
    program = shutil.which("nft") or _NFT
    command = [program, "list", "table", "inet", TABLE]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_NFT_TIMEOUT_S, env={"LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise ConfigError("guard", f"nft cannot be run ({problem}): apt-get install nftables") from None
    if done.returncode and "No such file" not in done.stderr:
        raise ConfigError("guard", f"nft cannot tell ({' '.join(done.stderr.split())[:200]}): run as root")
    return done.returncode == 0


def remove() -> None:
    """Take the table away; ``ConfigError`` says why that failed."""
    problem = nft(removal())
    if problem is not None:
        raise ConfigError("guard", problem)


def remove_leftover() -> None:
    """Take away what a daemon with another configuration has left, as far as that can be done."""
    nft(removal())
