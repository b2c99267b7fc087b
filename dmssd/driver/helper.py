"""What the daemon asks its helper for (``dmssd/helper/protocol.py``); each call waits, so give it a thread."""

import array
import os
import socket
from dataclasses import dataclass

from dmssd.driver.netlink import NetlinkSocket
from dmssd.helper.protocol import (
    MESSAGE_BYTES_MAX,
    OpenNetns,
    Request,
    Restart,
    SetCpus,
    Start,
    Stop,
    decode_answer,
    encode,
)
from sansio.errors import RemoteProtocolError, RequestError

SOCKET = "/run/dmssd-helper.sock"
TIMEOUT_S = 75.0
"""The helper gives up after 60 s by itself."""


@dataclass(slots=True)
class Namespace:
    """A network namespace: to put interfaces into (``descriptor``), and to look at and configure (``netlink``).

    Both are the caller's to close. Neither lets it *enter* the namespace: that takes CAP_SYS_ADMIN.
    """

    descriptor: int
    netlink: NetlinkSocket

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)
        self.netlink.close()


class Helper:
    """The helper at ``path``. Every method raises ``RequestError`` where it refuses, fails or is not there."""

    def __init__(self, path: str = SOCKET, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def open_netns(self, name: str) -> Namespace:
        """Open ``/run/netns/NAME``."""
        descriptors = self._ask(OpenNetns(name), descriptors=2)
        return Namespace(descriptors[0], NetlinkSocket(socket.socket(fileno=descriptors[1])))

    def set_cpus(self, unit: str, cpus: str, mems: str | None = None) -> None:
        """Have ``unit`` run on ``cpus`` (``0-3,8``), with memory of the nodes ``mems``, until the next boot."""
        self._ask(SetCpus(unit, cpus, mems))

    def start(self, unit: str) -> None:
        """Start a unit; returns once it has."""
        self._ask(Start(unit))

    def stop(self, unit: str) -> None:
        """Stop a unit; returns once it has."""
        self._ask(Stop(unit))

    def restart(self, unit: str) -> None:
        """Restart a unit; returns once it runs again."""
        self._ask(Restart(unit))

    def _ask(self, request: Request, descriptors: int = 0) -> list[int]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(self._timeout_s)
            try:
                connection.connect(self._path)
                connection.send(encode(request))
                payload, received = _received(connection, descriptors)
            except OSError as error:
                raise RequestError(
                    f"the helper at {self._path} does not answer ({error.strerror or error}):"
                    " systemctl status dmssd-helper.socket"
                ) from None
        problem = _problem(payload, len(received), descriptors)
        if problem:
            for each in received:
                os.close(each)
            raise RequestError(f"the helper did not do it: {problem}")
        return received


def _received(connection: socket.socket, descriptors: int) -> tuple[bytes, list[int]]:
    space = socket.CMSG_SPACE(descriptors * array.array("i").itemsize)
    payload, ancillary, _, _ = connection.recvmsg(MESSAGE_BYTES_MAX + 1, space, socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return payload, list(found)


def _problem(payload: bytes, received: int, expected: int) -> str:
    if not payload:
        return "it ended without a word; journalctl -u 'dmssd-helper@*' says why"
    try:
        answer = decode_answer(payload)
    except RemoteProtocolError as error:
        return str(error)
    if answer.ok and received != expected:
        return f"it sent {received} descriptors in place of {expected}"
    return "" if answer.ok else answer.error or "it does not say why"
