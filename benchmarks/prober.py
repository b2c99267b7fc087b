"""Pings many addresses at the same time until each has answered once: a program for inside a namespace.

    prober.py INTERVAL_MS LIMIT_S ADDRESS ...

Prints ``ready``, waits for a line on its standard input, then sends an echo request (ICMP or ICMPv6, by raw sockets)
to every address that has not answered yet, each interval anew. When all have, or at the limit, prints one JSON object
``{address: CLOCK_MONOTONIC ns of the first answer}``: that clock is the same in all namespaces. Standard library only
and asleep until it is told to begin, so that it takes nothing from the daemons that start beside it.
"""

import contextlib
import json
import os
import select
import socket
import struct
import sys
import time

ECHO = struct.Struct("!BBHHH")
SOL_RAW = 255
ICMP_FILTER = 1
REPLY4, REQUEST4 = 0, 8
REPLY6, REQUEST6 = 129, 128
HEADER4 = 20


class Family:
    """The echoes of one address family."""

    def __init__(self, six: bool, identifier: int) -> None:
        self._six, self._identifier = six, identifier
        if six:
            self.socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            words = [0xFFFFFFFF] * 8
            words[REPLY6 >> 5] &= ~(1 << (REPLY6 & 31))
            self.socket.setsockopt(socket.IPPROTO_ICMPV6, ICMP_FILTER, struct.pack("=8I", *words))
            self._request = ECHO.pack(REQUEST6, 0, 0, identifier, 0)
        else:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            self.socket.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ~(1 << REPLY4) & 0xFFFFFFFF))
            total = (REQUEST4 << 8) + identifier
            self._request = ECHO.pack(REQUEST4, 0, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF, identifier, 0)
        self.socket.setblocking(False)

    def ask(self, address: str) -> None:
        """Send a request; without a route it is not sent, and asked again later."""
        with contextlib.suppress(OSError):
            self.socket.sendto(self._request, (address, 0))

    def answered(self) -> list[str]:
        """Who has answered meanwhile."""
        found: list[str] = []
        while True:
            try:
                data, source = self.socket.recvfrom(256)
            except OSError:  # nothing more, or the word of a router that it knows no way: asked again later
                return found
            echo = data if self._six else data[HEADER4:]
            if len(echo) >= ECHO.size and ECHO.unpack_from(echo)[3] == self._identifier:
                found.append(source[0])


def probe(interval_s: float, limit_s: float, addresses: list[str]) -> dict[str, int]:
    """When each address first answered; those that did not are left out."""
    identifier = os.getpid() & 0xFFFF
    families = {six: Family(six, identifier) for six in (False, True)}
    print("ready", flush=True)
    sys.stdin.readline()
    waiting = dict.fromkeys(addresses)
    first: dict[str, int] = {}
    until = time.monotonic() + limit_s
    while waiting and time.monotonic() < until:
        for address in waiting:
            families[":" in address].ask(address)
        again = time.monotonic() + interval_s
        while waiting and (left := again - time.monotonic()) > 0:
            select.select([family.socket for family in families.values()], [], [], left)
            now = time.monotonic_ns()
            for family in families.values():
                for address in family.answered():
                    if address in waiting:
                        del waiting[address]
                        first[address] = now
    return first


def main(arguments: list[str]) -> None:
    """Probe and print."""
    print(json.dumps(probe(float(arguments[0]) / 1000, float(arguments[1]), arguments[2:])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
