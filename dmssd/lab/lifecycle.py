"""How a lab comes to be and goes, whatever happened to whoever made it.

The name is taken by a rename of a finished directory, so that a lab's directory never exists without its state. The
end goes by what is recorded and by what bears the lab's name, and may be repeated.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dmssd.lab import design, interrupts, plumbing, processes
from dmssd.lab.design import Design
from dmssd.lab.errors import LabError
from dmssd.lab.state import State, StateFile, labs


def require_root() -> None:
    """LabError unless this process may make namespaces."""
    if os.geteuid() != 0:
        raise LabError("a lab makes network namespaces, which needs root; run it with sudo")


def claim(plan: Design) -> None:
    """Take the name: the state is on disk, owned by this process, when this returns. A remainder is cleared first."""
    file = StateFile(plan.name)
    clear_remainder(plan.name)
    scratch = design.LABS_DIRECTORY / f".{plan.name}.{os.getpid()}"
    scratch.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        StateFile(scratch.name).write(State(plan, processes.myself()))
        scratch.rename(file.directory)
    except OSError:
        raise LabError(_exists(plan.name)) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _exists(name: str) -> str:
    return f"lab {name} exists; take it down first: dmssd lab down {name}"


def _in_use(name: str, pid: int) -> str:
    return f"lab {name} is in use by process {pid}; wait for it, or end it: kill {pid}"


def clear_remainder(name: str) -> bool:
    """Clear what a crashed lab of that name left; whether there was any. LabError if a lab of that name lives."""
    state = StateFile(name).read()
    if state is not None:
        if state.owner is None:
            raise LabError(_exists(name))
        if processes.alive(state.owner):
            raise LabError(_in_use(name, state.owner.pid))
    elif not StateFile(name).directory.exists() and not plumbing.existing(name):
        return False
    take_down(name)
    return True


def take_down(name: str) -> list[str]:
    """End the recorded processes, delete the namespaces and the directory, whatever of them exists.

    Returns a sentence for each process that is not the lab's and still lives in one of its namespaces (a shell, say):
    it is left alone. LabError, with nothing changed, while another process builds or holds the lab.
    """
    require_root()
    file = StateFile(design.check_lab_name(name))
    with _locked_if_there(file):
        state = file.read()
        namespaces = plumbing.existing(name)
        if state is not None:
            if state.owner is not None and state.owner != processes.myself() and processes.alive(state.owner):
                raise LabError(_in_use(name, state.owner.pid))
            processes.end(state.processes.values())
            namespaces += [place.namespace for place in state.design.places if place.namespace not in namespaces]
        strangers = processes.living_in(plumbing.namespace_path(namespace) for namespace in namespaces)
        plumbing.remove(namespaces)
        for directory in [file.directory, *_abandoned(name)]:
            shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        design.LABS_DIRECTORY.rmdir()  # only if it was the last
    return [f"process {pid} ({command}) still runs in a namespace of lab {name}" for pid, command in strangers]


def _abandoned(name: str) -> list[Path]:
    """Scratch directories of builders of that lab that died before they had taken its name."""
    found = design.LABS_DIRECTORY.glob(f".{name}.*")
    return [path for path in found if processes.identify(int(path.name.rpartition(".")[2])) is None]


@contextlib.contextmanager
def _locked_if_there(file: StateFile) -> Iterator[None]:
    if file.directory.exists():
        with file.locked():
            yield
    else:
        yield


def all_labs() -> list[str]:
    """The names of all labs of which anything exists."""
    return sorted({*labs(), *plumbing.labs_with_namespaces()})


def exists(name: str) -> bool:
    """Whether anything of that lab exists."""
    return StateFile(name).directory.exists() or bool(plumbing.existing(name))


@contextlib.contextmanager
def cleaned(name: str) -> Iterator[None]:
    """On leaving, however, a lab of that name that this process still owns is taken down, and no signal stops that."""
    try:
        yield
    finally:
        interrupts.ignore()
        state = StateFile(name).read()
        if state is not None and state.owner == processes.myself():
            take_down(name)
