"""``dmssd lab demo``: eleven real daemons find a mesh, forward coast to coast, lose a node and heal.

Everything shown is what the command printed above it printed, run at that moment in the lab. Nothing is assumed of the
daemons: that the network heals is measured from outside, by a flow of probes whose way is found from outside too.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import click

from dmssd.lab import plumbing, processes
from dmssd.lab.design import Admission
from dmssd.lab.errors import LabError
from dmssd.lab.interrupts import interruptible
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import cleaned, clear_remainder, exists, require_root
from dmssd.lab.outage import INTERVAL_MS, Flow, Outage, way
from sansio.errors import DmssdError

NAME = "demo"
WEST, EAST = "sunnyvale", "washington-dc"
FLOW_FIRST = 50_000
FLOWS_MAX = 48
"""Flows tried until both equal-cost ways were seen; that one of two even ways escapes so many has odds of 2**-47."""
BEFORE_SECONDS = 1.0
AFTER_SECONDS = 1.5
HEAL_SECONDS = 20.0
BACK_SECONDS = 40.0
RESUMED = 20
"""So many probes received within a tenth of a second, or a little more, are a flow that is back."""


def run() -> None:
    """Tell the whole story and leave nothing; LabError if a part of it fails."""
    require_root()
    started = time.monotonic()
    with interruptible(), cleaned(NAME):
        if clear_remainder(NAME):
            click.echo("cleared what an earlier demo left")
        routes = _machine_routes()
        lab = _up()
        _show_mesh(lab)
        flow = _show_forwarding(lab)
        victim = _lose_a_node(lab, flow)
        _bring_back(lab, victim)
        _end(lab, routes)
    click.echo(f"\nThe whole demo took {time.monotonic() - started:.0f} s.")


def _title(text: str) -> None:
    click.secho(f"\n== {text}", bold=True)


def _progress(line: str) -> None:
    click.echo(f"   {line}")


def _dmssd(lab: Lab, node: str, *arguments: str, show: bool = True) -> str:
    """Run the real command line for the daemon of a node; LabError with what it said if it fails."""
    command = ["--node", f"{lab.name}/{node}", *arguments]
    if show:
        click.secho(f"\n$ dmssd {shlex.join(command)}", fg="cyan")
    done = subprocess.run([sys.executable, "-m", "dmssd", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]  # what comes before is progress
        raise LabError(f"dmssd {arguments[0]} failed on {node}: {' '.join(last) or 'without a word'}")
    if show:
        click.echo(done.stdout.rstrip())
    return done.stdout


def _on(lab: Lab, node: str, *argv: str) -> None:
    """Run and show a command of the system on a node; LabError if it fails."""
    click.secho(f"\n{node}$ {shlex.join(argv)}", fg="cyan")
    done = lab.exec(node, argv)
    click.echo(done.stdout.rstrip())
    if done.returncode:
        raise LabError(f"{shlex.join(argv)} failed on {node}: {done.stderr.strip() or 'see above'}")


def _wait(claim: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until ``claim`` holds; returns the seconds it took. LabError naming ``what`` was waited for."""
    began = time.monotonic()
    while not claim():
        if time.monotonic() - began > seconds:
            raise LabError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - began


def _join_by_command(lab: Lab, admission: Admission, token: str) -> None:
    _dmssd(lab, admission.node, "join", admission.peer, "--token", token, show=False)


def _up() -> Lab:
    _title("Abilene: 11 cities, 14 links and a detour; one founds the mesh, ten join")
    lab = Lab.up("abilene", NAME, joiner=_join_by_command, progress=_progress)
    took = _wait(lambda: _up_members(lab, WEST) == len(lab.nodes), BACK_SECONDS, f"{WEST} sees all members")
    _progress(f"{WEST} sees {len(lab.nodes)} members up{f' after {took:.1f} s more' if took > 0.2 else ''}")
    return lab


def _up_members(lab: Lab, node: str) -> int:
    return sum(1 for member in lab.client(node).get("members") if member["state"] == "up")


def _show_mesh(lab: Lab) -> None:
    _title("Members, as one of them sees them")
    _dmssd(lab, WEST, "member", "list")
    _title("The Global Topology")
    _dmssd(lab, WEST, "network", "global")
    _title("The Min-Weight Topology under both policies: what each drops, and why")
    _dmssd(lab, WEST, "network", "mwt", "--policy", "shortest")
    _dmssd(lab, WEST, "network", "mwt", "--policy", "spanning")
    _title(f"Shortest paths of {WEST}, with all equal-cost next hops")
    _dmssd(lab, WEST, "network", "spt", WEST)
    _title(f"What the kernel of {WEST} forwards by")
    _on(lab, WEST, "ip", "route", "show", "proto", "201")
    _on(lab, WEST, "ip", "-6", "route", "show", "proto", "201")
    _on(lab, WEST, "ip", "nexthop", "show", "proto", "201")


def _show_forwarding(lab: Lab) -> int:
    """Ping and trace coast to coast; returns an IPv4 flow (its source port) whose way the next part cuts."""
    _title(f"Coast to coast: {WEST} - {EAST}")
    _on(lab, WEST, "ping", "-c", "3", "-i", "0.2", lab.address4(EAST))
    _on(lab, WEST, "ping", "-c", "3", "-i", "0.2", lab.address6(EAST))
    flows: dict[int, list[int]] = {}
    for family in (4, 6):
        flows[family] = _flows_of_both_ways(lab, family)
        for flow in flows[family]:
            _dmssd(lab, WEST, "trace", EAST, f"-{family}", "--flow", str(flow))
    return flows[4][0]


