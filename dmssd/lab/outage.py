"""How long a flow between two nodes was interrupted, measured from outside by ``probe``.

*Healed in* is the longest gap between two datagrams of a fixed 5-tuple received one after the other at the far end,
less the interval they are sent at. A gap at the end (the flow never came back) is no healing: then it is None.
"""

import itertools
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from dmssd.lab import probe
from dmssd.lab.errors import LabError
from dmssd.lab.lab import Lab

INTERVAL_MS = 5.0
PORT = 33_434
"""Where the probes go, and where ``dmssd trace`` traces to: with the same source port it shows the way of the flow."""
IDLE_SECONDS = 30.0
"""An outage of this length or more is not measured; a crashed measurement's receiver is gone after it."""
LAST_SECONDS = 0.1
"""For the last datagrams to arrive."""
FLOW_SECONDS_MAX = 600
TAIL = 20
"""So many of the last datagrams sent must include one received, or the flow is not healed."""


class _Sent(msgspec.Struct):
    sent: int
    refused: int
    longest_stall_ns: int


class _Received(msgspec.Struct):
    arrivals: list[tuple[int, int]]


class _Path(msgspec.Struct):
    hops: list[str | None]


@dataclass(frozen=True, slots=True)
class Outage:
    """``gap_ns``: the longest gap less the interval; None if the flow never came back. ``stall_ns``: the sender's."""

    gap_ns: int | None
    sent: int
    lost: int
    stall_ns: int


def judge(arrivals: Sequence[tuple[int, int]], sent: int, stall_ns: int, interval_ns: int) -> Outage:
    """The outage in a flow of ``sent`` datagrams of which these (number, time) arrived."""
    times = [time for _, time in arrivals]
    received = {number for number, _ in arrivals}
    came_back = bool(received) and max(received) >= sent - TAIL
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    gap = max(0, max(gaps, default=0) - interval_ns) if came_back else None
    return Outage(gap, sent, sum(1 for number in range(sent) if number not in received), stall_ns)


def _program(lab: Lab, node: str, *arguments: str) -> list[str]:
    # -I -S: the program needs nothing but the standard library, and starts three times as fast without the rest
    return lab.exec_argv(node, [sys.executable, "-I", "-S", probe.__file__, *arguments])


def way(lab: Lab, source: str, destination: str, source_port: int, port: int = PORT) -> list[str | None]:
    """The nodes that this very 5-tuple passes, the destination included; None for a hop that said nothing."""
    arguments = ["path", lab.address4(source), str(source_port), lab.address4(destination), str(port)]
    done = subprocess.run(_program(lab, source, *arguments), capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise LabError(f"the way from {source} to {destination} cannot be probed: {done.stderr.strip()[-200:]}")
    names: dict[str | None, str] = {node.address4: node.name for node in lab.design.nodes}
    return [names.get(address) for address in msgspec.json.decode(done.stdout, type=_Path).hops]


class Flow:
    """A flow that runs while the ``with`` block does; ``outage`` afterwards."""

    def __init__(self, lab: Lab, source: str, destination: str, source_port: int, port: int = PORT) -> None:
        self._lab = lab
        self._source = (source, lab.address4(source), str(source_port))
        self._destination = (destination, lab.address4(destination), str(port))
        self.outage: Outage | None = None

    def __enter__(self) -> Self:
        self._receiver = self._launch("receive", self._destination[0], *self._destination[1:], str(IDLE_SECONDS))
        assert self._receiver.stdout is not None
        if self._receiver.stdout.readline() != b"ready\n":
            raise LabError(f"no probe can be received at {self._destination[0]}: is its address on lo?")
        count = str(int(FLOW_SECONDS_MAX * 1000 / INTERVAL_MS))
        self._sender = self._launch(
            "send", self._source[0], *self._source[1:], *self._destination[1:], str(INTERVAL_MS), count
        )
        return self

    def _launch(self, verb: str, node: str, *arguments: str) -> "subprocess.Popen[bytes]":
        argv = _program(self._lab, node, verb, *arguments)
        return self._lab.launch(f"probe:{verb}", argv, subprocess.PIPE, subprocess.DEVNULL)

    def received(self) -> int:
        """How many IPv4 datagrams the far end has received so far: grows while the flow arrives."""
        lines = Path(f"/proc/{self._receiver.pid}/net/snmp").read_text().splitlines()
        titles, values = [line.split()[1:] for line in lines if line.startswith("Udp:")]
        return int(values[titles.index("InDatagrams")])

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        sent = self._stop(self._sender)
        time.sleep(LAST_SECONDS)
        received = self._stop(self._receiver)
        if kind is None:
            flow = msgspec.json.decode(sent, type=_Sent)
            arrivals = msgspec.json.decode(received, type=_Received).arrivals
            self.outage = judge(arrivals, flow.sent, flow.longest_stall_ns, int(INTERVAL_MS * 1e6))

    @staticmethod
    def _stop(child: "subprocess.Popen[bytes]") -> bytes:
        child.terminate()
        output, _ = child.communicate(timeout=10)
        return output
