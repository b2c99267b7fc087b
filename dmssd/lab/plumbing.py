"""Namespaces and veth pairs, by a few ``ip -batch`` runs: eleven nodes take a fraction of a second.

Both ends of a pair are made inside their namespaces, so that nothing ever appears in the machine's own. Nothing gets
an address here but what the kernel gives by itself (link-local ones, and lo's own): every other path is dmssd's to
program. Duplicate address detection is off: it keeps a new veth unusable for 1.6 s.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from dmssd.lab import design
from dmssd.lab.design import Design
from dmssd.lab.errors import LabError
from dmssd.lab.processes import inside

BRIDGE = "bridge"
UP_SCRIPT = """
for setting in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 >"$setting"; done
for setting in /proc/sys/net/ipv6/conf/*/accept_ra; do echo 0 >"$setting"; done
exec ip -batch -
"""


def namespace_path(namespace: str) -> Path:
    """Where iproute2 keeps that namespace."""
    return design.NETNS_DIRECTORY / namespace


def make(plan: Design) -> None:
    """Make the namespaces, the links and set them up; LabError with what ``ip`` said if it refuses."""
    _run(["ip", "-batch", "-"], [f"netns add {place.namespace}" for place in plan.places])
    namespaces = {place.name: place.namespace for place in plan.places}
    for node in plan.nodes:
        pairs = [
            f"link add {link.a_interface} type veth peer name {link.b_interface} netns {namespaces[link.b]}"
            for link in plan.links
            if link.a == node.name
        ]
        if pairs:
            _run([*inside(namespace_path(node.namespace)), "ip", "-batch", "-"], pairs)
    for node in plan.nodes:
        devices = ["lo", *(interface for interface, _ in ends(plan, node.name))]
        _run(
            [*inside(namespace_path(node.namespace)), "sh", "-c", UP_SCRIPT],
            [f"link set {device} up" for device in devices],
        )
    for segment in plan.segments:
        ports = [interface for interface, _ in ends(plan, segment.name)]
        lines = [f"link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0", f"link set {BRIDGE} up"]
        lines += [f"link set {port} master {BRIDGE} up" for port in ports]
        _run([*inside(namespace_path(segment.namespace)), "ip", "-batch", "-"], lines)


def ends(plan: Design, node: str) -> list[tuple[str, str]]:
    """The interfaces of a node or segment, each with what is at its far end."""
    found = []
    for link in plan.links:
        if link.a == node:
            found.append((link.a_interface, link.b))
        elif link.b == node:
            found.append((link.b_interface, link.a))
    return found


def existing(lab: str) -> list[str]:
    """The namespaces that are there and bear that lab's name."""
    if not design.NETNS_DIRECTORY.is_dir():
        return []
    return sorted(entry.name for entry in design.NETNS_DIRECTORY.iterdir() if entry.name.startswith(f"dmssd-{lab}-"))


def labs_with_namespaces() -> list[str]:
    """Names of labs that namespaces bear, whether or not the lab has a directory."""
    if not design.NETNS_DIRECTORY.is_dir():
        return []
    parts = (entry.name.split("-", 2) for entry in design.NETNS_DIRECTORY.iterdir())
    return sorted(
        {part[1] for part in parts if len(part) == 3 and part[0] == "dmssd" and design.LAB_NAME.match(part[1])}
    )


def remove(namespaces: Sequence[str]) -> None:
    """Delete those of the namespaces that exist, with all that is in them; LabError naming any that stay."""
    present = [name for name in namespaces if namespace_path(name).exists()]
    if present:
        subprocess.run(
            ["ip", "-force", "-batch", "-"],
            input="".join(f"netns delete {name}\n" for name in present),
            text=True,
            capture_output=True,
            check=False,
            process_group=0,  # a second Ctrl-C in a terminal must not stop the clean-up
        )
    left = [name for name in present if namespace_path(name).exists()]
    if left:
        raise LabError(f"these namespaces could not be deleted: {', '.join(left)}; try: ip netns delete {left[0]}")


def set_link(namespace: str, interface: str, up: bool) -> None:
    """Set one end of a link up or down, as an administrator would."""
    _run([*inside(namespace_path(namespace)), "ip", "-batch", "-"], [f"link set {interface} {'up' if up else 'down'}"])


def _run(argv: Sequence[str], lines: Sequence[str]) -> None:
    try:
        done = subprocess.run(argv, input="\n".join(lines) + "\n", text=True, capture_output=True, check=False)
    except FileNotFoundError as missing:
        raise LabError(f"{missing.filename} is not installed; run: setup/system.sh") from None
    if done.returncode:
        raise LabError(f"the kernel refused a part of the lab: {done.stderr.strip().splitlines()[0]}")
