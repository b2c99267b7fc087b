"""``python -m benchmarks.healing``: how long a flow is interrupted when a node on its way dies; the demo's `healed in`.

The Abilene lab. For each trial a transit node of a flow Sunnyvale - Washington DC is cut off silently at all links,
both ends, and its daemon gets SIGKILL; a datagram of a fixed 5-tuple each 5 ms tells the outage (``dmssd.lab.outage``:
the longest gap between two received, less the interval). The victim goes round all transit nodes of both equal-cost
ways, TopologyProcessors among them, by flows found to pass them. Between trials its links are mended, its daemon is
started, and the next trial waits until every node sees every member up and has every route.

``TRIALS`` (30). A flow that is not back after 20 s counts as never.
"""

import itertools
import statistics
import time

from benchmarks.labs import bench_lab, sees_all, setting, wait_until
from benchmarks.machine import Figure, load, quantile, report
from dmssd.lab.errors import LabError
from dmssd.lab.lab import Lab
from dmssd.lab.outage import Flow, Outage, way

AIM_MS = 350
SHAPE, NAME = "abilene", "benchhealing"
WEST, EAST = "sunnyvale", "washington-dc"
FLOW_FIRST, FLOWS = 50_000, 48
BEFORE_SECONDS, AFTER_SECONDS = 1.0, 1.5
HEAL_SECONDS, BACK_SECONDS = 20.0, 60.0
SETTLE_SECONDS = 2.0
RESUMED = 20
"""So many received within 0.2 s, of 40 that are due, are a flow that is back."""


def transit(lab: Lab, source_port: int) -> tuple[str, ...]:
    """The nodes between the ends that this flow passes now; empty if it does not arrive."""
    passed = [name for name in way(lab, WEST, EAST, source_port) if name is not None]
    return tuple(passed[:-1]) if passed and passed[-1] == EAST else ()


def ways(lab: Lab) -> dict[tuple[str, ...], int]:
    """The two equal-cost ways, each with a flow that takes it."""
    found: dict[tuple[str, ...], int] = {}
    for flow in range(FLOW_FIRST, FLOW_FIRST + FLOWS):
        if passed := transit(lab, flow):
            found.setdefault(passed, flow)
        if len(found) == 2:
            return found
    raise LabError(f"of {FLOWS} flows, {len(found)} of 2 equal-cost ways was seen")


def flow_through(lab: Lab, victim: str, likely: int) -> int:
    """A flow that passes the victim now: the likely one, or another."""
    flows: list[int] = [likely, *range(FLOW_FIRST, FLOW_FIRST + FLOWS)]
    for flow in flows:
        if victim in transit(lab, flow):
            return flow
    raise LabError(f"no flow passes {victim}")


def lose(lab: Lab, victim: str, source_port: int) -> Outage | None:
    """Take the victim away under a running flow; None if the flow was not back in time."""
    with Flow(lab, WEST, EAST, source_port) as flow:
        resumed(flow)
        time.sleep(BEFORE_SECONDS)
        lab.drop_node(victim)
        lab.kill(victim)
        if not resumed(flow):
            return None
        time.sleep(AFTER_SECONDS)
    return flow.outage


def resumed(flow: Flow) -> bool:
    """Wait until probes arrive and go on arriving; whether they did within the time."""
    until = time.monotonic() + HEAL_SECONDS
    counts = [flow.received()]
    while time.monotonic() < until:
        time.sleep(0.1)
        counts.append(flow.received())
        if len(counts) > 2 and counts[-1] - counts[-3] >= RESUMED:
            return True
    return False


def bring_back(lab: Lab, victim: str) -> None:
    """Have the lab as it was before."""
    lab.heal(victim)
    lab.start_daemons([victim])
    lab.wait_ready([victim])
    wait_until(lambda: all(sees_all(lab, node) for node in lab.nodes), BACK_SECONDS, f"all see {victim} again")
    lab.wait_converged()
    time.sleep(SETTLE_SECONDS)


def main() -> None:
    """All trials, the victim changing each time."""
    trials = setting("TRIALS", 30)
    outages_ms: list[float] = []
    with bench_lab(SHAPE, NAME) as lab:
        flows = {victim: flow for passed, flow in ways(lab).items() for victim in passed}
        print(f"load average {load()}; {trials} trials, victims in turn: {', '.join(flows)}", flush=True)
        for victim in itertools.islice(itertools.cycle(flows), trials):
            outage = lose(lab, victim, flow_through(lab, victim, flows[victim]))
            never = outage is None or outage.gap_ns is None
            outages_ms.append(float("inf") if outage is None or outage.gap_ns is None else outage.gap_ns / 1e6)
            role = "tp" if victim in lab.design.tps else "fd"
            told = "NOT healed" if never or outage is None else f"{outages_ms[-1]:5.0f} ms, {outage.lost} probes lost"
            stall = "" if outage is None else f", the sender's own stall {outage.stall_ns / 1e6:.0f} ms"
            print(f"   {victim:12} ({role}) {told}{stall}; load average {load()}", flush=True)
            bring_back(lab, victim)
    median = statistics.median(outages_ms)
    measured = f"median {median:.0f} ms, p90 {quantile(outages_ms, 0.9):.0f}, max {max(outages_ms):.0f}"
    report([Figure(f"healed in, {trials} trials", f"median {AIM_MS} ms", measured, median <= AIM_MS)])


if __name__ == "__main__":
    main()
