"""``python -m benchmarks.small``: a member of a mesh of 24 on a small board, with and without ``profile = "small"``.

A grid of four by six real daemons, links point to point. Two of them, a half turn of the grid apart so that they relay
alike, are boards with a processor and 512 MiB each (:mod:`benchmarks.boards`); one runs by the defaults, the other by
the profile. Three adjacencies each, Forwarders, not named as TopologyProcessors, and not asked anything while they are
watched.

*Start*: from the command to ``READY=1``, the median of ``TRIALS`` (5) restarts, the two by turns; the processor time
that it took. Then all is left alone for ``SMALL_MINUTES`` (10). *Memory*: RSS and PSS at the end (the other daemons
share their libraries with it, so a board has nearer to the RSS), the largest RSS, and the most that its control group
was ever charged. *CPU*: what the kernel charged its threads. *Bandwidth*: what went over its three links, both ways,
all headers counted. At the end each must be up in the eyes of all others and reach all of them, and is asked for its
status for the first time.
"""

import contextlib
import json
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.boards import Board, board
from benchmarks.coldstart import await_ready, manager_socket
from benchmarks.idle import Memory, cpu_ns, memory
from benchmarks.labs import bench_lab, sees_all, setting, wait_until
from benchmarks.machine import Figure, load, report
from dmssd.lab import design
from dmssd.lab.errors import LabError
from dmssd.lab.lab import Lab

SHAPE, NAME = "grid:4x6", "benchsmall"
SUBJECTS = {"default": "r0c1", "small": "r3c4"}
SETTLE_S, UP_S = 20.0, 60.0
TROUBLE = ("member.suspect", "member.down", "neighbour.down")


@dataclass(slots=True)
class Subject:
    """One board: what it is called, where it runs, and what was measured of it."""

    profile: str
    node: str
    board: Board
    starts: list[tuple[float, float]] = field(default_factory=list)
    pid: int = 0
    memory: Memory = Memory(0, 0)
    peak_mib: float = 0
    cpu_ms_per_s: float = 0
    bytes_per_s: float = 0
    answer_ms: float = 0
    asked: Memory = Memory(0, 0)
    trouble: str = ""


@contextlib.contextmanager
def subjects() -> Iterator[list[Subject]]:
    """The two boards, each with a processor of its own."""
    with contextlib.ExitStack() as stack:
        made = []
        for processor, (profile, node) in enumerate(SUBJECTS.items()):
            made.append(Subject(profile, node, stack.enter_context(board(f"dmssd-{NAME}-{profile}", processor))))
        yield made


def configure(lab: Lab, subject: Subject) -> None:
    """Have the node run by its profile: what the lab says of its roles would hide what the profile says."""
    file = design.node_directory(NAME, subject.node) / "config.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("roles =")]
    file.write_text("\n".join([f'profile = "{subject.profile}"', *lines]) + "\n")


def start(lab: Lab, subject: Subject, manager: socket.socket) -> None:
    """Start its daemon anew, on its board; how long until it was up, and the processor time by then."""
    lab.stop_daemons([subject.node])
    file = design.node_directory(NAME, subject.node) / "config.toml"
    run = [*subject.board.prefix, sys.executable, "-m", "dmssd", "run", "--config", str(file)]
    manager.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while manager.recv(4096):
            pass  # what the daemon before said at its end
    with lab.log(subject.node).open("ab") as log:
        began = time.monotonic()
        child = lab.launch(subject.node, lab.exec_argv(subject.node, run), log.fileno(), log.fileno())
    subject.pid = child.pid
    up = await_ready(manager, 1) - began
    subject.starts.append((up, cpu_ns(child.pid) / 1e9))


def carried(lab: Lab, node: str) -> int:
    """Bytes that its links have sent and received so far."""
    shown = json.loads(lab.exec(node, ["ip", "-s", "-j", "link"]).stdout)
    links = [each["stats64"] for each in shown if each["ifname"].startswith("to-")]
    return sum(int(counts[way]["bytes"]) for counts in links for way in ("rx", "tx"))


