"""``dmssd node``: this node, as the mesh should treat it."""

import click

from dmssd.cli.target import Target, pass_target, shared_options


@click.group()
def node() -> None:
    """Take this node out of others' way, and back."""


@node.command()
@shared_options
@pass_target
def drain(target: Target) -> None:
    """Have others send through every other node there is, before work on this one.

    The node stays reachable itself. Lasts over restarts, until dmssd node undrain.
    """
    answer = target.client().post("drain", {"on": True})
    target.show(answer, lambda: "draining: traffic of others takes other ways where there are any")


@node.command()
@shared_options
@pass_target
def undrain(target: Target) -> None:
    """Take part in forwarding for others again."""
    answer = target.client().post("drain", {"on": False})
    target.show(answer, lambda: "no longer draining")
