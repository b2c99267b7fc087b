"""A lab for a benchmark: up, all members known to all, and gone afterwards however the benchmark ends."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from dmssd.lab.errors import LabError
from dmssd.lab.interrupts import interruptible
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import cleaned, clear_remainder
from sansio.errors import DmssdError

SETTLED_SECONDS = 60.0


@contextlib.contextmanager
def bench_lab(shape: str, name: str) -> Iterator[Lab]:
    """A converged lab of which every node sees every other as a member that is up; SystemExit where it fails."""
    try:
        with interruptible(), cleaned(name):
            clear_remainder(name)
            lab = Lab.up(shape, name)
            wait_until(lambda: all(sees_all(lab, node) for node in lab.nodes), SETTLED_SECONDS, "all see all members")
            yield lab
    except DmssdError as problem:
        raise SystemExit(str(problem)) from None


def sees_all(lab: Lab, node: str) -> bool:
    """Whether that node answers and sees as many members up as the lab has nodes."""
    try:
        members = lab.client(node).get("members")
    except DmssdError:
        return False
    return sum(1 for member in members if member["state"] == "up") == len(lab.nodes)


def wait_until(claim: Callable[[], bool], seconds: float, what: str) -> None:
    """LabError naming ``what`` was waited for, if it does not come about within ``seconds``."""
    until = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > until:
            raise LabError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


def setting(variable: str, default: int) -> int:
    """A whole number above 0 from the environment; SystemExit that says so if it is none."""
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or int(text) == 0:
        raise SystemExit(f"{variable} must be a whole number above 0, got {text!r}")
    return int(text)
