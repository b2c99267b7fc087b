"""The mesh's one UDP socket: IPv6 link-local, unicast and multicast, on the links that the node uses and no others.

Accepted is only what a neighbour on the link itself can have sent: a link-local source, and hop limit 255, which no
router can forge because it would have to lower it (GTSM, RFC 5082 3). The rest is counted and dropped. Sending may
fail when a link has just gone or a queue is full; then the datagram is lost, as datagrams may be, and counted.
"""

import errno
import socket
import struct
from collections import Counter

from dmssd.counts import Tally
from dmssd.events import Datagram
from routing.lsa import LinkNumber
from sansio.errors import ConfigError

MULTICAST_GROUP = "ff02::6464"
DRAIN_MAX = 64
"""Datagrams taken per turn of the event loop, so that a flood on this socket cannot starve the others."""

_HOP_LIMIT = 255
_KIND_NONE = -1  # of a datagram too short to have one
_DATAGRAM_BYTES_MAX = 2048  # a longer one is cut, and then refused by its seal
_RECEIVE_BUFFER_BYTES = 1 << 20
_SO_RCVBUFFORCE = 33
_GROUP = socket.inet_pton(socket.AF_INET6, MULTICAST_GROUP)
_ANCILLARY_BYTES = socket.CMSG_SPACE(4)
_INT = struct.Struct("=i")


class UdpSocket:
    """The mesh port. ``dropped`` counts what was refused or could not be sent, by reason.

    ``sent`` and ``received`` count what was not, by its second byte, the kind of datagram.
    """

    def __init__(self, port: int) -> None:
        """Bind the port; ``ConfigError`` where another program has it."""
        self.dropped: Counter[str] = Counter()
        self.sent, self.received = Tally(), Tally()
        self._port = port
        self._links: set[LinkNumber] = set()
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._prepare()
            self._socket.bind(("::", port))
        except OSError as problem:
            self._socket.close()
            if problem.errno == errno.EADDRINUSE:
                hint = f"UDP port {port} is in use: stop the other program (ss -ulpn) or choose another port"
                raise ConfigError("port", hint) from None
            raise ConfigError("port", f"cannot be bound: {problem.strerror}") from None

    def _prepare(self) -> None:
        options = (
            (socket.IPV6_V6ONLY, 1),
            (socket.IPV6_UNICAST_HOPS, _HOP_LIMIT),
            (socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT),
            (socket.IPV6_MULTICAST_LOOP, 0),
            (socket.IPV6_RECVHOPLIMIT, 1),
        )
        for option, value in options:
            self._socket.setsockopt(socket.IPPROTO_IPV6, option, value)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    def join(self, link: LinkNumber) -> None:
        """Use ``link`` from now on; ``OSError`` where the interface has gone meanwhile."""
        try:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _membership(link))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:  # joined already
                raise
        self._links.add(link)

    def leave(self, link: LinkNumber) -> None:
        """Use ``link`` no longer."""
        self._links.discard(link)
        try:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, _membership(link))
        except OSError as problem:
            self.dropped[f"leave: {_name(problem)}"] += 1  # the interface took its memberships along

    def send(self, link: LinkNumber, address: str | None, payload: bytes) -> None:
        """Send to a link-local address, or to all nodes of the mesh on the link."""
        try:
            self._socket.sendto(payload, (address or MULTICAST_GROUP, self._port, 0, link))
        except OSError as problem:
            self.dropped[f"send: {_name(problem)}"] += 1
        else:
            self.sent.add(_kind(payload), len(payload))

    def receive(self) -> tuple[list[Datagram], bool]:
        """What has arrived, from at most ``DRAIN_MAX`` datagrams, and whether more may be waiting."""
        received: list[Datagram] = []
        for _ in range(DRAIN_MAX):
            try:
                payload, ancillary, _, source = self._socket.recvmsg(_DATAGRAM_BYTES_MAX, _ANCILLARY_BYTES)
            except BlockingIOError:
                return received, False
            except OSError as problem:
                self.dropped[f"receive: {_name(problem)}"] += 1
                return received, False
            reason = self._objection(ancillary, source)
            if reason is None:
                self.received.add(_kind(payload), len(payload))
                received.append(Datagram(LinkNumber(source[3]), source[0], payload))
            else:
                self.dropped[reason] += 1
        return received, True

    def _objection(self, ancillary: list[tuple[int, int, bytes]], source: tuple[str, int, int, int]) -> str | None:
        if not source[0].startswith("fe80:"):
            return "source is not link-local"
        if source[3] not in self._links:
            return "link is not used by the mesh"
        hop_limits = [_INT.unpack(data)[0] for _, kind, data in ancillary if kind == socket.IPV6_HOPLIMIT]
        return None if hop_limits == [_HOP_LIMIT] else "hop limit is not 255"


def _kind(payload: bytes) -> int:
    return payload[1] if len(payload) > 1 else _KIND_NONE


def _membership(link: LinkNumber) -> bytes:
    return struct.pack("=16sI", _GROUP, link)


def _name(problem: OSError) -> str:
    return errno.errorcode.get(problem.errno or 0, "unknown")
