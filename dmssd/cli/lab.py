"""``dmssd lab``: real daemons in network namespaces on this machine, with faults.

The modules of the lab are imported by each command for itself: the command line starts without them.
"""

import os
from typing import TYPE_CHECKING, Any

import click

from dmssd.cli.render import plural, table
from dmssd.cli.target import Target, pass_target, shared_options

if TYPE_CHECKING:
    from dmssd.lab.lab import Lab
    from dmssd.lab.state import Fault


def _only_lab(name: str | None) -> "Lab":
    """The lab of that name; without a name the one that there is."""
    from dmssd.lab.errors import LabError
    from dmssd.lab.lab import Lab
    from dmssd.lab.state import labs

    if name is None:
        names = labs()
        if len(names) > 1:
            raise LabError(f"there are several labs: {', '.join(names)}; say which with --name")
        name = names[0] if names else "lab"
    return Lab.open(name)


def _root_lab(name: str | None) -> "Lab":
    from dmssd.lab.lifecycle import require_root

    require_root()
    return _only_lab(name)


name_option = click.option("--name", metavar="LAB", help="Which lab; needed only where there are several.")


@click.group()
def lab() -> None:
    """Real daemons in network namespaces on this machine."""


@lab.command()
@click.argument("shape")
@click.option("--name", default="lab", show_default=True, metavar="LAB", help="1 to 16 of a-z, 0-9 and _.")
@click.option("--tp", default=3, show_default=True, metavar="N", help="How many nodes compute plans for all.")
@click.option("--weight", metavar="ATTRIBUTE", help="Edge attribute of a graph file that holds the metric (else 1).")
@click.option("--no-join", is_flag=True, help="Start the daemons, but let nobody found or join a mesh.")
def up(shape: str, name: str, tp: int, weight: str | None, no_join: bool) -> None:
    """Make a lab and let its nodes form a mesh.

    SHAPE is line:N ring:N grid:RxC star:N full:N abilene, or a GML or GraphML file.
    """
    from dmssd.lab.design import check_lab_name
    from dmssd.lab.interrupts import interruptible
    from dmssd.lab.lab import Lab
    from dmssd.lab.lifecycle import cleaned

    with interruptible(), cleaned(check_lab_name(name)):
        made = Lab.up(shape, name, tp, weight=weight, join=not no_join, progress=click.echo)
        made.release()
    first = made.nodes[0]
    click.echo(f"lab {name} is up; try: dmssd lab exec --name {name} {first} -- dmssd status")


@lab.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every lab on this machine.")
def down(name: str | None, everything: bool) -> None:
    """End a lab's daemons and take away all that it made; NAME is lab by default."""
    from dmssd.lab.errors import LabError
    from dmssd.lab.lifecycle import all_labs, exists, take_down

    if name and everything:
        raise click.UsageError("name one lab, or say --all")
    problems: list[LabError] = []
    for each in all_labs() if everything else [name or "lab"]:
        there = exists(each)
        try:
            left = take_down(each)
        except LabError as problem:
            problems.append(problem)
            continue
        click.echo(f"lab {each} is down" if there else f"there is no lab {each}; nothing to do")
        for sentence in left:
            click.echo(f"left alone: {sentence}", err=True)
    if problems:
        raise problems[0]


@lab.command()
@click.argument("name", required=False)
@shared_options
@pass_target
def status(target: Target, name: str | None) -> None:
    """Show a lab's nodes, links and faults; without NAME the one that there is."""
    report = _report(_only_lab(name))
    target.show(report, lambda: _text(report))


def _text(report: dict[str, Any]) -> str:
    down_count = sum(1 for node in report["nodes"] if node["pid"] is None)
    verdict = "all daemons run" if not down_count else f"{down_count} of {len(report['nodes'])} daemons do not run"
    rows = [
        [node["name"], node["pid"] or "-", node["address4"], node["address6"], " ".join(node["neighbours"])]
        for node in report["nodes"]
    ]
    parts = [
        f"lab {report['name']} ({report['shape']}): {verdict}, {plural(len(report['faults']), 'fault')}",
        table(["node", "daemon", "IPv4", "IPv6", "neighbours"], rows),
        *(f"fault: {fault['text']}" for fault in report["faults"]),
    ]
    return "\n".join(parts)


def _report(found: "Lab") -> dict[str, Any]:
    from dmssd.lab.plumbing import ends

    running = found.running()
    return {
        "name": found.name,
        "shape": found.design.shape,
        "tp": list(found.design.tps),
        "founder": found.design.founder,
        "nodes": [
            {
                "name": node.name,
                "namespace": node.namespace,
                "address4": node.address4,
                "address6": node.address6,
                "socket": str(found.socket(node.name)),
                "pid": running.get(node.name),
                "neighbours": list(dict.fromkeys(far for _, far in ends(found.design, node.name))),
            }
            for node in found.design.nodes
        ],
        "links": [
            {
                "from": link.a,
                "from_interface": link.a_interface,
                "to": link.b,
                "to_interface": link.b_interface,
                "metric": link.metric_ab,
                "metric_back": link.metric_ba,
            }
            for link in found.design.links
        ],
        "faults": [_fault(fault) for fault in found.state().faults],
    }