def watch(lab: Lab, boards: list[Subject], seconds: float) -> None:
    """Leave everything alone for so long, and measure."""
    told = {node: lab.log(node).stat().st_size for node in lab.nodes}
    began = time.monotonic()
    cpu = {each.node: cpu_ns(each.pid) for each in boards}
    sent = {each.node: carried(lab, each.node) for each in boards}
    time.sleep(seconds)
    for each in boards:
        elapsed = time.monotonic() - began
        each.cpu_ms_per_s = (cpu_ns(each.pid) - cpu[each.node]) / 1e6 / elapsed
        each.bytes_per_s = (carried(lab, each.node) - sent[each.node]) / elapsed
        each.memory = memory(each.pid)
        status = Path(f"/proc/{each.pid}/status").read_text()
        each.peak_mib = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    new = "".join(lab.log(node).read_bytes()[size:].decode(errors="replace") for node, size in told.items())
    for each in boards:
        each.trouble = trouble(new, each.node)
    print(f"all daemons of all nodes meanwhile: {trouble(new, '')}", flush=True)


def trouble(log: str, node: str) -> str:
    """How often ``log`` tells of each kind of trouble with a node (of anybody, if none is named)."""
    lines = [line for line in log.splitlines() if not node or f" name={node} " in f"{line} "]
    return ", ".join(f"{kind} {sum(f' {kind} ' in line for line in lines)}" for kind in TROUBLE)


def ask(lab: Lab, boards: list[Subject]) -> None:
    """The first question to each after its start, and what it holds from then on."""
    for each in boards:
        began = time.perf_counter()
        lab.client(each.node).get("status")
        each.answer_ms = (time.perf_counter() - began) * 1e3
        each.asked = memory(each.pid)


def measure(minutes: int, trials: int) -> list[Subject]:
    """Both boards."""
    with subjects() as boards, bench_lab(SHAPE, NAME) as lab:
        print(f"load average {load()}; {len(lab.nodes)} daemons; the boards by {boards[0].board.how}", flush=True)
        for each in boards:
            configure(lab, each)
        with manager_socket() as manager:
            for _ in range(trials):
                for each in boards:
                    start(lab, each, manager)
        others = [node for node in lab.nodes if node not in SUBJECTS.values()]
        wait_until(lambda: all(sees_all(lab, node) for node in others), UP_S, "all others see both boards")
        time.sleep(SETTLE_S)
        print(f"load average {load()}; watched for {minutes} min", flush=True)
        watch(lab, boards, minutes * 60)
        print(f"load average {load()} at the end", flush=True)
        if not all(sees_all(lab, node) for node in others):
            raise LabError("not all others see both boards at the end")
        if silent := lab.unreachable():
            raise LabError(f"{silent[0][0]} does not reach {silent[0][1]} at the end")
        ask(lab, boards)
        for each in boards:
            peak = each.board.peak_mib()
            charged = f"{peak:.1f} MiB" if peak is not None else "not counted here"
            print(f"{each.profile}: the most that its board held, page cache and kernel included: {charged}")
        lab.stop_daemons([each.node for each in boards])
        return boards


def main() -> None:
    """Measure, report."""
    minutes, trials = setting("SMALL_MINUTES", 10), setting("TRIALS", 5)
    figures = []
    for each in measure(minutes, trials):
        named = f'member of 24, 3 adjacencies, 1 processor, 512 MiB, profile = "{each.profile}"'
        up, used = (statistics.median(values) for values in zip(*each.starts, strict=True))
        held = f"RSS {each.memory.rss:.1f} MiB, PSS {each.memory.pss:.1f} MiB, peak RSS {each.peak_mib:.1f} MiB"
        figures += [
            Figure(f"{named}: start", "none", f"{up:.2f} s, {used:.2f} s of CPU"),
            Figure(f"the same, after {minutes} min: memory", "none", held),
            Figure("the same: CPU", "none", f"{each.cpu_ms_per_s:.1f} ms/s"),
            Figure("the same: bandwidth", "none", f"{each.bytes_per_s / 1e3:.2f} kB/s"),
            Figure("the same, told of it by others meanwhile", "none", each.trouble),
            Figure("the same: first answer", "none", f"{each.answer_ms:.0f} ms, then RSS {each.asked.rss:.1f} MiB"),
        ]
    report(figures)


if __name__ == "__main__":
    main()
