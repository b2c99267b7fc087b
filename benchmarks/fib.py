"""``python -m benchmarks.fib``: 10,000 ECMP routes into the kernel beside ``ip -batch``, and one group swap.

In a network namespace of its own, with two veth links; each figure is the median of several runs. The content is the
same on both sides: two nexthops, one group, 10,000 IPv4 routes by that group. Encoding counts: both start from what
they would have in hand, our writer from the diff's operations, ``ip`` from a file of commands. ``ip`` also gets the
time that its process takes to start, a millisecond.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import Figure, report
from dmssd.driver.fib import KernelFib
from dmssd.driver.kernel import KernelSettings
from dmssd.driver.netlink import NetlinkSocket
from routing.fib import FIB_PROTOCOL, FibOperation, Gateway, Installed, SetGroup, diff
from routing.lsa import LinkNumber, Prefix

ROUTES = 10_000
RUNS = 5
SWAPS = 200
SWAP_AIM_MS = 0.2
CLONE_NEWNET = 0x40000000


def main() -> None:
    enter_namespace_of_its_own()
    gateways = [make_link(number) for number in range(2)]
    netlink = NetlinkSocket()
    KernelSettings(netlink).prepare_node([], 1)
    fib = KernelFib(netlink)
    prefixes = [Prefix.parse(f"10.{number // 256}.{number % 256}.0/24") for number in range(ROUTES)]
    wanted = dict.fromkeys(prefixes, tuple((gateway, 1) for gateway in gateways))
    loads = os.getloadavg()
    print(f"load average {loads[0]:.2f} {loads[1]:.2f} {loads[2]:.2f}, {os.cpu_count()} cores, {os.uname().release}")
    plan = diff(Installed(), wanted)
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        batch = Path(directory) / "routes"
        batch.write_text(commands(fib, wanted))
        for _ in range(RUNS):  # by turns, so that a busy moment of the machine hits both
            ours.append(timed(lambda: perform(fib, plan), lambda: clear(fib)))
            theirs.append(timed(lambda: ip("-batch", str(batch)), lambda: clear(fib)))
    for who, times in (("our writer", ours), ("ip -batch", theirs)):
        median = statistics.median(times)
        rate = f"{ROUTES / median:9,.0f} routes/s, at best {ROUTES / min(times):9,.0f}"
        print(f"{ROUTES} ECMP routes, {who:10}     {median * 1e3:8.1f} ms  {rate}")
    perform(fib, plan)
    swap = statistics.median(swaps(fib))
    print(f"one group of {ROUTES} routes swapped  {swap * 1e3:8.3f} ms  (aim {SWAP_AIM_MS} ms)")
    started = time.perf_counter()
    operations = diff(fib.read(), dict.fromkeys(prefixes, ((gateways[0], 1),)))
    planned = time.perf_counter() - started
    print(f"the same, read back and planned   {planned * 1e3:8.1f} ms  ({len(operations)} operations)")
    mine, other = statistics.median(ours), statistics.median(theirs)
    report(
        [
            Figure(
                f"{ROUTES:,} ECMP routes into the kernel",
                "no slower than ip -batch",
                f"{mine * 1e3:.0f} ms (ip -batch {other * 1e3:.0f})",
                mine <= other,
            ),
            Figure("one group swap", f"{SWAP_AIM_MS} ms", f"{swap * 1e3:.3f} ms", swap * 1e3 <= SWAP_AIM_MS),
        ]
    )


def enter_namespace_of_its_own() -> None:
    """Start this program again under ``unshare --net``: the namespace goes with the process."""
    if os.environ.get("DMSSD_BENCH_NETNS") == "1":
        return
    environment = {**os.environ, "DMSSD_BENCH_NETNS": "1"}
    command = ["unshare", "--net", sys.executable, "-m", "benchmarks.fib"]
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)


def make_link(number: int) -> Gateway:
    name = f"bench{number}"
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    for end in (name, f"{name}p"):
        ip("link", "set", end, "up")
    index = int(Path(f"/proc/self/net/dev_snmp6/{name}").read_text().split()[1])
    return Gateway(LinkNumber(index), b"\xfe\x80" + bytes(13) + bytes([1 + number]))


def perform(fib: KernelFib, operations: tuple[FibOperation, ...]) -> None:
    failures = fib.perform(operations)
    assert not failures, failures


def clear(fib: KernelFib) -> None:
    perform(fib, diff(fib.read(), {}))


def commands(fib: KernelFib, wanted: dict[Prefix, tuple[tuple[Gateway, int], ...]]) -> str:
    """The same content, as ``ip -batch`` takes it."""
    perform(fib, diff(Installed(), wanted))
    held = fib.read()
    clear(fib)
    protocol = f"protocol {FIB_PROTOCOL}"
    names = {number: f"bench{position}" for position, number in enumerate(held.nexthops)}
    lines = [
        f"nexthop add id {number} via fe80::{position + 1:x} dev {names[number]} {protocol}"
        for position, number in enumerate(held.nexthops)
    ]
    for group, members in held.groups.items():
        lines.append(f"nexthop add id {group} group {'/'.join(str(member) for member, _ in members)} {protocol}")
    lines += [f"route add {prefix} nhid {group} metric 201 {protocol}" for prefix, group in held.routes.items()]
    return "\n".join(lines) + "\n"


def swaps(fib: KernelFib) -> list[float]:
    held = fib.read()
    (group, members), *_ = held.groups.items()
    times = []
    for count in range(SWAPS):
        operation = SetGroup(group, members[:1] if count % 2 == 0 else members)
        started = time.perf_counter()
        failures = fib.perform([operation])
        times.append(time.perf_counter() - started)
        assert not failures, failures
    return times


def timed(work: Callable[[], None], undo: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    taken = time.perf_counter() - started
    undo()
    return taken


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=60)


if __name__ == "__main__":
    main()
