"""``python -m benchmarks.flood``: a daemon under 50,000 datagrams a second of rubbish from one of its links.

Three daemons on a line; a program in the namespace of the first sends to the second for ``FLOOD_SECONDS`` (10) for each
kind of rubbish: random bytes, sealed datagrams of no session, handshakes of random bytes. The figure is the share of
one processor that the daemon takes (what the kernel charged all its threads), and by how much its memory has grown.
What the daemon cannot read in time the kernel drops: it is counted as what was sent less what the daemon refused.
"""

import json
import subprocess
import sys
import time

from benchmarks.idle import cpu_ns, memory
from benchmarks.labs import bench_lab, sees_all, setting, wait_until
from benchmarks.machine import Figure, load, report
from dmssd.lab.lab import Lab

RATE_PER_S = 50_000
GROWTH_AIM_MIB = 12.0
SHAPE, NAME = "line:3", "benchflood"
KINDS = {"random bytes": "", "sealed, of no session": "0104", "handshakes of random bytes": "0101"}
"""What each datagram of a kind begins with, in hex."""

SENDER = """
import json, random, socket, sys, time
task = json.load(sys.stdin)
index = socket.if_nametoindex(task["interface"])
out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
out.connect((task["to"], task["port"], 0, index))
chance, head = random.Random(task["seed"]), bytes.fromhex(task["head"])
payloads = [head + chance.randbytes(chance.randrange(20, 200)) for _ in range(1000)]
sent, began = 0, time.monotonic()
while (elapsed := time.monotonic() - began) < task["seconds"]:
    due = int(elapsed * task["rate"]) - sent
    if due < 50:
        time.sleep(0.0005)
        continue
    for _ in range(min(due, 500)):
        try:
            out.send(payloads[sent % 1000])
        except OSError:
            pass  # a full queue: lost, as on any link
        sent += 1
print(json.dumps({"sent": sent, "seconds": time.monotonic() - began}))
"""


def flood(lab: Lab, source: str, victim: str, head: str, seconds: float, rate: int = RATE_PER_S) -> int:
    """Flood the daemon of ``victim`` from beside it; how many datagrams were sent."""
    addresses = json.loads(lab.exec(victim, ["ip", "-j", "-6", "addr", "show", "dev", f"to-{source}"]).stdout)
    local = next(a["local"] for link in addresses for a in link.get("addr_info", ()) if a["scope"] == "link")
    task = {"interface": f"to-{victim}", "to": local, "port": 4747, "head": head, "seconds": seconds}
    argv = lab.exec_argv(source, [sys.executable, "-I", "-S", "-c", SENDER])
    text = json.dumps({**task, "rate": rate, "seed": 1})
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=seconds + 60, check=True)
    return int(json.loads(done.stdout)["sent"])


def refused(lab: Lab, node: str) -> int:
    """How many datagrams a daemon has refused so far."""
    counts: dict[str, int] = lab.client(node).get("status")["rejected"]
    return sum(counts.values())


def main() -> None:
    """Each kind in turn; every member must be up at the end."""
    seconds = setting("FLOOD_SECONDS", 10)
    figures = []
    with bench_lab(SHAPE, NAME) as lab:
        pid = lab.running()["n2"]
        for kind, head in KINDS.items():
            print(f"load average {load()}; {kind}, {seconds} s", flush=True)
            time.sleep(2)
            before, cpu, count, began = memory(pid).rss, cpu_ns(pid), refused(lab, "n2"), time.monotonic()
            sent = flood(lab, "n1", "n2", head, seconds)
            elapsed = time.monotonic() - began
            share = (cpu_ns(pid) - cpu) / 1e9 / elapsed
            wait_until(lambda: all(sees_all(lab, node) for node in lab.nodes), 60, "all members are up")
            grown, read = memory(pid).rss - before, refused(lab, "n2") - count
            said = f"{share:.0%} of a processor, {grown:+.1f} MiB, {read / max(1, sent):.0%} read"
            met = grown <= GROWTH_AIM_MIB
            name = f"flooded with {sent / elapsed:,.0f} a second, {kind}"
            figures.append(Figure(name, f"members up, {GROWTH_AIM_MIB:.0f} MiB", said, met))
        for node in lab.nodes:
            text = lab.log(node).read_text()
            print(f"{node}: {text.count('member.down')} deaths, {text.count('neighbour.down')} links lost")
    report(figures)


if __name__ == "__main__":
    main()
