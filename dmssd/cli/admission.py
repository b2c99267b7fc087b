"""``dmssd pending``, ``admit``, ``grant``, ``recover``, ``expel``: who is let in, who may let in, who is put out."""

from typing import Any, TextIO

import click

from dmssd.cli.duration import Duration
from dmssd.cli.render import clean, listed, records
from dmssd.cli.target import Target, pass_target, shared_options

TTL_S_MAX = 7 * 24 * 3_600


@click.command()
@shared_options
@pass_target
def pending(target: Target) -> None:
    """Who asked to be let in, without a token, at any member.

    Compare the id with what the joining node shows before you say dmssd admit.
    """
    rows = target.client().get("pending")
    target.show(rows, lambda: records(rows) if rows else "nobody waits to be admitted")


@click.command()
@click.argument("nodes", nargs=-1, metavar="[ID|NAME]...")
@click.option("--from", "file", type=click.File(), metavar="FILE", help="One id or name a line; # begins a comment.")
@click.option("--name", metavar="N", help="Name of the one node in the mesh; else the one it asked for.")
@click.option("--replaces", metavar="OLD", help="Give it OLD's name and expel OLD, a board that is lost.")
@click.option("--admin", is_flag=True, help="Let it admit and expel others.")
@click.option(
    "--ttl", "ttl_s", type=Duration(1, TTL_S_MAX), default="24h", show_default=True, help="How long an approval holds."
)
@shared_options
@pass_target
def admit(
    target: Target,
    nodes: tuple[str, ...],
    file: TextIO | None,
    name: str | None,
    replaces: str | None,
    admin: bool,
    ttl_s: float,
) -> None:
    """Admit nodes that wait (dmssd pending), by id or name.

    Those that do not wait yet are approved beforehand, by whole id or by name, and admitted once they ask. A name is
    whatever a node calls itself: approve names only on a network that you trust.
    """
    lines = [line.partition("#")[0].strip() for line in file] if file is not None else []
    wanted = [*nodes, *(line for line in lines if line)]
    if not wanted:
        raise click.UsageError("name those to admit: dmssd pending shows who waits")
    arguments = {"nodes": wanted, "name": name, "replaces": replaces, "admin": admin or None, "ttl_s": int(ttl_s)}
    answer = target.client().post("admit", arguments)
    target.show(answer, lambda: _admitted(answer))


def _admitted(answer: dict[str, Any]) -> str:
    lines = [f"admitted {clean(each['name'])} ({each['node']})" for each in answer["admitted"]]
    lines += [f"approved {clean(text)}: admitted once it says dmssd join" for text in answer["approved"]]
    if answer.get("replaced") is False:
        lines.append("the one that it replaces is an admin: expel it on another admin too; next: dmssd status")
    return "\n".join(lines)


@click.command()
@click.argument("node")
@shared_options
@pass_target
def grant(target: Target, node: str) -> None:
    """Give NODE, a member, the admin capability: it may then admit and expel others, and grant this to more."""
    answer = target.client().post("grant", {"node": node})
    target.show(answer, lambda: f"{clean(answer['name'])} is an admin")


@click.command()
@click.argument("node", required=False)
@shared_options
@pass_target
def renew(target: Target, node: str | None) -> None:
    """Give NODE, or every member, a new certificate now. Admins do so by themselves, long before one expires."""
    answer = target.client().post("renew", {"node": node})
    target.show(answer, lambda: f"renewed: {listed(answer['renewed'])}")


@click.command()
@click.argument("key")
@shared_options
@pass_target
def recover(target: Target, key: str) -> None:
    """Make this node, a member, an admin by the mesh's recovery KEY, which dmssd init printed."""
    answer = target.client().post("recover", {"key": key})
    target.show(answer, lambda: f"{clean(answer['name'])} is an admin; next: dmssd pending, dmssd grant NODE")


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
