"""``python -m benchmarks.idle``: what an idle daemon takes, as TopologyProcessor and Forwarder with three adjacencies.

The Abilene mesh of eleven daemons, left alone for ``IDLE_SECONDS`` (60; the figure that counts takes 600). CPU time is
what the kernel charged all threads of the process over that whole time (/proc/PID/task/*/schedstat); memory is read at
the end. RSS counts every page the process maps, PSS a page shared with others in parts, so PSS gains from the ten
other daemons that map the same libraries. All eleven are printed; the figure is the TopologyProcessor's.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.labs import bench_lab, setting
from benchmarks.machine import Figure, load, report
from dmssd.lab.lab import Lab

AIM_MIB, AIM_MS_PER_S = 60, 10
SHAPE, NAME = "abilene", "benchidle"
ADJACENCIES = 3
SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB of one process."""

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """Read now."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return Memory(*(int(fields[name].split()[0]) / 1024 for name in ("Rss", "Pss")))


def cpu_ns(pid: int) -> int:
    """CPU time of all threads so far."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def subject(lab: Lab) -> str:
    """A TopologyProcessor with three neighbours."""
    return next(node for node in lab.design.tps if len(lab.client(node).get("status")["neighbours"]) == ADJACENCIES)


def main() -> None:
    """Wait, measure all, report one."""
    seconds = setting("IDLE_SECONDS", 60)
    with bench_lab(SHAPE, NAME) as lab:
        node = subject(lab)
        time.sleep(SETTLE_SECONDS)
        print(f"load average {load()}; {len(lab.nodes)} daemons idle for {seconds} s")
        pids = lab.running()
        began = time.monotonic()
        before = {name: cpu_ns(pid) for name, pid in pids.items()}
        time.sleep(seconds)
        taken = {name: (cpu_ns(pid) - before[name]) / 1e6 for name, pid in pids.items()}
        elapsed = time.monotonic() - began
        held = {name: memory(pid) for name, pid in pids.items()}
        print(f"load average {load()} at the end")
    for name in pids:
        role = "tp, fd" if name in lab.design.tps else "fd"
        numbers = f"RSS {held[name].rss:5.1f} MiB, PSS {held[name].pss:5.1f} MiB, {taken[name] / elapsed:5.1f} ms/s"
        print(f"{name:14} {role:6} {numbers}{'  <- the figure' if name == node else ''}")
    rss, pss, cpu = held[node].rss, held[node].pss, taken[node] / elapsed
    report(
        [
            Figure(
                f"daemon after {seconds} s idle, TP and FD, 3 adjacencies: memory",
                f"{AIM_MIB} MiB",
                f"RSS {rss:.1f} MiB, PSS {pss:.1f} MiB",
                rss <= AIM_MIB,
            ),
            Figure("the same: CPU", f"{AIM_MS_PER_S} ms/s", f"{cpu:.1f} ms/s", cpu <= AIM_MS_PER_S),
        ]
    )


if __name__ == "__main__":
    main()