def _flows_of_both_ways(lab: Lab, family: int) -> list[int]:
    """One flow for each of the two equal-cost ways."""
    seen: dict[tuple[str, ...], int] = {}
    for flow in range(FLOW_FIRST, FLOW_FIRST + FLOWS_MAX):
        answer = lab.client(WEST).post("trace", {"destination": EAST, "family": family, "flow": flow})
        if answer["reached"]:
            seen.setdefault(tuple(hop["name"] or "?" for hop in answer["hops"]), flow)
        if len(seen) == 2:
            return list(seen.values())
    raise LabError(f"of {FLOWS_MAX} flows over IPv{family}, {len(seen)} of 2 equal-cost ways was seen")


def _lose_a_node(lab: Lab, source_port: int) -> str:
    """Cut a transit node of the flow out of the network and kill its daemon; returns its name."""
    passed = [name for name in way(lab, WEST, EAST, source_port) if name is not None]
    if not passed or passed[-1] != EAST or len(passed) < 2:
        raise LabError(f"the way of the flow is not known: {passed}")
    transit = passed[:-1]
    victim = transit[len(transit) // 2]
    _title(f"A node dies: {victim}")
    _progress(f"a probe each {INTERVAL_MS:g} ms from port {source_port}: {' - '.join([WEST, *passed])}")
    with Flow(lab, WEST, EAST, source_port) as flow:
        _arriving(flow)
        time.sleep(BEFORE_SECONDS)
        lab.drop_node(victim)
        lab.kill(victim)
        _progress(f"all links of {victim} drop silently, at both ends; its daemon got SIGKILL")
        _arriving(flow)
        time.sleep(AFTER_SECONDS)
    _tell(flow.outage)
    now = way(lab, WEST, EAST, source_port)
    _progress(f"the flow now goes {' - '.join([WEST, *(name or '?' for name in now)])}")
    return victim


def _arriving(flow: Flow) -> None:
    """Wait until probes arrive, and go on arriving."""
    counts = [flow.received()]

    def resumed() -> bool:
        counts.append(flow.received())
        # Two readings, 0.2 s apart: 40 probes are due, those that were under way when the node died are few.
        return len(counts) > 2 and counts[-1] - counts[-3] >= RESUMED

    _wait(resumed, HEAL_SECONDS, "probes arrive")


def _tell(outage: Outage | None) -> None:
    if outage is None or outage.gap_ns is None:
        raise LabError("the flow did not come back")
    click.secho(f"\nhealed in {outage.gap_ns / 1e6:.0f} ms", bold=True)
    _progress(
        f"{outage.lost} of {outage.sent} probes lost (the sender's own longest stall: {outage.stall_ns / 1e6:.0f} ms)"
    )


def _bring_back(lab: Lab, victim: str) -> None:
    _title(f"{victim} comes back")
    _progress(f"{WEST} sees it {_state(lab, victim)}; its links are mended, its daemon is started")
    began = time.monotonic()
    lab.heal(victim)
    lab.start_daemons([victim])
    lab.wait_ready([victim])
    _wait(lambda: _is_back(lab, victim), BACK_SECONDS, f"{victim} is a member with routes again")
    _progress(f"back after {time.monotonic() - began:.1f} s: {WEST} sees it {_state(lab, victim)}, it has every route")
    _on(lab, WEST, "ping", "-c", "2", "-i", "0.2", lab.address4(victim))
    _on(lab, victim, "ping", "-c", "2", "-i", "0.2", lab.address6(EAST))
    _dmssd(lab, WEST, "member", "list")


def _state(lab: Lab, node: str) -> str:
    states = [member["state"] for member in lab.client(WEST).get("members") if member["name"] == node]
    return str(states[0]) if states else "not at all"


def _is_back(lab: Lab, victim: str) -> bool:
    try:
        seen = _up_members(lab, victim) == len(lab.nodes) and _state(lab, victim) == "up"
    except DmssdError:
        return False
    if not seen or lab.missing_routes(victim) or lab.missing_routes(WEST):
        return False
    return all(
        lab.exec(WEST, ["ping", "-c", "1", "-W", "0.3", address]).returncode == 0
        for address in (lab.address4(victim), lab.address6(victim))
    )


def _end(lab: Lab, routes_before: Sequence[str]) -> None:
    _title("All down again")
    recorded = list(lab.state().processes.values())
    for sentence in lab.down():
        _progress(sentence)
    left = [f"process {process.pid}" for process in recorded if processes.alive(process)]
    left += [f"namespace {name}" for name in plumbing.existing(NAME)]
    left += [f"route {route}" for route in _machine_routes() if route not in routes_before]
    left += ["its directory"] if exists(NAME) else []
    if left:
        raise LabError(f"the demo left something behind: {', '.join(left)}")
    _progress(f"{len(recorded)} processes ended, {len(lab.nodes)} namespaces gone; no file, no route is left")


def _machine_routes() -> list[str]:
    """The machine's own routes of dmssd's protocol number, both families."""
    found: list[str] = []
    for family in ("-4", "-6"):
        done = subprocess.run(
            ["ip", family, "route", "show", "table", "all", "proto", "201"], capture_output=True, text=True, check=False
        )
        found += done.stdout.splitlines()
    return found