def _fault(fault: "Fault") -> dict[str, Any]:
    return {"kind": fault.kind, "a": fault.a, "b": fault.b or None, "one_way": fault.one_way, "text": str(fault)}


@lab.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str | None, node: str, command: tuple[str, ...]) -> None:
    """Run a command on a node: dmssd lab exec NODE -- COMMAND...

    The command sees the node's network and nothing else of it; DMSSD_SOCKET names its daemon.
    """
    from dmssd.lab.errors import LabError

    found = _root_lab(name)
    environment = {**os.environ, "DMSSD_SOCKET": str(found.socket(node))}
    argv = found.exec_argv(node, command[1:] if command[0] == "--" and len(command) > 1 else command)
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606  (the point of the command)
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed; install util-linux") from None


@lab.group()
def fault() -> None:
    """Break the network, or end daemons; heal takes faults back."""


@fault.command("link-down")
@name_option
@click.argument("a")
@click.argument("b")
def link_down(name: str | None, a: str, b: str) -> None:
    """Set the links between A and B down, at A's end."""
    _root_lab(name).link_down(a, b)
    click.echo(f"links {a} - {b} are down")


@fault.command()
@name_option
@click.option("--one-way", is_flag=True, help="Only what goes from A to B.")
@click.argument("a")
@click.argument("b")
def drop(name: str | None, one_way: bool, a: str, b: str) -> None:
    """Silently drop what goes between A and B: no link changes its state."""
    _root_lab(name).drop(a, b, one_way=one_way)
    click.echo(f"packets {a} {'->' if one_way else '<->'} {b} are dropped silently")


@fault.command("drop-node")
@name_option
@click.argument("node")
def drop_node(name: str | None, node: str) -> None:
    """Silently drop all that goes over any link of NODE."""
    _root_lab(name).drop_node(node)
    click.echo(f"packets to and from {node} are dropped silently")


@fault.command()
@name_option
@click.argument("percent", type=click.IntRange(1, 100))
@click.argument("a")
@click.argument("b", required=False)
def loss(name: str | None, percent: int, a: str, b: str | None) -> None:
    """Lose PERCENT of the packets, by chance, between A and B; without B over any link of A."""
    _root_lab(name).lose(percent, a, b)
    click.echo(f"{percent} % of the packets {f'{a} <-> {b}' if b else f'to and from {a}'} are lost")


@fault.command()
@name_option
@click.argument("groups", nargs=-1, required=True, metavar="NODE,NODE...")
def partition(name: str | None, groups: tuple[str, ...]) -> None:
    """Silently drop all that goes between these groups of nodes; those not named are one more group."""
    _root_lab(name).part(*(group.split(",") for group in groups))
    click.echo(f"nothing passes between {' and '.join(groups)}, nor from there to the others")


@fault.command()
@name_option
@click.argument("node")
def freeze(name: str | None, node: str) -> None:
    """Stop the daemon of NODE where it is (SIGSTOP), until healed; its kernel goes on."""
    _root_lab(name).freeze(node)
    click.echo(f"the daemon of {node} is frozen")


@fault.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("node")
@click.argument("seconds", type=click.IntRange(-(10**10), 10**10))
def clock(name: str | None, node: str, seconds: int) -> None:
    """Have the time of day of NODE's daemon jump by SECONDS, such as -86400."""
    _root_lab(name).shift_clock(node, seconds)
    click.echo(f"the clock of {node} jumped by {seconds} s")


@fault.command()
@name_option
@click.argument("a", required=False)
@click.argument("b", required=False)
def heal(name: str | None, a: str | None, b: str | None) -> None:
    """Take faults back: all, those that concern A, or those between A and B."""
    healed = _root_lab(name).heal(a, b)
    for each in healed:
        click.echo(f"healed: {each}")
    if not healed:
        click.echo("there is no such fault; nothing to do")


@fault.command()
@name_option
@click.argument("node")
def kill(name: str | None, node: str) -> None:
    """SIGKILL the daemon of NODE; its kernel forwards on."""
    _root_lab(name).kill(node)
    click.echo(f"the daemon of {node} was killed")


@fault.command()
@name_option
@click.argument("node")
def restart(name: str | None, node: str) -> None:
    """End the daemon of NODE if it runs, and start it again."""
    found = _root_lab(name)
    found.restart(node)
    click.echo(f"the daemon of {node} answers, process {found.running()[node]}")


@lab.command()
def demo() -> None:
    """Abilene in eleven namespaces: found, join, forward, lose a node and heal. Under 90 s, leaves nothing."""
    from dmssd.lab.demo import run

    run()
