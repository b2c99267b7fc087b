"""What the kernel's settings were before this daemon changed them, so that they can be put back.

Before a setting is changed the record gets its value, the one that it is given, and, where it belongs to an interface,
that interface's number. It is written so that a crash of the process leaves old or new, and is not flushed to the
disk: a machine that lost power starts with other values, and a record of another start of the machine, or of another
network namespace, is void.

A value that the daemon gave a setting itself is never taken for an original: where the record says that the setting was
given just this value, the older original stays. An administrator's later value takes its place.

    file | JSON {"place": TEXT, "settings": {KEY: [was, given, interface number or 0]}, "forwarded6": {NAME: number}}

Root goes by the record, which the daemon's user can write. So it counts as a whole only where each key is one of
``_KEY``, each value a number, and each name that of an interface: nothing that this user may not set itself.

``forwarded6`` names interfaces that forwarded IPv6 before all of them did: putting ``all`` back switches these off too.
"""

import json
import os
import re
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

IPV6_OPENED_KEY = "ipv6-opened"
"""Holds the boot id of the last start of the machine at which it was this daemon that switched IPv6 forwarding on."""

ORIGINALS_KEY = "originals"
ORIGINALS_MAX = 4096
"""Settings recorded: five of each of 256 links and of as many that they replaced. The oldest of interfaces go first."""

ALL_FORWARDING6 = "net/ipv6/conf/all/forwarding"
RECORD_BYTES_MAX = 1 << 20
_INTERFACE = r"(?!\.{1,2}(?:/|$))[^/\s\0]{1,15}"
_NAME = re.compile(_INTERFACE)
_KEY = re.compile(
    "net/ipv4/(?:nexthop_compat_mode|fib_multipath_hash_policy|fib_multipath_hash_seed)"
    "|net/ipv6/(?:fib_multipath_hash_policy|conf/all/forwarding)"
    f"|net/ipv6/conf/{_INTERFACE}/(?:disable_ipv6|accept_dad|addr_gen_mode)"
    f"|net/ipv4/conf/{_INTERFACE}/(?:forwarding|rp_filter)"
)
_VALUE = re.compile(r"-?[0-9]{1,10}")
_NOT_INTERFACES = ("all", "default", "lo")
_SO_NETNS_COOKIE = 71


@dataclass(frozen=True, slots=True)
class Original:
    """One setting: its value before, the one given to it, and the interface (0: of none) that it belongs to."""

    was: str
    given: str
    link: int = 0


@dataclass(slots=True)
class Originals:
    """The record of one network namespace of one start of the machine; ``place`` tells which."""

    place: str
    settings: dict[str, Original] = field(default_factory=dict)
    forwarded6: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, stored: bytes | None, place: str) -> "Originals":
        """What was recorded of ``place``; nothing where that was another one, or cannot be read."""
        try:
            table = json.loads(stored or b"{}")
            if table.get("place") != place:
                return cls(place)
            settings = {_fits(_KEY, key): _original(*entry) for key, entry in table["settings"].items()}
            forwarded = {_fits(_NAME, name): int(number) for name, number in table["forwarded6"].items()}
        except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError):
            return cls(place)
        return cls(place, settings, forwarded)

    def encode(self) -> bytes:
        """For :meth:`parse`."""
        settings = {key: [one.was, one.given, one.link] for key, one in self.settings.items()}
        table: dict[str, Any] = {"place": self.place, "settings": settings, "forwarded6": self.forwarded6}
        return json.dumps(table, separators=(",", ":")).encode()

    def changing(self, key: str, present: str, value: str, link: int = 0) -> None:
        """``key`` is about to be changed from ``present`` to ``value``."""
        before = self.settings.pop(key, None)
        ours = before is not None and before.link == link and before.given == present
        was = before.was if before is not None and ours else present
        while len(self.settings) >= ORIGINALS_MAX:
            oldest = next((other for other, one in self.settings.items() if one.link), next(iter(self.settings)))
            del self.settings[oldest]
        self.settings[key] = Original(was, value, link)


def interface_of(key: str) -> str | None:
    """The interface that a setting belongs to; ``None`` for one of the namespace."""
    parts = key.split("/")
    named = len(parts) == 5 and parts[2] == "conf" and parts[3] not in _NOT_INTERFACES
    return parts[3] if named else None


def number_of(interface: str) -> int:
    """The number of an interface, 0 where there is none of that name."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


def here(boot: str) -> str:
    """Names this network namespace of this start of the machine (``boot``)."""
    try:
        # Never given out again, unlike the inode; Linux 5.14.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
            cookie = struct.unpack("=Q", any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0]
        return f"{boot} cookie {cookie}"
    except (OSError, struct.error):
        return f"{boot} inode {os.stat('/proc/thread-self/ns/net').st_ino}"


class Recording:
    """Keeps the record on disk: ``write`` has the bytes there, whatever becomes of this process, before it returns."""

    def __init__(
        self,
        stored: bytes | None,
        boot: str,
        write: Callable[[bytes], None],
        forwarding6: Callable[[], Mapping[str, str]],
    ) -> None:
        self._originals = Originals.parse(stored, here(boot))
        self._write = write
        self._forwarding6 = forwarding6

    def changing(self, key: str, present: str, value: str) -> None:
        """Record ``present`` before ``key`` is changed to ``value``; raises ``StoreError`` where that cannot be."""
        interface = interface_of(key)
        if key == ALL_FORWARDING6 and present == "0":
            on = [name for name, state in self._forwarding6().items() if state != "0" and name != "all"]
            self._originals.forwarded6 = {name: number_of(name) for name in sorted(on)[:ORIGINALS_MAX]}
        self._originals.changing(key, present, value, number_of(interface) if interface else 0)
        self._write(self._originals.encode())


def _original(was: str, given: str, link: int) -> Original:
    return Original(_fits(_VALUE, was), _fits(_VALUE, given), int(link))


def _fits(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text
