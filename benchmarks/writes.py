"""``python -m benchmarks.writes``: what a daemon at rest writes to its disk in an hour, which is what wears an SD card.

A ring of four daemons, left alone for ``WRITES_MINUTES`` (5). State and log of the first, a TopologyProcessor and
Forwarder, lie on an ext4 of their own behind a loop device: the figure is every sector that device was given, the file
system's journal and its log lines included, as bytes an hour. Beside it what the kernel charged each of the four for
pages made dirty (``write_bytes`` of /proc/PID/io; nothing where the state lies in memory).

Minutes do not show what comes once an hour. So the same ring runs for ``WRITES_SIM_HOURS`` (2) of simulated time too,
the same cores on a simulated disk, and every value that they would have had on disk and every line that they would have
logged is counted after the mesh has come to rest.

To see that the meter is not asleep, it first counts one write of the driver's own store, which must not be nothing.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.disks import Disk, disk
from benchmarks.labs import sees_all, setting, wait_until
from benchmarks.machine import Figure, load, report
from dmssd.driver.disk import Store
from dmssd.lab import design
from dmssd.lab.errors import LabError
from dmssd.lab.interrupts import interruptible
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import cleaned, clear_remainder
from dmssd.sim import mesh, shapes
from sansio.errors import DmssdError
from sansio.instant import SECOND, Duration

AIM_KB = 100.0
SHAPE, NAME = "ring:4", "benchwrites"
SETTLED_S, REST_S = 60.0, 20.0
"""How long the mesh may take to converge; and how long it is left alone before counting begins, so that what joining
changed is on disk (``gossip.replica.PERSIST_AFTER`` is five seconds)."""
CALIBRATION_WRITES = 20
HOUR_S = 3_600
SIM_SEED = 3
"""A seed whose cables lose nothing."""


@contextlib.contextmanager
def lab_on(own: Disk) -> Iterator[Lab]:
    """The converged ring, with the first node's state and log on a disk of their own."""
    try:
        with interruptible(), cleaned(NAME):
            clear_remainder(NAME)
            lab = Lab.build(SHAPE, NAME)
            subject = design.node_directory(NAME, lab.nodes[0])
            own.directory.joinpath("state").mkdir()
            own.directory.joinpath("log").touch()
            for name in ("state", "log"):
                subject.joinpath(name).symlink_to(own.directory / name)
            lab.start_daemons()
            lab.wait_ready()
            lab.found()
            lab.admit_all()
            lab.wait_converged()
            wait_until(lambda: all(sees_all(lab, node) for node in lab.nodes), SETTLED_S, "all see all members")
            yield lab
    except DmssdError as problem:
        raise SystemExit(str(problem)) from None


def cost_of_a_write(own: Disk) -> float:
    """Bytes on the device for one value of eight bytes written by the store of the daemon."""
    store = Store(own.directory / "calibration")
    try:
        store.write("value", bytes(8))
        before = own.written()
        for number in range(CALIBRATION_WRITES):
            store.write("value", number.to_bytes(8, "big"))
        return (own.written() - before) / CALIBRATION_WRITES
    finally:
        store.close()


def charged(pid: int) -> int:
    """Bytes of pages that a process has made dirty."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["write_bytes"])


def real(own: Disk, minutes: int) -> float:
    """Bytes an hour on the disk of the first of four real daemons at rest."""
    with lab_on(own) as lab:
        time.sleep(REST_S)
        pids = lab.running()
        print(f"load average {load()}; {len(pids)} daemons at rest for {minutes} min", flush=True)
        began, written = time.monotonic(), own.written()
        dirtied = {node: charged(pid) for node, pid in pids.items()}
        logged = {node: lab.log(node).stat().st_size for node in pids}
        time.sleep(minutes * 60)
        if lab.running() != pids:
            raise LabError("a daemon ended while it was measured: see its log")
        per_hour = HOUR_S / (time.monotonic() - began)
        rate = (own.written() - written) * per_hour
        for node, pid in pids.items():
            state = (charged(pid) - dirtied[node]) * per_hour / 1e3
            lines = (lab.log(node).stat().st_size - logged[node]) * per_hour / 1e3
            print(f"{node}: pages made dirty {state:.1f} kB/h, of that log lines {lines:.1f} kB/h")
        print(f"load average {load()} at the end", flush=True)
    return rate


def simulated(hours: int) -> tuple[float, float]:
    """Values that a node writes and lines that it logs in an hour at rest, the most of any node."""
    world = mesh.build(SIM_SEED, shapes.parse(SHAPE, SIM_SEED))
    for machine in world.machines:
        world.start(machine)
    world.run_for(Duration(60 * SECOND))
    values = {machine.name: machine.disk.writes for machine in world.machines}
    if not all(values.values()):
        raise SystemExit("a simulated node wrote nothing even while the mesh came up: the count is broken")
    world.notices.clear()
    world.run_for(Duration(hours * HOUR_S * SECOND))
    named = [name for _, name, _ in world.notices]
    wrote = max(machine.disk.writes - values[machine.name] for machine in world.machines)
    return wrote / hours, max(named.count(name) for name in values) / hours


def main() -> None:
    """Calibrate, measure, simulate, report."""
    minutes, hours = setting("WRITES_MINUTES", 5), setting("WRITES_SIM_HOURS", 2)
    with disk() as own:
        each = cost_of_a_write(own)
        if not each:
            raise SystemExit("a value written by the store did not reach the device: this disk counts nothing")
        print(f"one value of the store is {each / 1e3:.1f} kB on the device", flush=True)
        rate = real(own, minutes)
    values, lines = simulated(hours)
    print(f"simulated, {hours} h at rest: {values:.1f} values written and {lines:.1f} lines logged an hour")
    total = (rate + values * each) / 1e3
    report(
        [
            Figure(
                f"written by a daemon at rest, {minutes} min of a ring of four",
                f"{AIM_KB:.0f} kB/h",
                f"{rate / 1e3:.1f} kB/h",
                rate / 1e3 <= AIM_KB,
            ),
            Figure(
                f"the same with what {hours} simulated hours write",
                f"{AIM_KB:.0f} kB/h",
                f"{total:.1f} kB/h",
                total <= AIM_KB,
            ),
        ]
    )


if __name__ == "__main__":
    main()
