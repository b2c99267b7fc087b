"""``dmssd init``, ``join`` and ``leave``: into a mesh and out of it."""

import sys

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
@shared_options
@pass_target
def init(target: Target, name: str) -> None:
    """Name the mesh of which this node is the first member.

    Refused where other members are in it already.
    """
    answer = target.client().post("init", {"name": name})
    target.show(
        answer,
        lambda: (
            f"mesh {clean(answer['mesh_name'])} is founded, its id is {clean(answer['mesh'])}\n"
            "next: dmssd token create, then on another node dmssd join PEER --token T"
        ),
    )


@click.command()
@click.argument("peer")
@click.option("--token", required=True, metavar="T", help="What dmssd token create printed on a member.")
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
def join(target: Target, peer: str, token: str, name: str | None, timeout_s: float, leave_first: bool) -> None:
    """Become a member of the mesh that PEER belongs to.

    PEER is %IF (whoever greets on that link), fe80::...%IF, or the name or id that a neighbour's greeting gives.
    """
    arguments = {
        "peer": peer,
        "token": token.strip(),
        "name": name,
        "leave_first": leave_first or None,
        "timeout_s": timeout_s,
    }
    progress = Progress(f"joining through {clean(peer)}", timeout_s)
    try:
        answer = target.client().post("join", arguments, timeout_s + ANSWER_GRACE_S, progress)
    finally:
        progress.end()
    target.show(
        answer,
        lambda: f"joined mesh {clean(answer.get('mesh_name') or answer.get('mesh'))}\nnext: dmssd status",
    )


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
