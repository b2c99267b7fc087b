"""``dmssd member``: who belongs to the mesh."""

from typing import Any

import click

from dmssd.cli.render import duration, table
from dmssd.cli.target import Target, pass_target, shared_options


@click.group()
def member() -> None:
    """Who belongs to the mesh."""


@member.command("list")
@shared_options
@pass_target
def list_(target: Target) -> None:
    """Every member, this node included, as this node sees them."""
    answer = target.client().get("members")
    target.show(answer, lambda: table(["name", "state", "since", "addresses", "node"], map(_row, answer)))


def _row(one: dict[str, Any]) -> list[object]:
    return [one["name"], one["state"], duration(one["since_s"]), one["addresses"], one["node"]]


@member.command()
@shared_options
@pass_target
def addresses(target: Target) -> None:
    """Which addresses of the mesh are whose."""
    answer = target.client().get("addresses")
    target.show(answer, lambda: table(["name", "block", "origin", "claim", "node"], map(_claim, answer)))


def _claim(one: dict[str, Any]) -> list[object]:
    origin = "configured" if one["configured"] else "drawn"
    return [one["name"], one["block"], origin, "holds" if one["holds"] else "contested", one["node"]]
