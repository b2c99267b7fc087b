"""Echo requests that a neighbour's kernel answers: the link tier of liveness (RFC 4443 4.1 and 4.2).

One raw ICMPv6 socket, filtered to echo replies. The identifier is random per process, the nonce is the eight bytes of
data; whether a nonce is one that was sent is the core's to judge. Replies come with the hop limit that the neighbour
is configured with, so GTSM cannot apply here; a reply proves that the nonce was seen, no more.

    type 128 or 129 | code 0 | checksum (kernel) | u16 identifier | u16 0 | u64 nonce
"""

import errno
import os
import socket
import struct
from collections import Counter

from dmssd.events import EchoReplied
from routing.lsa import LinkNumber
from sansio.errors import ConfigError

DRAIN_MAX = 64

_ECHO = struct.Struct("!BBHHHQ")
_REQUEST, _REPLY = 128, 129
_ICMP6_FILTER = 1
_HOP_LIMIT = 255
_BYTES_MAX = 256

ECHO_BYTES = _ECHO.size
"""Of a request and of a reply."""


class EchoSocket:
    """Sends echo requests and collects the replies.

    ``dropped`` counts what was refused or could not be sent, ``sent`` and ``received`` what was not.
    """

    def __init__(self) -> None:
        """Open the socket; ``ConfigError`` where CAP_NET_RAW is missing."""
        self.dropped: Counter[str] = Counter()
        self.sent = self.received = 0
        self._identifier = int.from_bytes(os.urandom(2), "big")
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
        except PermissionError:
            hint = "CAP_NET_RAW is missing: run as root, or from the systemd unit, which grants it"
            raise ConfigError("privilege", hint) from None
        self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _passing(_REPLY))
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _HOP_LIMIT)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, link: LinkNumber, address: str, nonce: int) -> None:
        """Ask the kernel at a link-local address to return ``nonce`` (64 bits)."""
        try:
            self._socket.sendto(_ECHO.pack(_REQUEST, 0, 0, self._identifier, 0, nonce), (address, 0, 0, link))
        except OSError as problem:
            self.dropped[f"send: {errno.errorcode.get(problem.errno or 0, 'unknown')}"] += 1
        else:
            self.sent += 1

    def receive(self) -> tuple[list[EchoReplied], bool]:
        """The replies that have arrived, from at most ``DRAIN_MAX`` datagrams, and whether more may be waiting."""
        replies: list[EchoReplied] = []
        for _ in range(DRAIN_MAX):
            try:
                data, source = self._socket.recvfrom(_BYTES_MAX)
            except BlockingIOError:
                return replies, False
            except OSError as problem:
                self.dropped[f"receive: {errno.errorcode.get(problem.errno or 0, 'unknown')}"] += 1
                return replies, False
            if len(data) != _ECHO.size:
                continue  # somebody's ping
            kind, code, _, identifier, sequence, nonce = _ECHO.unpack(data)
            if (kind, code, identifier, sequence) != (_REPLY, 0, self._identifier, 0):
                continue
            self.received += 1
            replies.append(EchoReplied(LinkNumber(source[3]), source[0], nonce))
        return replies, True


def _passing(kind: int) -> bytes:
    # RFC 3542 3.2: one bit for each type, set where it is blocked.
    words = [0xFFFFFFFF] * 8
    words[kind >> 5] &= ~(1 << (kind & 31))
    return struct.pack("=8I", *words)
