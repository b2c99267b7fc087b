"""What the kernel must be set to before a node can forward, and the privileges that this takes.

For the machine (or network namespace): nexthop objects announced on their own (``nexthop_compat_mode=0``: swapping
the group of 10,000 routes then takes microseconds), hashing over ports (``fib_multipath_hash_policy=1``) with a seed
of the node's own against polarisation, and the node's addresses on ``lo``. For each link: IPv4 forwarding, IPv6
forwarding (which Linux has for all interfaces together only, so that the first link switches it on), no duplicate
address detection (it keeps a new link unusable for 1.6 s), and loose reverse path filtering, since equal-cost ways need
not be symmetric.

Values are written only where they differ, so a machine that an administrator has prepared needs no writable
/proc/sys, as a container has none; the hash seed and duplicate detection are done without where they cannot be set.
Nothing is undone at the end: forwarding goes on when the daemon stops. What a setting was before is recorded
(``dmssd.driver.originals``), and ``dmssd clean`` puts it back.
"""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dmssd.driver import rtnetlink
from dmssd.driver.netlink import NetlinkSocket
from routing.fib import FIB_PROTOCOL
from routing.lsa import LinkNumber, Prefix
from sansio.errors import ConfigError, StoreError

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
_LOOPBACK = LinkNumber(1)
_STRICT, _LOOSE = "1", "2"
_FROM_HARDWARE, _NO_ADDRESS = "0", "1"


