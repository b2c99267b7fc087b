"""``dmssd route``: what this node's Forwarder has programmed."""

from typing import Any

import click

from dmssd.cli.render import clean, number, plural, table
from dmssd.cli.target import Target, pass_target, shared_options


@click.group()
def route() -> None:
    """What this node has programmed."""


@route.command("list")
@shared_options
@pass_target
def list_(target: Target) -> None:
    """Every route of the mesh, its gateways, and whose plan it follows."""
    answer = target.client().get("routes")
    target.show(answer, lambda: _text(answer))


def _text(answer: dict[str, Any]) -> str:
    rows = [[one["prefix"], ", ".join(map(_hop, one["next_hops"]))] for one in answer["routes"]]
    head = f"{plural(len(rows), 'route')} by plan of {clean(answer['source'])}"
    return f"{head}\n\n{table(['prefix', 'next hops'], rows)}" if rows else head


def _hop(hop: dict[str, Any]) -> str:
    weight = f" x{number(hop['weight'])}" if hop.get("weight", 1) != 1 else ""
    return f"{hop['name']} ({hop['address']} on {hop['interface']}){weight}"
