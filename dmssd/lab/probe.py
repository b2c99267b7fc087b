"""A flow of numbered UDP datagrams between two nodes, and the way its packets take: a program for inside a namespace.

    probe.py send SOURCE SPORT DESTINATION DPORT INTERVAL_MS COUNT
    probe.py receive DESTINATION DPORT IDLE_S
    probe.py path SOURCE SPORT DESTINATION DPORT

``send`` sends one datagram per interval on a fixed 5-tuple; ``receive`` notes when each arrives, by the kernel's own
time stamp, so that a receiver that must wait for a CPU measures no outage that was not there; ``path`` sends a few on
the very same 5-tuple with growing hop limits and notes who says that the limit was exceeded (as traceroute does), and
so finds the way that the flow is hashed to. Each prints one JSON line. Both end on SIGTERM;
``receive`` also when nothing has come for IDLE_S, and ``send`` when its parent is gone, so that neither outlives the
measurement for long.

Standard library only, and no import of this project: it starts in 20 ms. IPv4.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import time

IP_RECVERR = 11
SO_TIMESTAMPNS = 35
HOPS_MAX = 32
PATH_TRIES = 3
PATH_WAIT_S = 0.3
PATH_PORT_CLOSED = 3  # ICMP type: destination unreachable, which the end of the way says
PATH_TIME_EXCEEDED = 11  # ICMP type
_STAMP = struct.Struct("!QQ")


def _prefer() -> None:
    """Go before ordinary processes, so that the sender's own stalls do not show as outage; does without if refused."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def send(source: str, source_port: int, destination: str, port: int, interval_ms: float, count: int) -> dict[str, int]:
    """Send ``count`` datagrams; returns how many were handed over, refused by the kernel, and the longest stall."""
    _prefer()
    parent = os.getppid()
    refused = longest = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((source, source_port))
        start = last = time.monotonic_ns()
        sent = 0
        try:
            while sent < count and os.getppid() == parent:
                due = start + int(sent * interval_ms * 1e6)
                time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
                now = time.monotonic_ns()
                longest, last = max(longest, now - last), now
                try:
                    sender.sendto(_STAMP.pack(sent, now), (destination, port))
                except OSError:
                    refused += 1
                sent += 1
        except SystemExit:
            pass
    return {"sent": sent, "refused": refused, "longest_stall_ns": longest}


def receive(address: str, port: int, idle_s: float) -> dict[str, list[list[int]]]:
    """Every (number, arrival in ns of the kernel's clock) in the order of arrival."""
    _prefer()
    arrivals: list[list[int]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.bind((address, port))
        receiver.settimeout(idle_s)
        print("ready", flush=True)
        try:
            while True:
                data, controls, _, _ = receiver.recvmsg(64, 64)
                if len(data) == _STAMP.size:
                    arrivals.append([_STAMP.unpack(data)[0], _arrival(controls)])
        except (TimeoutError, SystemExit):
            pass
    return {"arrivals": arrivals}


def _arrival(controls: "list[tuple[int, int, bytes]]") -> int:
    for level, kind, data in controls:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("=qq", data[:16])
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()  # noqa: TID251 - the kernel stamps packets by it


def path(source: str, source_port: int, destination: str, port: int) -> dict[str, list[str | None]]:
    """The address of each hop on the way, None for one that did not say; ends with the destination if it is reached."""
    hops: list[str | None] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sender.bind((source, source_port))
        for limit in range(1, HOPS_MAX + 1):
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, limit)
            answer = _ask(sender, destination, port)
            hops.append(answer)
            if answer == destination or hops[-3:] == [None] * 3:
                break
    return {"hops": hops}


def _ask(sender: socket.socket, destination: str, port: int) -> str | None:
    for _ in range(PATH_TRIES):
        with contextlib.suppress(OSError):  # an answer to the last one that came late; it is read below
            sender.sendto(_STAMP.pack(0, 0), (destination, port))
        until = time.monotonic() + PATH_WAIT_S
        while time.monotonic() < until:
            try:
                controls = sender.recvmsg(64, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)[1]
            except BlockingIOError:
                time.sleep(0.002)
                continue
            if (answer := _offender(controls)) is not None:
                return answer
    return None


def _offender(controls: "list[tuple[int, int, bytes]]") -> str | None:
    """Who sent the ICMP error: ``struct sock_extended_err`` with the sender's address after it (ip(7), IP_RECVERR)."""
    for level, kind, data in controls:
        if (level, kind) == (socket.IPPROTO_IP, IP_RECVERR) and data[5] in (PATH_TIME_EXCEEDED, PATH_PORT_CLOSED):
            return socket.inet_ntoa(data[20:24])
    return None


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit


def main(arguments: list[str]) -> None:
    """Run one of the three and print what it found."""
    signal.signal(signal.SIGTERM, _leave)
    result: object
    match arguments:
        case ["send", source, source_port, destination, port, interval_ms, count]:
            result = send(source, int(source_port), destination, int(port), float(interval_ms), int(count))
        case ["receive", address, port, idle_s]:
            result = receive(address, int(port), float(idle_s))
        case ["path", source, source_port, destination, port]:
            result = path(source, int(source_port), destination, int(port))
        case _:
            raise SystemExit(2)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
