"""Notices when somebody else takes our routes or nexthops out of the kernel.

A flush, a network manager that cleans up what it does not know, a colleague with ``ip route``: the kernel announces
each deletion, with the port of the socket that asked for it. A filter in the kernel (classic BPF over the netlink
header, bpf(2), include/uapi/linux/filter.h) lets through only deletions of protocol 201 that are not of our own
asking, so that programming ten thousand routes costs this socket nothing. What was deleted is not looked at: the
forwarding table is read back once for all that has arrived.

    offset in the datagram | 4: u16 message type | 12: u32 port | 18: nexthop's protocol | 21: route's protocol
"""

import ctypes
import errno
import socket
import struct

from dmssd.driver.loop import FibSuspect
from routing.fib import FIB_PROTOCOL

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_GROUPS = (7, 11, 32)  # RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_NEXTHOP
_RTM_DELROUTE, _RTM_DELNEXTHOP = 25, 105
_SO_ATTACH_FILTER = 26
_LD_WORD, _LD_HALF, _LD_BYTE, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x30, 0x15, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_DATAGRAMS_MAX = 4096
"""Announcements taken at once; what is beyond is taken at the next turn, and costs one more reading."""


class FibWatch:
    """A source of ``FibSuspect`` for the event loop. ``port``: the netlink port that our own writes come from."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._attach(_program(port))
        self._socket.bind((0, 0))
        for group in _GROUPS:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def receive(self) -> tuple[list[FibSuspect], bool]:
        """One suspicion for all that has been announced."""
        found = False
        for _ in range(_DATAGRAMS_MAX):
            try:
                self._socket.recv(1, socket.MSG_TRUNC)  # not 0, for which Python does not ask the kernel at all
                found = True
            except BlockingIOError:
                break
            except OSError as problem:
                if problem.errno != errno.ENOBUFS:
                    raise
                found = True
        return ([FibSuspect()] if found else []), False

    def _attach(self, program: bytes) -> None:
        # struct sock_fprog holds a pointer, so the buffer must live until the call returns.
        buffer = ctypes.create_string_buffer(program, len(program))
        fprog = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(buffer))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def _program(port: int) -> bytes:
    # Loads are big-endian, the netlink header is in host order: hence htons and htonl.
    instructions = (
        (_LD_WORD, 0, 0, 12),
        (_JUMP_EQUAL, 8, 0, socket.htonl(port)),
        (_LD_HALF, 0, 0, 4),
        (_JUMP_EQUAL, 0, 2, socket.htons(_RTM_DELROUTE)),
        (_LD_BYTE, 0, 0, 21),
        (_JUMP_EQUAL, 3, 4, FIB_PROTOCOL),
        (_JUMP_EQUAL, 0, 3, socket.htons(_RTM_DELNEXTHOP)),
        (_LD_BYTE, 0, 0, 18),
        (_JUMP_EQUAL, 0, 1, FIB_PROTOCOL),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    )
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)
