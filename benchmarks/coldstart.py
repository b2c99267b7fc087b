"""``python -m benchmarks.coldstart``: from the last daemon being up until every node pings every other.

The lab's nodes are members of one mesh already. For each trial all daemons are stopped, and the kernels made cold:
routes and nexthops of protocol 201, the nodes' addresses on lo, and neighbour entries are removed in every namespace.
Then all daemons are started at once. A daemon is *up* when it says ``READY=1`` to its service manager, which this
program plays (``NOTIFY_SOCKET``); by then it has looked at its links and handles events. When the last one is up, a
prober in each namespace begins to ping all others over IPv4 and IPv6, every 40 ms those that have not answered; the
figure is the time from the last ``READY=1`` to the last first answer. The time from the first command to the last
daemon being up is printed beside it: it is mostly Python's imports, 11 or 16 times on the processors that there are.

``TRIALS`` (5) for each shape; the median is the figure.
"""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks import prober
from benchmarks.labs import bench_lab, setting
from benchmarks.machine import Figure, load, report
from dmssd.lab.errors import LabError
from dmssd.lab.lab import Lab
from dmssd.lab.plumbing import ends

AIM_S = 1.5
SHAPES = {"abilene": "benchabilene", "grid:4x4": "benchgrid"}
PROBE_MS = 40
LIMIT_S = 30
READY_SECONDS = 60.0
COLD = """
{
    ip -4 route flush proto 201
    ip -6 route flush proto 201
    ip nexthop flush proto 201
    ip -4 address flush dev lo scope global
    ip -6 address flush dev lo scope global
    for link; do ip -6 neigh flush dev "$link" nud all; done
} >/dev/null 2>&1
ip -o route show proto 201
ip -o -6 route show proto 201
ip -o nexthop show proto 201
ip -o address show dev lo scope global
"""


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds: from the first command to the last daemon being up, and on from there to all pairs."""

    up: float
    all_pairs: float


@contextlib.contextmanager
def manager_socket() -> Iterator[socket.socket]:
    """A service manager's socket, named in the environment that daemons inherit."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            os.environ["NOTIFY_SOCKET"] = path
            try:
                yield manager
            finally:
                del os.environ["NOTIFY_SOCKET"]


def make_cold(lab: Lab) -> None:
    """Leave no daemon, and nothing of one in the kernel."""
    lab.stop_daemons()
    for node in lab.nodes:
        links = [interface for interface, _ in ends(lab.design, node)]
        done = lab.exec(node, ["sh", "-c", COLD, "cold", *links])
        if done.stdout.strip():
            raise LabError(f"{node} is not cold: {done.stdout.strip()}")


@contextlib.contextmanager
def probers(lab: Lab) -> Iterator[list["subprocess.Popen[str]"]]:
    """One per node, ready and asleep."""
    with contextlib.ExitStack() as stack:
        started = []
        for node in lab.design.nodes:
            others = [a for other in lab.design.nodes if other != node for a in (other.address4, other.address6)]
            argv = [sys.executable, "-I", "-S", prober.__file__, str(PROBE_MS), str(LIMIT_S), *others]
            child = subprocess.Popen(
                lab.exec_argv(node.name, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(child)
            stack.callback(child.kill)
            started.append(child)
        for child in started:
            assert child.stdout is not None
            if child.stdout.readline() != "ready\n":
                raise LabError("a prober did not start")
        yield started


def await_ready(manager: socket.socket, count: int) -> float:
    """Wait for so many daemons to be up; when the last one was."""
    manager.settimeout(READY_SECONDS)
    while count:
        try:
            message = manager.recv(4096)
        except TimeoutError:
            raise LabError(f"{count} daemons are not up after {READY_SECONDS:.0f} s") from None
        count -= message.startswith(b"READY=1")
    return time.monotonic()


def trial(lab: Lab, manager: socket.socket) -> Start:
    """One cold start."""
    make_cold(lab)
    with probers(lab) as children:
        began = time.monotonic()
        lab.start_daemons()
        up = await_ready(manager, len(lab.nodes))
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = []
        for child in children:
            assert child.stdout is not None
            answers.append(msgspec.json.decode(child.stdout.readline(), type=dict[str, int]))
    wanted = 2 * len(lab.nodes) * (len(lab.nodes) - 1)
    if (got := sum(len(answer) for answer in answers)) != wanted:
        print(f"   {wanted - got} of {wanted} pings not answered within {LIMIT_S} s")
        return Start(up - began, float("inf"))
    return Start(up - began, max(max(answer.values()) for answer in answers) / 1e9 - up)


def main() -> None:
    """All shapes, one after another."""
    trials = setting("TRIALS", 5)
    figures = []
    for shape, name in SHAPES.items():
        with bench_lab(shape, name) as lab, manager_socket() as manager:
            print(f"load average {load()}; {shape}, {len(lab.nodes)} daemons, {trials} trials", flush=True)
            starts = []
            for _ in range(trials):
                starts.append(trial(lab, manager))
                print(
                    f"   all up after {starts[-1].up:.2f} s, all pairs {starts[-1].all_pairs:.2f} s later", flush=True
                )
        median = statistics.median(start.all_pairs for start in starts)
        up = statistics.median(start.up for start in starts)
        measured = f"{median:.2f} s (after {up:.1f} s to start all)"
        figures.append(Figure(f"cold start, {shape}", f"{AIM_S} s", measured, median <= AIM_S))
    report(figures)


if __name__ == "__main__":
    main()
