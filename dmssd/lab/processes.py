"""Starting and ending processes without ever ending a stranger's.

A process is known by its id *and* its start time, and is signalled through a pidfd opened before that time is checked,
so an id that was reused meanwhile is never hit. A new one waits at a gate (a pipe) until it has been recorded; if the
recorder dies first the pipe closes and the newcomer ends by itself, so no unrecorded process ever runs.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dmssd.lab.state import Process

GATE = 'read -r go && [ "$go" = go ] && exec "$@" </dev/null'
TERM_SECONDS = 3.0
"""How long a daemon may take to stop by itself; longer leaves cleaner logs, shorter a faster ``down``."""


def identify(pid: int) -> Process | None:
    """That process with its start time, or None if it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else Process(pid, int(fields[19]))


def myself() -> Process:
    """The process that asks."""
    me = identify(os.getpid())
    assert me is not None
    return me


def alive(process: Process) -> bool:
    """Whether it is this very process that still runs."""
    return identify(process.pid) == process


def inside(namespace: Path) -> list[str]:
    """The command line of nsenter that runs what follows in a network namespace, and only that."""
    return ["nsenter", f"--net={namespace}", "--"]


def launch(
    argv: Sequence[str],
    record: Callable[[Process], None],
    *,
    stdout: int,
    stderr: int,
    directory: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start ``argv`` in a session of its own, once ``record`` has returned."""
    child = subprocess.Popen(
        ["/bin/sh", "-c", GATE, "gate", *argv],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        cwd=directory,
        start_new_session=True,
    )
    assert child.stdin is not None
    try:
        process = identify(child.pid)
        if process is not None:
            record(process)
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(b"go\n")
    finally:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.stdin = None  # communicate() would flush it
    return child


def end(processes: Iterable[Process], *, at_once: bool = False) -> None:
    """End them and wait until they are gone: SIGTERM, after three seconds SIGKILL (at once, if asked)."""
    handles = {descriptor: process for process in processes if (descriptor := _open(process)) is not None}
    try:
        waiting = list(handles)
        if not at_once:
            waiting = _signal_and_wait(waiting, signal.SIGTERM, TERM_SECONDS)
        _signal_and_wait(waiting, signal.SIGKILL, TERM_SECONDS)
    finally:
        for descriptor in handles:
            os.close(descriptor)


def send(process: Process, number: signal.Signals) -> None:
    """Signal exactly that process, if it is there."""
    if (descriptor := _open(process)) is not None:
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _open(process: Process) -> int | None:
    """A pidfd of exactly that process."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if alive(process):
        return descriptor
    os.close(descriptor)
    return None


def _signal_and_wait(descriptors: list[int], number: signal.Signals, seconds: float) -> list[int]:
    """Those that are still there after ``seconds``."""
    for descriptor in descriptors:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
    until = time.monotonic() + seconds
    waiting = list(descriptors)
    while waiting and (left := until - time.monotonic()) > 0:
        ended, _, _ = select.select(waiting, [], [], left)
        waiting = [descriptor for descriptor in waiting if descriptor not in ended]
    return waiting


def living_in(namespaces: Iterable[Path]) -> list[tuple[int, str]]:
    """Processes (id, command) whose network namespace is one of these: they keep it alive after its name is gone."""
    inodes = set()
    for path in namespaces:
        with contextlib.suppress(OSError):
            inodes.add(path.stat().st_ino)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino in inodes:
                    found.append((int(entry.name), (entry / "comm").read_text().strip()))
    return sorted(found)