def require_capabilities(status: Path = Path("/proc/self/status")) -> None:
    """``ConfigError`` naming the capabilities that this process lacks."""
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    effective = int(fields["CapEff"].strip(), 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        hint = f"{' and '.join(missing)} {verb} missing: run as root, or from the systemd unit, which grants them"
        raise ConfigError("privilege", hint)


@dataclass(frozen=True, slots=True)
class Sysctl:
    """The tree of kernel settings under ``root``.

    ``changing`` is told key, present value and the next one before a setting is changed; what it raises prevents that.
    """

    root: Path = Path("/proc/sys")
    changing: Callable[[str, str, str], None] | None = None

    def read(self, *key: str) -> str | None:
        """The value, or ``None`` where this kernel has no such setting."""
        try:
            return self.root.joinpath(*key).read_text().strip()
        except FileNotFoundError:
            return None

    def forwarding6(self) -> dict[str, str]:
        """Whether IPv6 is forwarded, by interface, ``all`` and ``default`` included."""
        found = sorted(self.root.glob("net/ipv6/conf/*/forwarding"))
        values = {path.parent.name: self.read(*path.relative_to(self.root).parts) for path in found}
        return {name: value for name, value in values.items() if value is not None}

    def ensure(self, value: str, *key: str) -> bool:
        """Have the setting at ``value``; False where this kernel lacks it, ``ConfigError`` where it cannot be set."""
        present = self.read(*key)
        if present is None:
            return False
        if present != value:
            if self.changing is not None:
                self.changing("/".join(key), present, value)
            try:
                self.root.joinpath(*key).write_text(value)
            except OSError as problem:
                hint = f"is {present}, must be {value}, and cannot be written ({os.strerror(problem.errno or 0)})"
                raise ConfigError("/".join(key), f"{hint}: set it with sysctl before dmssd starts") from None
        return True

    def prefer(self, value: str, *key: str) -> bool:
        """As :meth:`ensure`, for what a node can do without: False also where it cannot be set."""
        try:
            return self.ensure(value, *key)
        except ConfigError:
            return False


def boot_id(sysctl: Sysctl) -> str:
    """Changes at every start of the machine."""
    return sysctl.read("kernel", "random", "boot_id") or ""


class KernelSettings:
    """Prepares this network namespace."""

    def __init__(self, netlink: NetlinkSocket, sysctl: Sysctl | None = None) -> None:
        self._netlink = netlink
        self._sysctl = sysctl or Sysctl()

    def prepare_node(self, addresses: Sequence[bytes], hash_seed: int) -> list[str]:
        """Prepare all but the links; returns the optional settings that this kernel lacks.

        ``addresses`` (4 or 16 bytes each) are added to ``lo`` unless some interface has them already. ``hash_seed``
        (32 bits, not 0) should differ between nodes.
        """
        ensure = self._sysctl.ensure
        if not ensure("0", "net", "ipv4", "nexthop_compat_mode"):
            raise ConfigError("kernel", "has no nexthop objects: Linux 5.3 or newer is needed")
        ensure("1", "net", "ipv4", "fib_multipath_hash_policy")
        ensure("1", "net", "ipv6", "fib_multipath_hash_policy")
        if self._sysctl.read("net", "ipv6", "conf", "all", "forwarding") is None:
            raise ConfigError("kernel", "has no IPv6: enable it (links are addressed by IPv6 link-local addresses)")
        ensure("0", "net", "ipv6", "conf", "lo", "disable_ipv6")
        seeded = self._sysctl.prefer(str(hash_seed), "net", "ipv4", "fib_multipath_hash_seed")
        self.add_addresses(addresses)
        return [] if seeded else ["net/ipv4/fib_multipath_hash_seed"]

    def forwards_ipv6(self) -> bool:
        """Whether IPv6 forwarding is on: for all interfaces together, as Linux has it."""
        return self._sysctl.read("net", "ipv6", "conf", "all", "forwarding") == "1"

    def boot_id(self) -> str:
        """Changes at every start of the machine."""
        return boot_id(self._sysctl)

    def prepare_link(self, link: rtnetlink.Link) -> str | None:
        """Prepare one interface for being a link; ``None``, or what is in the way."""
        if "/" in link.name or link.name in (".", ".."):
            return "no name for an interface"  # the kernel forbids such names; never build a path of one
        try:
            self._prepare_link(link)
        except (ConfigError, StoreError) as problem:
            return str(problem)
        return None

    def _prepare_link(self, link: rtnetlink.Link) -> None:
        ensure, read = self._sysctl.ensure, self._sysctl.read
        six, four = ("net", "ipv6", "conf", link.name), ("net", "ipv4", "conf", link.name)
        ensure("0", *six, "disable_ipv6")
        self._sysctl.prefer("0", *six, "accept_dad")  # else the link is usable 1.6 s later
        if read(*six, "addr_gen_mode") == _NO_ADDRESS and not self._has_link_local(link.number):
            ensure(_FROM_HARDWARE, *six, "addr_gen_mode")
        ensure("1", *four, "forwarding")
        # Not before there is a link: a machine that forwards takes no address nor default route from a router's word.
        ensure("1", "net", "ipv6", "conf", "all", "forwarding")
        everywhere = read("net", "ipv4", "conf", "all", "rp_filter")
        here = read(*four, "rp_filter")
        # The larger of the two counts; where neither is strict nothing needs to be loosened.
        if _STRICT in (everywhere, here) and _LOOSE not in (everywhere, here):
            ensure(_LOOSE, *four, "rp_filter")

    def _has_link_local(self, link: LinkNumber) -> bool:
        held = rtnetlink.addresses(self._netlink, socket.AF_INET6)
        return any(address.link == link and address.is_link_local for address in held)

    def add_addresses(self, addresses: Sequence[bytes]) -> None:
        """Have these addresses of the node's own on ``lo``, unless some interface has them already."""
        self._netlink.request(rtnetlink.link_switched_on(_LOOPBACK), "switching lo on")
        present = {address.packed for address in self._addresses()}
        for packed in addresses:
            if packed not in present:
                message = rtnetlink.address_added(_LOOPBACK, packed)
                self._netlink.request(message, "adding the node's address to lo", accept=(errno.EEXIST,))

    def remove_addresses_but(self, addresses: Sequence[bytes]) -> None:
        """Take off ``lo`` what this or an earlier daemon put there, but for these."""
        for packed in self.own_addresses():
            if packed not in addresses:
                gone = (errno.EADDRNOTAVAIL,)
                message = rtnetlink.address_deleted(_LOOPBACK, packed)
                self._netlink.request(message, "taking an address off lo", accept=gone)

    def own_addresses(self) -> list[bytes]:
        """What this or an earlier daemon put on ``lo``, 4 or 16 bytes each."""
        ours = (one for one in self._addresses() if one.link == _LOOPBACK and one.protocol == FIB_PROTOCOL)
        return [address.packed for address in ours]

    def networks(self) -> tuple[Prefix, ...]:
        """The networks that this machine is on by itself: those of its addresses, but for the node's own."""
        found = {
            Prefix.of(address.packed, address.length)
            for address in self._addresses()
            if not address.is_link_local and address.link != _LOOPBACK
        }
        return tuple(sorted(found))

    def _addresses(self) -> list[rtnetlink.Address]:
        families = (socket.AF_INET, socket.AF_INET6)
        return [address for family in families for address in rtnetlink.addresses(self._netlink, family)]
