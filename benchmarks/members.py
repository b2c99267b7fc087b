"""``python -m benchmarks.members``: how the memory of a node grows with the members of its mesh.

Simulated meshes of ``MEMBERS_MAX`` (64) nodes and of half as many, a quarter and an eighth, each in a process of its
own, links at random (about four a node). All nodes of a mesh live in that one process; the figure is what the process
grew by from before the mesh was built until it had run for ``MEMBERS_S`` (30) simulated seconds, divided by the number
of nodes. So it is what a node knows (link-state database, statements, sessions, members, rows), not what its program
takes. Pure functions' answers (signatures that hold, chains) are cached once for the whole process, where a real node
would have a share of its own: that much is missing from the figure, and is bounded.
"""

import os
import subprocess
import sys

from benchmarks.idle import memory
from benchmarks.labs import setting
from benchmarks.machine import Figure, load, report

SEED = 3
STEPS = (8, 4, 2, 1)


def held_kib(members: int, seconds: int) -> float:
    """KiB that each node of a simulated mesh holds; for a fresh process only."""
    from dmssd.sim import mesh, shapes
    from dmssd.sim.mesh import secure_of
    from sansio.instant import SECOND, Duration

    before = memory(os.getpid()).rss
    world = mesh.build(SEED, shapes.parse(f"random:{members}", SEED))
    for machine in world.machines:
        world.start(machine)
    world.run_for(Duration(seconds * SECOND))
    for machine in world.machines:
        assert machine.daemon is not None
        if (known := len(secure_of(machine.daemon).node.linkstate.lsdb)) != members:
            raise SystemExit(f"{machine} knows {known} of {members} nodes after {seconds} s: raise MEMBERS_S")
    return (memory(os.getpid()).rss - before) * 1024 / members


def main() -> None:
    """All sizes, and the slope between the two largest."""
    if len(sys.argv) == 3:
        print(held_kib(int(sys.argv[1]), int(sys.argv[2])))
        return
    most, seconds = setting("MEMBERS_MAX", 64), setting("MEMBERS_S", 30)
    sizes = [most // step for step in STEPS]
    if sizes[0] < 2:
        raise SystemExit(f"MEMBERS_MAX must be at least {2 * STEPS[0]}, so that its eighth is a mesh; got {most}")
    print(f"load average {load()}; {seconds} simulated seconds of {', '.join(map(str, sizes))} members", flush=True)
    held = {}
    for size in sizes:
        argv = [sys.executable, "-m", "benchmarks.members", str(size), str(seconds)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{size} members could not be measured")
        held[size] = float(done.stdout)
        print(f"   {size} members: {held[size]:.0f} KiB a node", flush=True)
    slope = (held[sizes[-1]] - held[sizes[-2]]) / (sizes[-1] - sizes[-2])
    named = "memory that a node holds in a mesh of"
    figures = [Figure(f"{named} {size}", "none", f"{kib:.0f} KiB") for size, kib in held.items()]
    report([*figures, Figure(f"the same, for each further member from {sizes[-2]} on", "none", f"{slope:.0f} KiB")])


if __name__ == "__main__":
    main()
