"""``python -m benchmarks.segment``: twenty nodes on one segment and two routed sites of five.

Two figures of one lab. *Cold start*, as ``benchmarks.coldstart`` measures it: from the last daemon being up until every
node pings every other. *Designated member lost*: flows of a datagram every 5 ms run between pairs of other nodes on the
segment while the designated member's daemon is killed and all its links drop silently; the figure is the longest gap
in any of them. One link-detection period, three echoes of 100 ms, is the aim.

``TRIALS`` (3).
"""

import contextlib
import statistics
import time

from benchmarks.coldstart import manager_socket, trial
from benchmarks.labs import bench_lab, setting
from benchmarks.machine import Figure, load, report
from dmssd.lab.errors import LabError
from dmssd.lab.lab import Lab
from dmssd.lab.outage import Flow

SHAPE, NAME = "segment:20+2x5", "benchsegment"
START_AIM_S = 5.0
GAP_AIM_MS = 300.0
FLOWS = 4
SETTLE_S = 3.0
WAIT_S = 60.0


def speakers(lab: Lab, node: str) -> list[str]:
    """Who speaks for the segment, as a node sees it, the designated member first."""
    found = lab.client(node).get("network/global")["segments"]
    return [str(name) for name in found[0]["speakers"]] if found else []


def settled(lab: Lab) -> list[str]:
    """Wait until the segment has its two speakers and every kernel its routes; who speaks."""
    until = time.monotonic() + WAIT_S
    lab.wait_converged(WAIT_S)
    while len(found := speakers(lab, lab.nodes[-1])) != 2:
        if time.monotonic() > until:
            raise LabError(f"the segment has the speakers {found}, not two")
        time.sleep(0.1)
    time.sleep(SETTLE_S)
    return found


def lost(lab: Lab) -> float:
    """One death of the designated member: the longest gap of a flow between others, in ms."""
    designated, _ = settled(lab)
    members = [link.a for link in lab.design.links if link.b == "lan" and link.a != designated]
    pairs = list(zip(members[:FLOWS], members[-FLOWS:], strict=True))
    with contextlib.ExitStack() as stack:
        flows = [
            stack.enter_context(Flow(lab, source, destination, 6000 + number, 6100 + number))
            for number, (source, destination) in enumerate(pairs)
        ]
        time.sleep(1)
        lab.kill(designated)
        lab.drop_node(designated)
        time.sleep(SETTLE_S)
    lab.heal()
    lab.start_daemons([designated])
    lab.wait_ready([designated])
    gaps = [flow.outage.gap_ns or 0 for flow in flows if flow.outage is not None]
    return max(gaps) / 1e6


def main() -> None:
    """Both figures."""
    trials = setting("TRIALS", 3)
    with bench_lab(SHAPE, NAME) as lab:
        print(f"load average {load()}; {SHAPE}, {len(lab.nodes)} daemons, {trials} trials", flush=True)
        gaps = []
        for _ in range(trials):
            gaps.append(lost(lab))
            print(f"   designated member lost: longest gap between others {gaps[-1]:.0f} ms", flush=True)
        starts = []
        # Only now: who does not read this socket holds up every daemon that has something to say to it.
        with manager_socket() as manager:
            for _ in range(trials):
                starts.append(trial(lab, manager))
                print(
                    f"   all up after {starts[-1].up:.2f} s, all pairs {starts[-1].all_pairs:.2f} s later", flush=True
                )
    gap, median = max(gaps), statistics.median(start.all_pairs for start in starts)
    report(
        [
            Figure("segment, designated member lost", f"{GAP_AIM_MS:.0f} ms", f"{gap:.0f} ms", gap <= GAP_AIM_MS),
            Figure("cold start, segment of 20 + 10", f"{START_AIM_S:.0f} s", f"{median:.2f} s", median <= START_AIM_S),
        ]
    )


if __name__ == "__main__":
    main()
