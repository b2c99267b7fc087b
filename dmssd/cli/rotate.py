"""``dmssd rotate``: put other keys in place of those in use, while everything goes on."""

import click

from dmssd.cli.duration import Duration
from dmssd.cli.render import clean
from dmssd.cli.target import Target, pass_target, shared_options

TIMEOUT_S_MAX = 3_600


@click.group()
def rotate() -> None:
    """Put other keys in place of those in use, while everything goes on."""


@rotate.command()
@click.option(
    "--timeout",
    "timeout_s",
    type=Duration(1, TIMEOUT_S_MAX),
    default="60s",
    show_default=True,
    help="How long to wait for an admin's node.",
)
@shared_options
@pass_target
def key(target: Target, timeout_s: float) -> None:
    """Give this node another key, and with it another id; name, addresses, capabilities and routes stay.

    An admin's node admits the new key by itself. Soon after, the old key opens nothing any more. Tokens that this node
    gave out are void: they name the old id.
    """
    answer = target.client().post("rotate-key", {"timeout_s": timeout_s}, timeout_s=timeout_s + 10)
    target.show(answer, lambda: f"{clean(answer['name'])} is {answer['node']} from now on; it was {answer['before']}")
