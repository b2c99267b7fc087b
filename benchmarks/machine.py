"""What every benchmark says of the machine, and how it hands over its figures.

A benchmark prints what it measured as it goes and calls :func:`report` with its figures at the end. Run by
``python -m benchmarks`` it finds the name of a file in ``DMSSD_BENCH_RESULTS`` and appends them there too, one JSON
line each, so that a benchmark that starts itself anew (in a namespace of its own) needs no pipe back.

Whether the machine is quiet is read from /proc/stat over a few seconds, not from the load average, which after every
benchmark still speaks of that benchmark for minutes. The load average is printed beside it for whoever reads later.
"""

import math
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

RESULTS_VARIABLE = "DMSSD_BENCH_RESULTS"
QUIET_SHARE = 0.10
"""Busier than this, all processors taken together, is not quiet."""
SAMPLE_SECONDS = 2.0
_IDLE_COLUMNS = (3, 4)  # idle and iowait of proc_stat(5)


class Figure(msgspec.Struct, frozen=True):
    """One figure: ``met`` is None where there is no aim to meet."""

    name: str
    aim: str
    measured: str
    met: bool | None = None


def report(figures: Sequence[Figure]) -> None:
    """Print the figures, and hand them to ``python -m benchmarks`` if it started this."""
    for figure in figures:
        print(f"{figure.name}: {figure.measured} (aim {figure.aim}{verdict(figure)})", flush=True)
    if path := os.environ.get(RESULTS_VARIABLE):
        with Path(path).open("ab") as results:
            results.writelines(msgspec.json.encode(figure) + b"\n" for figure in figures)


def verdict(figure: Figure) -> str:
    """``, met`` or ``, missed`` or nothing."""
    return {True: ", met", False: ", missed", None: ""}[figure.met]


def load() -> str:
    """The load average of the last 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def describe() -> str:
    """Processors and kernel, in a line."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    return f"{os.cpu_count()} x {model}, Linux {os.uname().release}"


def wait_for_quiet(limit_s: float) -> str:
    """Wait until the processors are hardly used, ``limit_s`` at most; says how it was, with the load average."""
    until = time.monotonic() + limit_s
    while (busy := busy_share(SAMPLE_SECONDS)) > QUIET_SHARE and time.monotonic() < until:
        pass
    if busy <= QUIET_SHARE:
        return f"load average {load()}; quiet ({busy:.0%} busy)"
    return f"load average {load()}; BUSY: others take {busy:.0%} of the processors"


def busy_share(seconds: float) -> float:
    """The share of all processors' time that was not idle during the next ``seconds``; stolen time counts as busy."""
    before = _jiffies()
    time.sleep(seconds)
    spent = [now - then for now, then in zip(_jiffies(), before, strict=True)]
    return 1 - sum(spent[column] for column in _IDLE_COLUMNS) / max(1, sum(spent))


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile: the least value that ``share`` of the values do not exceed; inf may be among them."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def spread(values: Sequence[float]) -> str:
    """Median, 9th decile and maximum."""
    parts = (statistics.median(values), quantile(values, 0.9), max(values))
    return "median {:.0f}, p90 {:.0f}, max {:.0f}".format(*parts)


def _jiffies() -> list[int]:
    # guest time, columns 8 and 9, is contained in user time already
    return [int(value) for value in _lines("/proc/stat")[0].split()[1:9]]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
