"""``dmssd token``: invitations into the mesh."""

import click

from dmssd.cli.duration import Duration
from dmssd.cli.render import duration, plural
from dmssd.cli.target import Target, pass_target, shared_options

USES_MAX = 1_000
TTL_S_MAX = 7 * 24 * 3_600


@click.group()
def token() -> None:
    """Invitations into the mesh."""


@token.command()
@click.option("--uses", type=click.IntRange(1, USES_MAX), default=1, show_default=True, help="How many may join.")
@click.option(
    "--ttl", "ttl_s", type=Duration(1, TTL_S_MAX), default="10m", show_default=True, help="How long it holds."
)
@shared_options
@pass_target
def create(target: Target, uses: int, ttl_s: float) -> None:
    """Print a new token for dmssd join.

    Only this node can redeem it, and it must be running then. Whoever has the token may join: treat it as a password.
    """
    answer = target.client().post("token", {"uses": uses, "ttl_s": int(ttl_s)})
    # The token alone on stdout, so that T=$(dmssd token create) works.
    target.show(answer, lambda: str(answer["token"]))
    if target.output == "table":
        click.echo(
            f"good for {plural(uses, 'join')} within {duration(ttl_s)}; next: dmssd join PEER --token T", err=True
        )
