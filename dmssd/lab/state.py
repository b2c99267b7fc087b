"""What a lab remembers on disk: its design, its processes and its faults, written before each thing is made.

One JSON file, ``/run/dmssd-lab/LAB/state.json``, replaced atomically and changed only under a lock on its directory.
/run is empty after a boot, so a process id of before never survives here. A lab has an *owner*, the process that
builds it or holds it for a demo or a test, until it is handed over; a lab whose owner has died is a remainder, which
the next ``up`` of that name clears away.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dmssd.lab import design
from dmssd.lab.design import Design
from dmssd.lab.errors import LabError


class Process(msgspec.Struct, frozen=True):
    """A process for certain: its id, and when it started in clock ticks since boot (proc(5), field 22 of stat)."""

    pid: int
    started: int


class Fault(msgspec.Struct, frozen=True):
    """A fault in force. ``link-down`` and ``drop`` are of the links of a and b; ``drop-node`` of all links of a.

    ``loss``: of the links of a and b, or of all of a, ``percent`` of the packets are lost. ``freeze``: a's daemon is
    stopped. ``clock``: the time of day of a's daemon is wrong by ``seconds``.
    """

    kind: str
    a: str
    b: str = ""
    one_way: bool = False
    seconds: int = 0
    percent: int = 0

    def __str__(self) -> str:
        if self.kind in ("drop-node", "freeze"):
            return f"{self.kind} {self.a}"
        if self.kind == "clock":
            return f"clock {self.a} {self.seconds:+d}"
        if self.kind == "loss":
            return f"loss {self.percent} {self.a} {self.b}".rstrip()
        return f"{self.kind} {self.a} {self.b}{' --one-way' if self.one_way else ''}"


class State(msgspec.Struct):
    """All that is on disk of one lab."""

    design: Design
    owner: Process | None
    processes: dict[str, Process] = {}
    faults: list[Fault] = []


@dataclass(frozen=True, slots=True)
class StateFile:
    """The state of the lab of that name, on disk."""

    lab: str

    @property
    def directory(self) -> Path:
        """The lab's directory; its existence is the lab's."""
        return design.LABS_DIRECTORY / self.lab

    def read(self) -> State | None:
        """The state, or None where there is no lab (or one that died before it had made anything)."""
        try:
            return msgspec.json.decode((self.directory / "state.json").read_bytes(), type=State)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, msgspec.ValidationError) as problem:
            raise LabError(
                f"{self.directory}/state.json is not of this version ({problem}); end the lab's daemons, then remove it"
            ) from problem

    def write(self, state: State) -> None:
        """Replace the state; whoever reads sees the old or the new one whole."""
        scratch = self.directory / "state.json.new"
        scratch.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=1))
        scratch.replace(self.directory / "state.json")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with this lab's state; waits for whoever else changes it. LabError where there is no lab."""
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise LabError(f"there is no lab {self.lab}; make one with: dmssd lab up SHAPE --name {self.lab}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def changing(self) -> Iterator[State]:
        """The state to change in place; written on leaving, unless by an exception."""
        with self.locked():
            state = self.read()
            if state is None:
                raise LabError(f"lab {self.lab} is only a remainder; clear it with: dmssd lab down {self.lab}")
            yield state
            self.write(state)


def labs() -> list[str]:
    """The names of all labs that have a directory."""
    if not design.LABS_DIRECTORY.is_dir():
        return []
    return sorted(entry.name for entry in design.LABS_DIRECTORY.iterdir() if entry.is_dir() and entry.name[0] != ".")
