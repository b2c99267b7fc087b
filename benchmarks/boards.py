"""A small board within this machine: one processor and 512 MiB for one process.

By control groups, version 1 or 2, where this process may make some; ``memory`` then holds whatever the process makes
the kernel keep as well, its page cache included, and going over it would have the process killed. Elsewhere by
taskset(1) and a limit on the address space, which says less, and the benchmark says that it was so.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEMORY_BYTES = 512 << 20
ROOT = Path("/sys/fs/cgroup")
_ENTER = 'for group in $0; do echo $$ >"$group/cgroup.procs" || exit 1; done; exec "$@"'
_GONE_S = 10.0


@dataclass(frozen=True, slots=True)
class Board:
    """``prefix`` goes before the command line of what is to run on it; ``how`` says what holds it there."""

    how: str
    prefix: tuple[str, ...]
    peak_file: Path | None = None

    def peak_mib(self) -> float | None:
        """The most memory that it took, the kernel's share included; None where nothing counts that."""
        return int(self.peak_file.read_text()) / (1 << 20) if self.peak_file is not None else None


@contextlib.contextmanager
def board(name: str, processor: int) -> Iterator[Board]:
    """A board with that processor; what ran on it must have ended before this is left."""
    with contextlib.ExitStack() as made:
        yield _version1(made, name, processor) or _version2(made, name, processor) or _limits(processor)


def _version1(made: contextlib.ExitStack, name: str, processor: int) -> Board | None:
    memory = _group(made, ROOT / "memory" / name, {"memory.limit_in_bytes": str(MEMORY_BYTES)})
    one = _group(made, ROOT / "cpuset" / name, {"cpuset.cpus": str(processor), "cpuset.mems": "0"})
    if memory is None or one is None:
        return None
    how = "control groups (version 1): memory.limit_in_bytes, cpuset.cpus"
    return Board(how, _entering(memory, one), memory / "memory.max_usage_in_bytes")


def _version2(made: contextlib.ExitStack, name: str, processor: int) -> Board | None:
    group = _group(made, ROOT / name, {"memory.max": str(MEMORY_BYTES), "cpuset.cpus": str(processor)})
    if group is None:
        return None
    peak = group / "memory.peak"
    how = "a control group (version 2): memory.max, cpuset.cpus"
    return Board(how, _entering(group), peak if peak.exists() else None)


def _limits(processor: int) -> Board:
    prefix = ("taskset", "-c", str(processor), "prlimit", f"--as={MEMORY_BYTES}", "--")
    return Board("taskset and a limit on the address space, as control groups cannot be made here", prefix)


def _entering(*groups: Path) -> tuple[str, ...]:
    return ("sh", "-c", _ENTER, " ".join(map(str, groups)))


def _group(made: contextlib.ExitStack, path: Path, settings: dict[str, str]) -> Path | None:
    """A new control group with these settings; None, and nothing left, where that cannot be had."""
    if not (path.parent / "cgroup.procs").exists():
        return None
    try:
        path.mkdir()
    except OSError:
        return None
    made.callback(_remove, path)
    try:
        for key, value in settings.items():
            (path / key).write_text(value)
    except OSError:
        return None
    return path


def _remove(path: Path) -> None:
    until = time.monotonic() + _GONE_S
    while True:
        try:
            return os.rmdir(path)
        except FileNotFoundError:
            return None
        except OSError:  # what ran there is not quite gone
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
