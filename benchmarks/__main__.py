"""``python -m benchmarks [NAME ...]``: all benchmarks, or those named, and one table at the end.

    python -m benchmarks                    all of them
    python -m benchmarks gossip status      these two
    python -m benchmarks --wait 600         wait that many seconds for a quiet machine before each (60)

Each runs in a process of its own (``python -m benchmarks.NAME``, which also works alone), after the machine has become
quiet or has been waited for in vain, and the table says which. A missed aim is told, not an error: the exit status is
1 only if a benchmark could not measure. Settings: ``IDLE_SECONDS`` (60; the real figure takes 600), ``TRIALS``
(coldstart 5, healing 30, segment 3, status 20).
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

from benchmarks.machine import RESULTS_VARIABLE, Figure, describe, wait_for_quiet

BENCHMARKS = {
    "spf": "SPT-ECMP from one source, beside networkx",
    "fib": "10,000 ECMP routes into the kernel, beside ip -batch; one group swap",
    "gossip": "gossip datagrams per CPU second",
    "status": "dmssd status, wall time",
    "coldstart": "all daemons started: last one up to all-pairs ping",
    "healing": "a transit node dies: how long a flow is interrupted",
    "segment": "twenty nodes on one segment: cold start, and its designated member lost",
    "idle": "memory and CPU of an idle daemon",
    "writes": "what a daemon at rest writes to its disk in an hour",
    "small": "a member of 24 with one processor and 512 MiB, with and without the profile for small boards",
    "members": "how the memory of a node grows with the members of its mesh",
    "flood": "a daemon under 50,000 datagrams of rubbish a second",
    "handshakes": "handshakes in a mesh of more members than sessions",
}
"""In the order in which they run: the short ones first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one benchmark gave: its figures (none if it failed) and how the machine was before it."""

    name: str
    machine: str
    figures: list[Figure]
    status: int


def run(name: str, wait_s: float) -> Outcome:
    """Wait for a quiet machine, run one benchmark with its output going to ours, collect its figures."""
    print(f"\n== {name}: {BENCHMARKS[name]}", flush=True)
    machine = wait_for_quiet(wait_s)
    print(machine, flush=True)
    with tempfile.TemporaryDirectory() as directory:
        results = Path(directory) / "results"
        results.touch()
        environment = {**os.environ, RESULTS_VARIABLE: str(results)}
        with subprocess.Popen([sys.executable, "-m", f"benchmarks.{name}"], env=environment) as child:
            try:
                status = child.wait()
            except KeyboardInterrupt:
                # subprocess.run would kill it: it must be let take down its lab first.
                child.terminate()
                child.wait()
                raise
        figures = [msgspec.json.decode(line, type=Figure) for line in results.read_bytes().splitlines()]
    return Outcome(name, machine, figures, status)


def table(outcomes: list[Outcome]) -> str:
    """Figure, aim, measured, and whether it was met; under each benchmark how the machine was."""
    rows = [("figure", "aim", "measured", "")]
    for outcome in outcomes:
        rows += [
            (figure.name, figure.aim, figure.measured, {True: "met", False: "MISSED", None: ""}[figure.met])
            for figure in outcome.figures
        ]
        if outcome.status:
            rows.append((outcome.name, "", f"could not be measured (status {outcome.status})", "FAILED"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * sum(widths, 6), *lines[1:]])


def main() -> int:
    """Run what was asked for; 1 if any of it failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--wait", type=float, default=60.0, metavar="S", help="longest wait for a quiet machine")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    print(f"{date.today().isoformat()}, {describe()}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    outcomes = []
    try:
        for name in options.names or BENCHMARKS:
            outcomes.append(run(name, options.wait))  # noqa: PERF401 - those that were run are shown after Ctrl-C, too
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    finally:
        if outcomes:
            print(f"\n{table(outcomes)}\n")
            for outcome in outcomes:
                print(f"before {outcome.name}: {outcome.machine}")
    return 1 if any(outcome.status for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
