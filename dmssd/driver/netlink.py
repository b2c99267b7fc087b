"""Netlink as it is: framing, attributes, dumps, and acknowledged batches over one blocking socket.

Why not pyroute2: it costs 25 MiB of memory of the 60 that a daemon may take, and writes routes at a twentieth of the
pace. What rtnetlink needs of the codec is a header, aligned attributes, and a loop over both (RFC 3549;
include/uapi/linux/netlink.h). Integers are in host order.

    nlmsghdr  | u32 length, u16 type, u16 flags, u32 sequence, u32 port
    nlattr    | u16 length, u16 type, payload, padded to 4 bytes

The kernel answers a request while it is being sent, so a reader that has just sent never waits long; the receive
time-out only guards against a kernel that does not answer at all.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence

from sansio.errors import KernelError

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_DUMP_INTR = 0x10
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

BATCH_MESSAGES_MAX = 64
"""Messages a send: more gains nothing measurable, and their acknowledgements must fit the receive buffer."""

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_GET_STRICT_CHK = 12
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")
_RECEIVE_BYTES = 1 << 18
_ANSWER_TIMEOUT_S = 5
_DUMP_ATTEMPTS_MAX = 8
_TYPE_MASK = 0x3FFF

Attributes = Mapping[int, bytes]


class Message:
    """A request without its sequence number: the type, the flags, and the bytes after the header."""

    __slots__ = ("body", "flags", "kind")

    def __init__(self, kind: int, body: bytes, flags: int = 0) -> None:
        self.kind = kind
        self.body = body
        self.flags = flags

    def encode(self, sequence: int, flags: int) -> bytes:
        """The bytes on the wire."""
        return _HEADER.pack(16 + len(self.body), self.kind, self.flags | flags, sequence, 0) + self.body


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attribute_u32(kind: int, value: int) -> bytes:
    """One attribute of four bytes."""
    return struct.pack("=HHI", 8, kind, value)


def attributes(data: bytes, start: int) -> dict[int, bytes]:
    """The attributes from ``start`` on, by type; of several of one type, the last."""
    found: dict[int, bytes] = {}
    end = len(data)
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


def frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages in one datagram: (type, flags, sequence, body)."""
    start, end = 0, len(data)
    while start + 16 <= end:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, start)
        if length < 16:
            break
        yield kind, flags, sequence, data[start + 16 : start + length]
        start += (length + 3) & ~3


class NetlinkSocket:
    """Requests to rtnetlink, one at a time, answered before the call returns.

    ``opened``: a socket that was opened in another network namespace, to speak to that one's.
    """

    def __init__(self, opened: socket.socket | None = None) -> None:
        self._socket = opened or socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, 0))
        # Acknowledge with the header alone, and have dumps honour their filters.
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        self._socket.settimeout(_ANSWER_TIMEOUT_S)
        self._sequence = 0

    @property
    def port(self) -> int:
        """By which the kernel's announcements tell our requests from others'."""
        port: int = self._socket.getsockname()[0]
        return port

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def write(self, messages: Sequence[Message]) -> list[int]:
        """Perform ``messages`` in order; the errno of each, 0 where the kernel obeyed.

        A refused message does not keep the following ones from being tried. Raises ``KernelError`` if the kernel does
        not answer.
        """
        results: list[int] = []
        for start in range(0, len(messages), BATCH_MESSAGES_MAX):
            results += self._write_batch(messages[start : start + BATCH_MESSAGES_MAX])
        return results

    def request(self, message: Message, what: str, accept: tuple[int, ...] = ()) -> None:
        """Perform one message; raises ``KernelError`` unless the kernel obeys or its errno is in ``accept``."""
        (result,) = self.write([message])
        if result and result not in accept:
            raise KernelError(result, what)

    def get(self, message: Message) -> bytes | None:
        """The body of the one object that ``message`` asks for; ``None`` where the kernel has none or refuses."""
        sequence = self._next(1)
        self._socket.send(message.encode(sequence, NLM_F_REQUEST))
        for kind, _, _, body in self._answers(sequence):
            return None if kind == _NLMSG_ERROR else body
        return None

    def dump(self, message: Message) -> list[bytes]:
        """The bodies of all objects that ``message`` asks for, read again if they changed meanwhile."""
        for _ in range(_DUMP_ATTEMPTS_MAX):
            bodies, consistent = self._dump_once(message)
            if consistent:
                return bodies
        # Something changes all the time; each change is announced and read again, so this reading will do for now.
        return bodies

    def _dump_once(self, message: Message) -> tuple[list[bytes], bool]:
        sequence = self._next(1)
        self._socket.send(message.encode(sequence, NLM_F_REQUEST | NLM_F_DUMP))
        bodies: list[bytes] = []
        consistent = True
        while True:
            for kind, flags, _, body in self._answers(sequence):
                consistent = consistent and not flags & NLM_F_DUMP_INTR
                if kind == _NLMSG_DONE:
                    return bodies, consistent
                if kind == _NLMSG_ERROR:
                    raise KernelError(-_ERRNO.unpack_from(body)[0], f"a dump of type {message.kind}")
                bodies.append(body)

    def _write_batch(self, messages: Sequence[Message]) -> list[int]:
        # The kernel works through a batch in order and always reports errors, so that one acknowledgement, of the
        # last message, vouches for all before it and spares a receive for each.
        first = self._next(len(messages))
        last = first + len(messages) - 1
        data = [message.encode(sequence, NLM_F_REQUEST) for sequence, message in enumerate(messages[:-1], first)]
        data.append(messages[-1].encode(last, NLM_F_REQUEST | NLM_F_ACK))
        self._socket.send(b"".join(data))
        results = [0] * len(messages)
        while True:
            for kind, _, sequence, body in frames(self._receive()):
                if kind == _NLMSG_ERROR and first <= sequence <= last:
                    results[sequence - first] = -_ERRNO.unpack_from(body)[0]
                    if sequence == last:
                        return results

    def _answers(self, sequence: int) -> Iterator[tuple[int, int, int, bytes]]:
        # Left-overs of a request given up on carry its number, not this one's.
        return (frame for frame in frames(self._receive()) if frame[2] == sequence)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError:
            raise KernelError(errno.ETIMEDOUT, "an rtnetlink request") from None

    def _next(self, count: int) -> int:
        # Wraps long before 2**32, and never within a batch.
        first = self._sequence + 1 if self._sequence < 2**31 else 1
        self._sequence = first + count - 1
        return first


class NetlinkMonitor:
    """A socket that the kernel announces changes on."""

    def __init__(self, groups: int, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
        )
        self._socket.bind((0, groups))

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def receive(self, datagrams_max: int) -> tuple[list[tuple[int, bytes]], bool]:
        """What was announced, as (type, body), and whether announcements were lost (then read everything again)."""
        announced: list[tuple[int, bytes]] = []
        for _ in range(datagrams_max):
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return announced, False
            except OSError as problem:
                if problem.errno == errno.ENOBUFS:
                    return announced, True
                raise
            announced += [(kind, body) for kind, _, _, body in frames(data)]
        return announced, False
