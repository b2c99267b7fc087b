"""``dmssd expel``: who is let in and who is put out, after the first join."""

from typing import Any

import click

from dmssd.cli.render import clean, listed
from dmssd.cli.target import Target, pass_target, shared_options


@click.command()
@click.argument("node")
@click.option("--reason", metavar="TEXT", help="Shown to everybody, and to the one expelled.")
@click.option("--withdraw", is_flag=True, help="Take this node's vote back.")
@shared_options
@pass_target
def expel(target: Target, node: str, reason: str | None, withdraw: bool) -> None:
    """Take NODE's membership away: its sessions end, its announcements are no longer believed, and it is told.

    One admin expels a member. An admin is expelled by two admins, in a mesh of three or fewer by one; the last admin
    stays. NODE is a name or an id.
    """
    answer = target.client().post("expel", {"node": node, "reason": reason, "withdraw": withdraw or None})
    target.show(answer, lambda: _outcome(answer))


def _outcome(answer: dict[str, Any]) -> str:
    name = clean(answer["name"])
    if answer["expelled"]:
        return f"{name} is expelled"
    if not answer["voters"]:
        return f"nobody votes to expel {name}"
    return (
        f"{name} is an admin, and stays until another admin votes too (so far: {listed(answer['voters'])})\n"
        f"next: dmssd expel {name} on another admin"
    )
