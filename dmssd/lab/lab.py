"""The lab as a whole: made, changed and taken down, for the command line, for tests and for benches.

    with Lab.up("ring:4", name="test") as lab:
        lab.exec("n1", ["ping", "-c1", lab.address4("n3")])
        lab.drop("n1", "n2")

Everything is written to the lab's state before it is made, and a change of the state is made under its lock, so that
a second command line works beside the first, and a crash at any moment leaves only what ``lifecycle.take_down`` finds.
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from dmssd.cli.client import AdminClient, DaemonNotRunning
from dmssd.driver.clock import SHIFT_VARIABLE
from dmssd.lab import design, faults, plumbing, processes, shapes
from dmssd.lab.design import Admission, Design
from dmssd.lab.errors import LabError
from dmssd.lab.lifecycle import claim, require_root, take_down
from dmssd.lab.state import Fault, Process, State, StateFile
from sansio.errors import RequestError

READY_SECONDS = 60.0
"""Longer than any machine needs to start all daemons; a daemon that dies is reported at once."""
JOIN_SECONDS = 70.0
"""A little more than a joiner's own time-out, so that its own words are what is shown."""
CONVERGED_SECONDS = 60.0
POLL_SECONDS = 0.05

Progress = Callable[[str], None]
Joiner = Callable[["Lab", Admission, str], None]


def _silent(_line: str) -> None:
    return


def join_by_api(lab: "Lab", admission: Admission, token: str) -> None:
    """Have a node join through its admin socket, asking its peer by the interface it is heard on."""
    lab.client(admission.node).post("join", {"peer": f"%{admission.interface}", "token": token}, JOIN_SECONDS)


