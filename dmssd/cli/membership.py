"""``dmssd init``, ``join`` and ``leave``: into a mesh and out of it."""

import sys
from typing import Any

import click

from dmssd.cli.duration import Duration
from dmssd.cli.render import clean
from dmssd.cli.target import Target, pass_target, shared_options

JOIN_TIMEOUT_S = 60.0
JOIN_TIMEOUT_S_MAX = 3_600.0
LEAVE_TIMEOUT_S = 30.0
ANSWER_GRACE_S = 15.0  # for the daemon to say itself that the time is over, and why
PROGRESS_LINE_S = 10  # off a terminal


@click.command()
@click.argument("name")
@click.option("--no-recovery-key", is_flag=True, help="Make no key for the loss of all admins.")
@shared_options
@pass_target
def init(target: Target, name: str, no_recovery_key: bool) -> None:
    """Name the mesh of which this node is the first member.

    Prints the recovery key, once: whoever has it can make a member an admin. Keep it offline. Refused where other
    members are in the mesh already.
    """
    answer = target.client().post("init", {"name": name, "recovery": None if no_recovery_key else True})
    target.show(answer, lambda: _founded(answer))


def _founded(answer: dict[str, Any]) -> str:
    lines = [f"mesh {clean(answer['mesh_name'])} is founded, its id is {clean(answer['mesh'])}"]
    if "recovery_key" in answer:
        lines += [
            f"recovery key, shown only now, to be kept offline: {clean(answer['recovery_key'])}",
            f"(if it is stolen: dmssd expel {clean(answer['recovery_id'])})",
        ]
    lines.append("next: dmssd token create, then on another node dmssd join PEER --token T")
    lines.append("  or: on another node dmssd join PEER, then here dmssd pending and dmssd admit ID")
    return "\n".join(lines)


@click.command()
@click.argument("peer")
@click.option("--token", metavar="T", help="What dmssd token create printed on a member: admits at once.")
@click.option("--name", metavar="N", help="Name of this node in the mesh; else the configured one.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Duration(0.1, JOIN_TIMEOUT_S_MAX),
    default=f"{JOIN_TIMEOUT_S:g}s",
    show_default=True,
    metavar="S",
    help="How long to try, until a neighbour is a member and the token's issuer answers.",
)
@click.option("--leave-first", is_flag=True, help="Abandon the mesh that this node is in now.")
@shared_options
@pass_target
def join(target: Target, peer: str, token: str | None, name: str | None, timeout_s: float, leave_first: bool) -> None:
    """Become a member of the mesh that PEER belongs to.

    PEER is %IF (whoever greets on that link), fe80::...%IF, or the name or id that a neighbour's greeting gives.
    Without a token this shows fingerprints to compare and waits until an admin says dmssd admit.
    """
    arguments = {
        "peer": peer,
        "token": token.strip() if token is not None else None,
        "name": name,
        "leave_first": leave_first or None,
        "timeout_s": timeout_s,
    }
    if token is None:
        _show_fingerprints(target, peer)
    progress = Progress(f"joining through {clean(peer)}", timeout_s)
    try:
        answer = target.client().post("join", arguments, timeout_s + ANSWER_GRACE_S, progress)
    finally:
        progress.end()
    target.show(
        answer,
        lambda: f"joined mesh {clean(answer.get('mesh_name') or answer.get('mesh'))}\nnext: dmssd status",
    )


def _show_fingerprints(target: Target, peer: str) -> None:
    """On stderr: who asks whom, for two people to compare; the sessions prove both."""
    client = target.client()
    me = client.get("status")["node"]
    address, _, interface = peer.partition("%")
    click.echo(f"this node is {me}", err=True)
    for seen in client.get("greeters"):
        by_link = interface == seen["interface"] and address in ("", seen["address"])
        if by_link or peer in (seen["name"], seen["node"]):
            name = clean(seen["name"])
            click.echo(f"{name} is {seen['node']} in mesh {seen['mesh']}: compare with dmssd status there", err=True)
    click.echo(f"waiting until an admin of that mesh says: dmssd admit {me[:8]}", err=True)


@click.command()
@shared_options
@pass_target
def leave(target: Target) -> None:
    """Tell the mesh that this node leaves it on purpose, then stop the daemon."""
    answer = target.client().post("leave", {}, LEAVE_TIMEOUT_S)
    target.show(answer, lambda: "left the mesh; the daemon stops")


class Progress:
    """Says on stderr that something is still waited for: one line rewritten on a terminal, else one now and then."""

    def __init__(self, doing: str, limit_s: float) -> None:
        self._doing = doing
        self._limit_s = limit_s
        self._live = sys.stderr.isatty()
        self._written = False

    def __call__(self, gone_s: float) -> None:
        """About once a second."""
        text = f"{self._doing}: {gone_s:.0f} s of at most {self._limit_s:g} s"
        if self._live:
            click.echo(f"\r{text}", nl=False, err=True)
            self._written = True
        elif int(gone_s) % PROGRESS_LINE_S == 1:
            click.echo(text, err=True)

    def end(self) -> None:
        """Take the rewritten line away."""
        if self._written:
            click.echo("\r\x1b[K", nl=False, err=True)
