"""``dmssd role``: the µ-services that run on this node."""

import click

from dmssd.cli.render import records
from dmssd.cli.target import Target, pass_target, shared_options


@click.group()
def role() -> None:
    """The µ-services of this node."""


@role.command("list")
@shared_options
@pass_target
def list_(target: Target) -> None:
    """Every role that is switched on, and what it is doing."""
    answer = target.client().get("roles")
    target.show(answer, lambda: records(answer) if answer else "no role is switched on")