@dataclass(slots=True)
class Lab:
    """A lab that exists. As a context manager it is taken down at the end; ``release`` hands it over."""

    design: Design
    sources: Mapping[str, Path] = field(default_factory=dict)
    """Nodes whose daemon is run from another source tree, another version say; known to this object alone."""
    _children: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    # --- making -------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, shape: str, name: str = "lab", tp: int = 3, weight: str | None = None) -> Self:
        """Namespaces, links and configuration files only: no daemon yet. Clears a crashed remainder of that name.

        Raises LabError, having made nothing, if such a lab exists, the shape is wrong or this is not root.
        """
        require_root()
        plan = design.design(shapes.parse(shape, weight), name, tp)
        claim(plan)
        lab = cls(plan)
        try:
            plumbing.make(plan)
            for node in plan.nodes:
                directory = design.node_directory(name, node.name)
                directory.mkdir(mode=0o700, parents=True)
                (directory / "config.toml").write_text(design.config_text(plan, node))
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def up(
        cls,
        shape: str,
        name: str = "lab",
        tp: int = 3,
        *,
        weight: str | None = None,
        sources: Mapping[str, Path] | None = None,
        join: bool = True,
        joiner: Joiner = join_by_api,
        progress: Progress = _silent,
    ) -> Self:
        """A lab with its daemons started and, unless ``join`` is false, all members of one mesh with all routes."""
        started = time.monotonic()
        lab = cls.build(shape, name, tp, weight)
        lab.sources = sources or {}
        try:
            count = f"{len(lab.design.nodes)} namespaces, {len(lab.design.links)} links"
            progress(f"{count} in {(time.monotonic() - started) * 1000:.0f} ms")
            progress(f"starting {len(lab.nodes)} daemons")
            lab.start_daemons()
            lab.wait_ready()
            progress(f"{len(lab.nodes)} daemons answer after {time.monotonic() - started:.1f} s")
            if join:
                lab.found()
                lab.admit_all(joiner=joiner, progress=progress)
                progress(f"all admitted after {time.monotonic() - started:.1f} s")
                lab.wait_converged()
                progress(f"every node has a route to every other after {time.monotonic() - started:.1f} s")
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def open(cls, name: str) -> Self:
        """The lab of that name that was made before; LabError if there is none."""
        state = StateFile(design.check_lab_name(name)).read()
        if state is None:
            raise LabError(f"there is no lab {name}; make one with: dmssd lab up SHAPE --name {name}")
        return cls(state.design)

    def release(self) -> None:
        """Hand the lab over: it no longer goes with this process, but stays until somebody takes it down."""
        with self._file.changing() as state:
            state.owner = None

    # --- looking ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.design.name

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its nodes."""
        return tuple(node.name for node in self.design.nodes)

    @property
    def _file(self) -> StateFile:
        return StateFile(self.name)

    def state(self) -> State:
        """What is on disk now."""
        state = self._file.read()
        if state is None:
            raise LabError(f"lab {self.name} has been taken down")
        return state

    def address4(self, node: str) -> str:
        """The IPv4 address that the node's daemon is configured with."""
        return self.design.node(node).address4

    def address6(self, node: str) -> str:
        """The IPv6 address that the node's daemon is configured with."""
        return self.design.node(node).address6

    def namespace(self, node: str) -> Path:
        """The node's network namespace."""
        return plumbing.namespace_path(self.design.node(node).namespace)

    def socket(self, node: str) -> Path:
        """The admin socket of the node's daemon."""
        return design.socket_path(self.name, self.design.node(node).name)

    def log(self, node: str) -> Path:
        """What the node's daemon printed."""
        return design.node_directory(self.name, self.design.node(node).name) / "log"

    def client(self, node: str) -> AdminClient:
        """The admin API of the node's daemon."""
        return AdminClient(str(self.socket(node)))

    def exec_argv(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` on that node."""
        return [*processes.inside(self.namespace(node)), *argv]

    def exec(self, node: str, argv: Sequence[str], timeout_s: float = 30.0) -> "subprocess.CompletedProcess[str]":
        """Run a command on a node and wait for it; output as text."""
        return subprocess.run(
            self.exec_argv(node, argv), capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def running(self) -> dict[str, int]:
        """The process ids of the daemons that run, by node."""
        recorded = self.state().processes
        return {node: recorded[node].pid for node in self.nodes if node in recorded and processes.alive(recorded[node])}

    # --- daemons ------------------------------------------------------------------------------------------------

    def start_daemons(self, nodes: Iterable[str] | None = None) -> None:
        """Start the daemons of these nodes (of all), those that run left alone; they have not answered yet."""
        running = self.running()
        for node in self.nodes if nodes is None else nodes:
            if self.design.node(node).name not in running:
                self._start(node)

    def _start(self, node: str) -> None:
        directory = design.node_directory(self.name, node)
        clock = f"{SHIFT_VARIABLE}={design.clock_path(self.name, node)}"
        argv = ["env", clock, *self._program(node), "run", "--config", str(directory / "config.toml")]
        with self.log(node).open("ab") as log:
            child = self.launch(node, self.exec_argv(node, argv), log.fileno(), log.fileno(), directory)
        self._children.append(child)

    def _program(self, node: str) -> list[str]:
        here = [sys.executable, "-m", "dmssd"]
        return ["env", f"PYTHONPATH={self.sources[node]}", *here] if node in self.sources else here

    def launch(
        self, role: str, argv: Sequence[str], stdout: int, stderr: int, directory: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a process that belongs to the lab: it is recorded as ``role`` first, and ended by ``down``."""

        def record(process: Process) -> None:
            with self._file.changing() as state:
                state.processes[role] = process

        return processes.launch(argv, record, stdout=stdout, stderr=stderr, directory=directory)

    def stop_daemons(self, nodes: Iterable[str] | None = None, *, at_once: bool = False) -> None:
        """End the daemons of these nodes (of all) and wait: SIGTERM first, or SIGKILL ``at_once``. Routes stay."""
        wanted = [self.design.node(node).name for node in (self.nodes if nodes is None else nodes)]
        recorded = self.state().processes
        processes.end([recorded[node] for node in wanted if node in recorded], at_once=at_once)
        self._reap()
        with self._file.changing() as state:
            for node in wanted:
                if (process := state.processes.get(node)) is not None and not processes.alive(process):
                    del state.processes[node]
            gone = [node for node in wanted if node not in state.processes]
            state.faults = [fault for fault in state.faults if fault.kind != "freeze" or fault.a not in gone]

    def kill(self, node: str) -> None:
        """SIGKILL the node's daemon; LabError if it does not run."""
        self._demand_running(node)
        self.stop_daemons([node], at_once=True)

    def _demand_running(self, node: str) -> None:
        if self.design.node(node).name not in self.running():
            raise LabError(f"the daemon of {node} does not run; start it with: dmssd lab fault restart {node}")

    def restart(self, node: str) -> None:
        """End the node's daemon if it runs, start it and wait until it answers."""
        self.stop_daemons([node])
        self.start_daemons([node])
        self.wait_ready([node])

    def wait_ready(self, nodes: Iterable[str] | None = None, seconds: float = READY_SECONDS) -> None:
        """Wait until these daemons answer; LabError with the end of the log of one that died or does not."""
        until = time.monotonic() + seconds
        for node in list(self.nodes if nodes is None else nodes):
            while not self._answers(node):
                self._reap()
                if node not in self.running():
                    raise LabError(f"the daemon of {node} ended at once; {self._log_tail(node)}")
                if time.monotonic() > until:
                    raise LabError(
                        f"the daemon of {node} does not answer after {seconds:.0f} s; {self._log_tail(node)}"
                    )
                time.sleep(POLL_SECONDS)

    def _answers(self, node: str) -> bool:
        try:
            self.client(node).get("status")
        except DaemonNotRunning:
            return False
        return True

    def _log_tail(self, node: str) -> str:
        lines = self.log(node).read_text(errors="replace").strip().splitlines()[-3:]
        return "its last words: " + " | ".join(lines) if lines else "it printed nothing"

    def _reap(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]

    # --- the mesh -----------------------------------------------------------------------------------------------

    def found(self) -> None:
        """The founder names the mesh after the lab."""
        self.client(self.design.founder).post("init", {"name": self.name})

    def admit_all(self, *, joiner: Joiner = join_by_api, progress: Progress = _silent) -> None:
        """Every other node joins through a member beside it, breadth first, by one token of the founder."""
        admissions = self.design.admissions
        if not admissions:
            return
        token = self.create_token(uses=len(admissions))
        for number, admission in enumerate(admissions, 1):
            progress(f"[{number}/{len(admissions)}] {admission.node} joins through {admission.peer}")
            try:
                joiner(self, admission, token)
            except RequestError as problem:
                raise LabError(f"{admission.node} was not admitted through {admission.peer}: {problem}") from problem

    def create_token(self, uses: int) -> str:
        """A token of the founder for that many admissions."""
        answer = self.client(self.design.founder).post("token", {"uses": uses, "ttl_s": 600})
        return str(answer["token"])

    def wait_converged(self, seconds: float = CONVERGED_SECONDS) -> None:
        """Wait until every kernel holds a route of dmssd to every other node, IPv4 and IPv6."""
        until = time.monotonic() + seconds
        for node in self.nodes:
            while missing := self.missing_routes(node):
                if time.monotonic() > until:
                    raise LabError(
                        f"{node} has no route to {', '.join(missing[:4])} after {seconds:.0f} s; see {self.log(node)}"
                    )
                time.sleep(2 * POLL_SECONDS)

    def missing_routes(self, node: str) -> list[str]:
        """The addresses of other nodes that the node's kernel has no route of protocol 201 to."""
        text = "".join(
            self.exec(node, ["ip", family, "route", "show", "proto", "201"]).stdout for family in ("-4", "-6")
        )
        held = {line.split()[0].partition("/")[0] for line in text.splitlines() if line and not line[0].isspace()}
        others = [other for other in self.design.nodes if other.name != node]
        return [a for other in others for a in (other.address4, other.address6) if a not in held]

    def unreachable(self, nodes: Iterable[str] | None = None, *, timeout_s: float = 1.0) -> list[tuple[str, str]]:
        """The (node, address) pairs of these nodes (of all) where one real ping, IPv4 or IPv6, went unanswered.

        All pings of a node run at the same time, so that the whole takes little more than ``timeout_s`` per node.
        """
        wanted = [self.design.node(node) for node in (self.nodes if nodes is None else nodes)]
        script = 'for to; do ping -n -q -c 1 -W "$0" "$to" >/dev/null 2>&1 || echo "$to" & done; wait'
        failed: list[tuple[str, str]] = []
        for node in wanted:
            addresses = [a for other in wanted if other != node for a in (other.address4, other.address6)]
            silent = self.exec(node.name, ["sh", "-c", script, str(timeout_s), *addresses]).stdout.split()
            failed += [(node.name, address) for address in sorted(silent)]
        return failed

    # --- faults -------------------------------------------------------------------------------------------------

    def link_down(self, a: str, b: str) -> None:
        """Set the links between two nodes down, at the end of ``a``; the other end loses its carrier."""
        self._add_faults(Fault("link-down", a, b))

    def drop(self, a: str, b: str, *, one_way: bool = False) -> None:
        """Silently drop what goes between two nodes; ``one_way``: only what goes from ``a`` to ``b``."""
        self._add_faults(Fault("drop", a, b, one_way))

    def drop_node(self, node: str) -> None:
        """Silently drop all that goes over any link of a node, at both ends."""
        self._add_faults(Fault("drop-node", node))

    def lose(self, percent: int, a: str, b: str | None = None) -> None:
        """Lose so much, by chance, of what goes between two nodes; without ``b`` over any link of ``a``."""
        if not 0 < percent <= faults.ALL:
            raise LabError(f"a loss is 1 to 100 percent, got {percent}")
        self._add_faults(Fault("loss", a, b or "", percent=percent))

    def part(self, *groups: Sequence[str]) -> None:
        """Silently drop all that goes between these groups of nodes; those that are in none are one more group."""
        self._add_faults(*faults.parted(self.design, groups))

    def freeze(self, node: str) -> None:
        """Stop the node's daemon where it is, until healed; LabError if it does not run."""
        self._demand_running(node)
        self._add_faults(Fault("freeze", node))

    def shift_clock(self, node: str, seconds: int) -> None:
        """Have the time of day of a node's daemon jump by so much, from now on, over its restarts, until healed."""
        self.design.node(node)
        self._add_faults(Fault("clock", node, seconds=seconds))

    def heal(self, a: str | None = None, b: str | None = None) -> list[Fault]:
        """Take faults back: all, those that concern ``a``, or those between ``a`` and ``b``. Returns those healed."""
        for node in (a, b):
            if node is not None:
                self.design.place(node)
        with self._file.locked():
            state = self.state()
            left = faults.without(state.faults, a, b)
            healed = [fault for fault in state.faults if fault not in left]
            faults.apply(self.design, state.faults, left)
            self._freeze(state, state.faults, left)
            state.faults = left
            self._file.write(state)
        return healed

    def _add_faults(self, *more: Fault) -> None:
        faults.losses(self.design, more), faults.downed(self.design, more)  # refuses names that do not exist
        with self._file.locked():
            state = self.state()
            before, state.faults = state.faults, list(dict.fromkeys([*state.faults, *more]))
            if state.faults == before:
                return
            self._file.write(state)
            try:
                faults.apply(self.design, before, state.faults)
                self._freeze(state, before, state.faults)
            except LabError:
                state.faults = before
                self._file.write(state)
                raise

    @staticmethod
    def _freeze(state: State, before: Sequence[Fault], after: Sequence[Fault]) -> None:
        old, new = faults.frozen(before), faults.frozen(after)
        for node in {*old, *new}:
            if (node in new) != (node in old) and node in state.processes:
                processes.send(state.processes[node], signal.SIGSTOP if node in new else signal.SIGCONT)

    # --- the end ------------------------------------------------------------------------------------------------

    def down(self) -> list[str]:
        """Take everything away; see :func:`take_down`."""
        left = take_down(self.name)
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)
        return left

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()
