"""Takes away what a daemon that has ended left in the kernel, and puts back what it changed.

In an order that never leaves this machine an open router: routes and nexthops, then the settings (forwarding among
them), then the nftables guard, then the addresses. The guard stays where a setting could not be put back.

Ours are: routes of the main table and nexthops of protocol 201, addresses on ``lo`` that carry it (Linux 5.18), the
table ``inet dmssd``, and each setting that is recorded (``dmssd.driver.originals``) and still has the value that the
daemon gave it; another value is somebody else's and stays. ``lo`` stays switched on.
"""

import functools
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dmssd.driver import guard, rtnetlink
from dmssd.driver.disk import idle, remove_key
from dmssd.driver.fib import KernelFib
from dmssd.driver.kernel import KernelSettings, Sysctl, boot_id, require_capabilities
from dmssd.driver.netlink import NetlinkSocket
from dmssd.driver.originals import (
    ALL_FORWARDING6,
    IPV6_OPENED_KEY,
    ORIGINALS_KEY,
    RECORD_BYTES_MAX,
    Original,
    Originals,
    here,
    interface_of,
    number_of,
)
from routing.fib import DeleteNexthop, DeleteRoute, FibOperation
from routing.lsa import LinkNumber
from sansio.errors import DmssdError

_LOOPBACK = 1
_KERNEL_LINK_LOCAL = 3  # IFAPROT_KERNEL_LL
_NO_ADDRESS = "1"


@dataclass(slots=True)
class Cleaned:
    """What was taken away or put back, what was left to others, and what could not be done."""

    routes: int = 0
    nexthops: int = 0
    settings: list[dict[str, str]] = field(default_factory=list)
    guard: bool = False
    addresses: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def clean(state: Path) -> Cleaned:
    """Clean this network namespace of the daemon whose state directory is ``state``.

    ``StoreError`` while a daemon uses that directory, ``ConfigError`` without the privilege; then nothing has changed.
    """
    require_capabilities()
    done = Cleaned()
    with idle(state):
        netlink = NetlinkSocket()
        try:
            _attempt(done, lambda: _clean_fib(netlink, done))
            back = _attempt(done, lambda: _put_back(netlink, state, done))
            if back:
                _attempt(done, lambda: _clean_guard(done))
            else:
                done.problems.append("the nftables table stays, since it guards what still forwards")
            _attempt(done, lambda: _clean_addresses(netlink, done))
        finally:
            netlink.close()
    return done


def _attempt(done: Cleaned, work: Callable[[], None]) -> bool:
    before = len(done.problems)
    try:
        work()
    except (DmssdError, OSError) as problem:
        done.problems.append(str(problem))
    return len(done.problems) == before


def _clean_fib(netlink: NetlinkSocket, done: Cleaned) -> None:
    fib = KernelFib(netlink)
    installed = fib.read()
    operations: list[FibOperation] = [DeleteRoute(prefix) for prefix in installed.routes]
    # Groups before their members: a group without any would go by itself.
    operations += [DeleteNexthop(number) for number in (*installed.groups, *installed.nexthops)]
    failed = dict(fib.perform(operations))
    for position, refused in list(failed.items())[:8]:
        done.problems.append(f"{operations[position]} was refused ({os.strerror(refused)})")
    done.routes = sum(isinstance(one, DeleteRoute) for at, one in enumerate(operations) if at not in failed)
    done.nexthops = len(operations) - len(failed) - done.routes


def _put_back(netlink: NetlinkSocket, state: Path, done: Cleaned) -> None:
    sysctl = Sysctl()
    stored = _recorded(state / ORIGINALS_KEY)
    originals = Originals.parse(stored, here(boot_id(sysctl)))
    if not originals.settings:
        done.left.append("settings: none is recorded as changed by dmssd since this machine started")
    before = len(done.problems)
    for key, original in reversed(originals.settings.items()):
        _attempt(done, functools.partial(_put_one_back, netlink, sysctl, key, original, done))
    if ALL_FORWARDING6 in originals.settings and sysctl.read(*ALL_FORWARDING6.split("/")) == "0":
        for name, number in originals.forwarded6.items():
            if number == number_of(name):
                sysctl.ensure("1", "net", "ipv6", "conf", name, "forwarding")
    if stored is not None and len(done.problems) == before:
        remove_key(state, ORIGINALS_KEY)
        remove_key(state, IPV6_OPENED_KEY)  # who switches it on next is another question


def _recorded(path: Path) -> bytes | None:
    # Root reads in a directory of the daemon's user: neither through a link nor from anything that is no file.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(RECORD_BYTES_MAX)


def _put_one_back(netlink: NetlinkSocket, sysctl: Sysctl, key: str, original: Original, done: Cleaned) -> None:
    interface = interface_of(key)
    if interface is not None and number_of(interface) != original.link:
        return  # gone, and its settings with it
    present = sysctl.read(*key.split("/"))
    if present is None or present == original.was:
        return
    if present != original.given:
        done.left.append(f"{key}: is {present}, which dmssd did not set")
        return
    sysctl.ensure(original.was, *key.split("/"))
    done.settings.append({"key": key, "from": present, "to": original.was})
    if interface is not None and key.endswith("/addr_gen_mode") and original.was == _NO_ADDRESS:
        _remove_generated(netlink, LinkNumber(original.link))


def _remove_generated(netlink: NetlinkSocket, link: LinkNumber) -> None:
    for address in rtnetlink.addresses(netlink, socket.AF_INET6):
        if address.link == link and address.is_link_local and address.protocol == _KERNEL_LINK_LOCAL:
            message = rtnetlink.address_deleted(link, address.packed, address.length)
            netlink.request(message, "taking a link-local address away")


def _clean_guard(done: Cleaned) -> None:
    present = guard.is_there()
    if present:
        guard.remove()
    done.guard = present


def _clean_addresses(netlink: NetlinkSocket, done: Cleaned) -> None:
    kernel = KernelSettings(netlink)
    done.addresses = [socket.inet_ntop(_family(packed), packed) for packed in kernel.own_addresses()]
    kernel.remove_addresses_but(())
    # 127.0.0.1 is the kernel's or, in a container, the service manager's: no witness.
    held = [one for one in rtnetlink.addresses(netlink, socket.AF_INET) if one.link == _LOOPBACK]
    loopback = [one for one in held if one.packed[0] != 127]
    if loopback and not any(one.protocol for one in loopback):
        done.left.append("addresses on lo: this kernel (before Linux 5.18) does not tell which are dmssd's")


def _family(packed: bytes) -> int:
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6
