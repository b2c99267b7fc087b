"""``python -m benchmarks.status``: how long a shell waits for ``dmssd status`` from a real daemon.

The command of this environment (``bin/dmssd`` beside the interpreter) runs once uncounted, then ``TRIALS`` times (20),
each a whole process: interpreter, imports, one request over the admin socket, the printed answer. The daemon is one of
a ring of four, so that there are members and neighbours to print; all four idle meanwhile.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.labs import bench_lab, setting
from benchmarks.machine import Figure, load, report, spread

AIM_MS = 120
SHAPE, NAME = "ring:4", "benchstatus"


def wall_ms(command: list[str]) -> float:
    """How long the command takes; it must succeed."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    """Measure, beside an interpreter that only starts."""
    trials = setting("TRIALS", 20)
    with bench_lab(SHAPE, NAME) as lab:
        print(f"load average {load()}; {trials} runs")
        command = [str(Path(sys.executable).with_name("dmssd")), "--socket", str(lab.socket(lab.nodes[0])), "status"]
        wall_ms(command)
        times = [wall_ms(command) for _ in range(trials)]
        bare = statistics.median(wall_ms([sys.executable, "-c", "pass"]) for _ in range(trials))
    print(f"{spread(times)} ms; python -c pass takes {bare:.0f} ms of it")
    median = statistics.median(times)
    report([Figure("dmssd status, wall", f"{AIM_MS} ms", f"{median:.0f} ms", median <= AIM_MS)])


if __name__ == "__main__":
    main()
