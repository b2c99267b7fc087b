"""``dmssd rotate``: put other keys in place of those in use, while everything goes on."""

from typing import Any

import click

from dmssd.cli.duration import Duration
from dmssd.cli.render import clean, duration
from dmssd.cli.target import Target, pass_target, shared_options

TIMEOUT_S_MAX = 3_600
LIFETIME_S_MIN, LIFETIME_S_MAX = 60, 30 * 86_400


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


@rotate.command()
@click.option(
    "--lifetime",
    "lifetime_s",
    type=Duration(LIFETIME_S_MIN, LIFETIME_S_MAX),
    help="How old a session may grow from now on before it is replaced; else as before (24h at first).",
)
@shared_options
@pass_target
def sessions(target: Target, lifetime_s: float | None) -> None:
    """Have every member replace all its sessions by new ones, with new keys, and say how old they may grow.

    On an admin. Each old session stays in use until the new one is; it takes from seconds to a few minutes.
    """
    arguments = {"lifetime_s": int(lifetime_s)} if lifetime_s is not None else {}
    answer = target.client().post("rotate-sessions", arguments)
    target.show(answer, lambda: _terms(answer))


def _terms(answer: dict[str, Any]) -> str:
    lifetime = duration(answer["lifetime_s"])
    return (
        f"epoch {answer['epoch']}: all members replace their sessions, and then whenever one is {lifetime} old\n"
        "next: dmssd status, on any node, tells how many are left"
    )
