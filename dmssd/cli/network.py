"""``dmssd network``: the graphs that the mesh is made of, as this node knows them."""

import importlib
import importlib.util
from typing import Any

import click

from dmssd.cli.render import clean, number, plural, table
from dmssd.cli.target import Target, complete_member, pass_target, shared_options
from dmssd.cli.trial import show_outcome, trial_arguments, trial_options

SET_TIMEOUT_S = 20.0
"""Longer than the daemon waits for the other end."""
COMPUTE_MODULE = "dmssd.cli.compute"


class _Network(click.Group):
    """The group, with ``compute`` imported only when it is asked for: it needs no daemon, but a graph library."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Its commands, sorted."""
        offline = ["compute"] if importlib.util.find_spec(COMPUTE_MODULE) else []
        return sorted([*super().list_commands(ctx), *offline])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command."""
        if cmd_name == "compute" and importlib.util.find_spec(COMPUTE_MODULE):
            command: click.Command = importlib.import_module(COMPUTE_MODULE).compute
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Network)
def network() -> None:
    """The graphs: global topology, MWT, SPT-ECMP."""


@network.command("global")
@shared_options
@pass_target
def global_(target: Target) -> None:
    """Every node and every link that both of its ends advertise."""
    answer = target.client().get("network/global")
    target.show(answer, lambda: _global_text(answer))


@network.command()
@click.option("--policy", type=click.Choice(["shortest", "spanning"]), help="Else the configured one.")
@shared_options
@pass_target
def mwt(target: Target, policy: str | None) -> None:
    """The Min-Weight Topology: which links it keeps, which it drops, and why."""
    answer = target.client().get("network/mwt", policy=policy)
    target.show(answer, lambda: _mwt_text(answer))


@network.command()
@click.argument("node", required=False, shell_complete=complete_member)
@shared_options
@pass_target
def spt(target: Target, node: str | None) -> None:
    """The shortest paths from NODE (else this one) to all others, with every equal-cost next hop."""
    answer = target.client().get("network/spt", node=node)
    target.show(answer, lambda: _spt_text(answer))


@network.command("set")
@click.argument("link", metavar="A-B")
@click.argument("what", type=click.Choice(["metric"]))
@click.argument("metric", metavar="N|configured")
@trial_options
@shared_options
@pass_target
def set_(target: Target, link: str, what: str, metric: str, dry_run: bool, confirm_s: float | None) -> None:
    """What the links between two nodes cost, in both directions, from now on: dmssd network set A-B metric 50.

    Kept by both until it is set again; "configured" goes back to what their configurations say. Needs the admin
    capability for ends other than this node.
    """
    if metric != "configured" and not metric.isdecimal():
        raise click.BadParameter(f"{metric!r} is neither a whole number nor the word configured", param_hint="N")
    value = None if metric == "configured" else int(metric)
    arguments = {"link": link, "metric": value, **trial_arguments(dry_run, confirm_s)}
    answer = target.client().post("metric", arguments, SET_TIMEOUT_S)
    said = f"costs {value}" if value is not None else "costs what its ends are configured with"
    show_outcome(target, answer, f"{clean(link)} {said}, in both directions")


def _global_text(answer: dict[str, Any]) -> str:
    nodes = table(
        ["node", "prefixes", "id", "state"],
        [[one["name"], one["prefixes"], one["node"], _node_state(one)] for one in answer["nodes"]],
    )
    edges = table(
        ["from", "to", "link", "metric"],
        [[edge["from"], edge["to"], edge["link"], edge["metric"]] for edge in answer["edges"]],
    )
    count = f"{plural(len(answer['nodes']), 'node')}, {plural(len(answer['edges']), 'link direction')}"
    shared = answer.get("segments", [])
    parts = [f"{count}, {plural(len(shared), 'segment')}" if shared else count, nodes]
    if shared:
        rows = [[one["name"], ", ".join(one["speakers"]), len(one["members"]), one["members"]] for one in shared]
        parts.append(table(["segment", "speakers", "size", "members"], rows))
    return "\n\n".join([*parts, edges] if answer["edges"] else parts)


def _node_state(one: dict[str, Any]) -> str:
    gateway = [f"gateway {one['gateway']}"] if one.get("gateway") else []
    return " ".join([*gateway, *(["draining"] if one.get("draining") else [])])


def _mwt_text(answer: dict[str, Any]) -> str:
    kept, dropped = answer["kept"], answer["dropped"]
    parts = [f"policy {answer['policy']}: {plural(len(kept), 'link direction')} kept, {len(dropped)} dropped"]
    if kept:
        rows = [[edge["from"], edge["to"], edge["metric"]] for edge in kept]
        parts.append(table(["kept from", "to", "metric"], rows))
    if dropped:
        rows = [[edge["from"], edge["to"], edge["metric"], edge["reason"]] for edge in dropped]
        parts.append(table(["dropped from", "to", "metric", "because"], rows))
    return "\n\n".join(parts)


def _spt_text(answer: dict[str, Any]) -> str:
    rows = [
        [one["name"], one["distance"], ", ".join(map(_hop, one["next_hops"])), one["prefixes"]]
        for one in answer["destinations"]
    ]
    if not rows:
        return f"from {clean(answer['node'])} no other node is reached; next: dmssd status"
    return f"from {clean(answer['node'])}\n\n" + table(["to", "distance", "next hops", "prefixes"], rows)


def _hop(hop: dict[str, Any]) -> str:
    # The interface is known of this node's own links only; the weight is worth saying only if it is not the usual 1.
    via = f" on {hop['interface']}" if hop.get("interface") else ""
    weight = f" x{number(hop['weight'])}" if hop.get("weight", 1) != 1 else ""
    return f"{hop['name']}{via}{weight}"
