"""Breaking links: taken down in sight of everyone, or silently, whole or in part; and stopping daemons for a while.

A silent drop is an nftables chain on the ingress of a device, before the kernel looks at a packet, so that nothing of
what arrives counts and no link state changes. A loss is the same for some packets, by chance. What is to be dropped
follows from the list of faults alone, and a namespace's table is replaced whole from it: any order of faults and
healings ends in the same rules. Each namespace has one table, ``netdev dmssd_fault``, which goes with the namespace.
"""

import subprocess
from collections.abc import Iterable, Mapping, Sequence

from dmssd.lab import plumbing
from dmssd.lab.design import Design, clock_path
from dmssd.lab.errors import LabError
from dmssd.lab.processes import inside
from dmssd.lab.state import Fault

ALL = 100
"""Percent: nothing gets through."""

Losses = dict[str, dict[str, int]]
"""For each node the interfaces that lose what arrives there, and how much of it, in percent."""


def losses(plan: Design, faults: Iterable[Fault]) -> Losses:
    """What is lost where; of several faults of one interface the worst counts. Nodes without any are left out."""
    found: Losses = {}
    for fault in faults:
        for node, interface in _lossy_ends(plan, fault):
            here = found.setdefault(node, {})
            here[interface] = max(here.get(interface, 0), fault.percent or ALL)
    return {node: dict(sorted(here.items())) for node, here in found.items()}


def _lossy_ends(plan: Design, fault: Fault) -> list[tuple[str, str]]:
    match fault.kind:
        case "drop" | "loss" if fault.b:
            links = plan.between(fault.a, fault.b)
        case "drop-node" | "loss":
            links = plan.links_of(fault.a)
        case _:
            return []
    ends = [(link.a, link.a_interface) for link in links] + [(link.b, link.b_interface) for link in links]
    return [end for end in ends if not (fault.one_way and end[0] == fault.a)]


def frozen(faults: Iterable[Fault]) -> list[str]:
    """The nodes whose daemons are stopped for a while."""
    return list(dict.fromkeys(fault.a for fault in faults if fault.kind == "freeze"))


def parted(plan: Design, groups: Sequence[Sequence[str]]) -> list[Fault]:
    """The drops that keep these groups apart; nodes that are in none of them are one more group.

    LabError where a node is in two, or two groups share a segment: what crosses that is one link to all of them.
    """
    group: dict[str, int] = {}
    for number, members in enumerate(groups, 1):
        for node in members:
            if group.setdefault(plan.node(node).name, number) != number:
                raise LabError(f"{node} is in two groups: name it once")
    for segment in plan.segments:
        if len({group.get(link.a, 0) for link in plan.links if link.b == segment.name}) > 1:
            raise LabError(f"segment {segment.name} joins nodes of several groups: keep its nodes in one")
    nodes = {node.name for node in plan.nodes}
    pairs = dict.fromkeys((link.a, link.b) for link in plan.links if {link.a, link.b} <= nodes)
    return [Fault("drop", a, b) for a, b in pairs if group.get(a, 0) != group.get(b, 0)]


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


def ruleset(lost: Mapping[str, int]) -> str:
    """The nftables script that has these interfaces lose that much of what arrives, in percent, and no others."""
    lines = ["table netdev dmssd_fault", "delete table netdev dmssd_fault"]
    if lost:
        lines.append("table netdev dmssd_fault {")
        for percent in sorted(set(lost.values())):
            devices = ", ".join(f'"{interface}"' for interface, share in lost.items() if share == percent)
            lines += [
                f"  chain lose_{percent} {{",
                f"    type filter hook ingress devices = {{ {devices} }} priority -500; policy accept;",
                "    drop" if percent == ALL else f"    numgen random mod {ALL} < {percent} drop",
                "  }",
            ]
        lines.append("}")
    return "\n".join(lines) + "\n"


def apply(plan: Design, before: Sequence[Fault], after: Sequence[Fault]) -> None:
    """Make the kernel match ``after``, given that it matched ``before``; all namespaces concerned at the same time."""
    old, new = losses(plan, before), losses(plan, after)
    running = []
    for node in plan.places:
        if old.get(node.name, {}) != new.get(node.name, {}):
            argv = [*inside(plumbing.namespace_path(node.namespace)), "nft", "-f", "-"]
            child = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            running.append((node.name, child, ruleset(new.get(node.name, {}))))
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
