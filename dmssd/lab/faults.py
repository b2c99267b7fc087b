"""Breaking links: taken down in sight of everyone, or silently.

A silent drop is an nftables chain on the ingress of a device, before the kernel looks at a packet, so that nothing of
what arrives counts and no link state changes. What is to be dropped follows from the list of faults alone, and a
namespace's table is replaced whole from it: any order of faults and healings ends in the same rules. Each namespace
has one table, ``netdev dmssd_fault``, which goes with the namespace.
"""

import subprocess
from collections.abc import Iterable, Sequence

from dmssd.lab import plumbing
from dmssd.lab.design import Design, clock_path
from dmssd.lab.errors import LabError
from dmssd.lab.processes import inside
from dmssd.lab.state import Fault


def deaf(plan: Design, faults: Iterable[Fault]) -> dict[str, list[str]]:
    """For each node the interfaces whose arriving packets are dropped, sorted; nodes without any are left out."""
    found: dict[str, dict[str, None]] = {}
    for fault in faults:
        for node, interface in _deaf_ends(plan, fault):
            found.setdefault(node, {})[interface] = None
    return {node: sorted(interfaces) for node, interfaces in found.items()}


def _deaf_ends(plan: Design, fault: Fault) -> list[tuple[str, str]]:
    match fault.kind:
        case "drop":
            links = plan.between(fault.a, fault.b)
            ends = [(link.a, link.a_interface) for link in links] + [(link.b, link.b_interface) for link in links]
            return [end for end in ends if not (fault.one_way and end[0] == fault.a)]
        case "drop-node":
            links = plan.links_of(fault.a)
            return [(link.a, link.a_interface) for link in links] + [(link.b, link.b_interface) for link in links]
        case _:
            return []


def downed(plan: Design, faults: Iterable[Fault]) -> list[tuple[str, str]]:
    """The (node, interface) ends that are set down: the first-named end of each ``link-down``."""
    found: dict[tuple[str, str], None] = {}
    for fault in faults:
        if fault.kind == "link-down":
            for link in plan.between(fault.a, fault.b):
                found[(fault.a, link.a_interface if link.a == fault.a else link.b_interface)] = None
    return list(found)


def shifted(faults: Iterable[Fault]) -> dict[str, int]:
    """By how many seconds the time of day of each node is wrong; several shifts of one node add up."""
    found: dict[str, int] = {}
    for fault in faults:
        if fault.kind == "clock":
            found[fault.a] = found.get(fault.a, 0) + fault.seconds
    return found


def ruleset(interfaces: Sequence[str]) -> str:
    """The nftables script that makes these interfaces deaf and all others hear."""
    lines = ["table netdev dmssd_fault", "delete table netdev dmssd_fault"]
    if interfaces:
        devices = ", ".join(f'"{interface}"' for interface in interfaces)
        lines += [
            "table netdev dmssd_fault {",
            "  chain silence {",
            f"    type filter hook ingress devices = {{ {devices} }} priority -500; policy drop;",
            "  }",
            "}",
        ]
    return "\n".join(lines) + "\n"


def apply(plan: Design, before: Sequence[Fault], after: Sequence[Fault]) -> None:
    """Make the kernel match ``after``, given that it matched ``before``; all namespaces concerned at the same time."""
    old, new = deaf(plan, before), deaf(plan, after)
    running = []
    for node in plan.places:
        if old.get(node.name, []) != new.get(node.name, []):
            argv = [*inside(plumbing.namespace_path(node.namespace)), "nft", "-f", "-"]
            child = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            running.append((node.name, child, ruleset(new.get(node.name, []))))
    problems = []
    for name, child, script in running:
        _, errors = child.communicate(script)
        if child.returncode:
            problems.append(f"{name}: {errors.strip().splitlines()[-1] if errors.strip() else 'nft failed'}")
    if problems:
        raise LabError(f"a silent drop was refused: {problems[0]}")
    _apply_downs(plan, before, after)
    _apply_shifts(plan, before, after)


def _apply_shifts(plan: Design, before: Sequence[Fault], after: Sequence[Fault]) -> None:
    old, new = shifted(before), shifted(after)
    for node in {*old, *new}:
        if old.get(node, 0) != new.get(node, 0):
            file = clock_path(plan.name, node)
            scratch = file.with_name(f"{file.name}.new")
            scratch.write_text(f"{new.get(node, 0)}\n")
            scratch.replace(file)


def _apply_downs(plan: Design, before: Sequence[Fault], after: Sequence[Fault]) -> None:
    old, new = downed(plan, before), downed(plan, after)
    for node, interface in new:
        if (node, interface) not in old:
            plumbing.set_link(plan.place(node).namespace, interface, up=False)
    for node, interface in old:
        if (node, interface) not in new:
            plumbing.set_link(plan.place(node).namespace, interface, up=True)


def without(faults: Sequence[Fault], a: str | None, b: str | None) -> list[Fault]:
    """The faults left after healing everything, all that concern ``a``, or those of the links of ``a`` and ``b``.

    Healing ``a`` and ``b`` leaves a ``drop-node`` of either: that is healed by its node.
    """
    if a is None:
        return []
    if b is None:
        return [fault for fault in faults if a not in (fault.a, fault.b)]
    return [fault for fault in faults if {fault.a, fault.b} != {a, b}]
