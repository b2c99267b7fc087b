"""Traceroute with one fixed flow, so that equal-cost hashing sends every probe the same way.

Each probe is a UDP datagram of one 5-tuple with a rising hop limit; routers answer time-exceeded, the destination port
unreachable. The kernel hands these errors to the very socket that sent the probe (``IP_RECVERR``, ip(7), ipv6(7)), so
no raw socket and no matching by port are needed. One probe is in flight at a time: that is what tells which hop an
answer belongs to.
"""

import asyncio
import errno
import socket
import struct
import time
from dataclasses import dataclass

from sansio.errors import RequestError

HOPS_MAX = 32
TRIES = 2
TRY_SECONDS = 1.0
SILENT_HOPS_MAX = 3
PORT = 33434

_IP_RECVERR = 11  # linux/in.h; the socket module does not name it
_IPV6_RECVERR = 25
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # linux/errqueue.h: errno, origin, type, code, pad, info, data
_ORIGIN_ICMP = (2, 3)


@dataclass(frozen=True, slots=True)
class TracedHop:
    """``address`` is None where nobody answered."""

    address: str | None
    rtt_ns: int | None


@dataclass(frozen=True, slots=True)
class Traced:
    """The hops in order; the last one is the destination if ``reached``."""

    hops: tuple[TracedHop, ...]
    reached: bool
    flow: int


async def trace(source: str, destination: str, flow: int) -> Traced:
    """Trace from ``source`` (one of our addresses) with UDP source port ``flow`` (0: any).

    Raises ``RequestError`` where the kernel has no route or the port is taken.
    """
    six = ":" in destination
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        if six:
            probe.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            probe.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        try:
            probe.bind((source, flow))
            return await _trace(probe, destination, six)
        except OSError as problem:
            raise RequestError(f"cannot trace from {source} to {destination}: {problem.strerror}") from None


async def _trace(probe: socket.socket, destination: str, six: bool) -> Traced:
    level, option = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if six else (socket.IPPROTO_IP, socket.IP_TTL)
    hops: list[TracedHop] = []
    reached = False
    silent = 0
    while not reached and len(hops) < HOPS_MAX and silent < SILENT_HOPS_MAX:
        probe.setsockopt(level, option, len(hops) + 1)
        hop, reached = await _probe(probe, destination)
        silent = 0 if hop.address else silent + 1
        hops.append(hop)
    return Traced(tuple(hops), reached, probe.getsockname()[1])


async def _probe(probe: socket.socket, destination: str) -> tuple[TracedHop, bool]:
    for _ in range(TRIES):
        started = time.monotonic_ns()
        try:
            probe.sendto(b"dmssd trace", (destination, PORT))
        except OSError as problem:
            # A pending error of an earlier probe is reported here, once; a missing route always.
            if problem.errno in (errno.ENETUNREACH, errno.EINVAL):
                raise
        answer = await _answer(probe)
        if answer is not None:
            address, reached = answer
            return TracedHop(address, time.monotonic_ns() - started), reached
    return TracedHop(None, None), False


async def _answer(probe: socket.socket) -> tuple[str, bool] | None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(probe.fileno(), arrived.set)
    try:
        async with asyncio.timeout(TRY_SECONDS):
            while True:
                if (answer := _read_error(probe)) is not None:
                    return answer
                arrived.clear()
                await arrived.wait()
    except TimeoutError:
        return None
    finally:
        loop.remove_reader(probe.fileno())


def _read_error(probe: socket.socket) -> tuple[str, bool] | None:
    try:
        _, ancillary, _, _ = probe.recvmsg(512, 512, socket.MSG_ERRQUEUE)
    except BlockingIOError:
        probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return None
    for level, kind, data in ancillary:
        if (level, kind) not in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
            continue
        number, origin, *_ = _EXTENDED_ERROR.unpack_from(data)
        offender = data[_EXTENDED_ERROR.size :]
        if origin in _ORIGIN_ICMP and len(offender) >= 8:
            return _address(offender), number == errno.ECONNREFUSED
    return None


def _address(sockaddr: bytes) -> str:
    (family,) = struct.unpack_from("=H", sockaddr)
    if family == socket.AF_INET:
        return socket.inet_ntop(family, sockaddr[4:8])
    return socket.inet_ntop(socket.AF_INET6, sockaddr[8:24])
