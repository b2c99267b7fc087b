"""``dmssd node``: this node, as the mesh should treat it."""

import click

from dmssd.cli.target import Target, pass_target, shared_options
from dmssd.cli.trial import show_outcome, trial_arguments, trial_options


@click.group()
def node() -> None:
    """Take this node out of others' way, and back."""


@node.command()
@trial_options
@shared_options
@pass_target
def drain(target: Target, dry_run: bool, confirm_s: float | None) -> None:
    """Have others send through every other node there is, before work on this one.

    The node stays reachable itself. Lasts over restarts, until dmssd node undrain.
    """
    answer = target.client().post("drain", {"on": True, **trial_arguments(dry_run, confirm_s)})
    show_outcome(target, answer, "draining: traffic of others takes other ways where there are any")


@node.command()
@trial_options
@shared_options
@pass_target
def undrain(target: Target, dry_run: bool, confirm_s: float | None) -> None:
    """Take part in forwarding for others again."""
    answer = target.client().post("drain", {"on": False, **trial_arguments(dry_run, confirm_s)})
    show_outcome(target, answer, "no longer draining")
