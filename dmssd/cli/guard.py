"""``dmssd guard``: the nftables table of the daemon's own, which outlives it."""

import click

from dmssd.cli.client import DaemonNotRunning
from dmssd.cli.target import Target, pass_target, shared_options
from sansio.errors import RequestError


@click.group()
def guard() -> None:
    """The nftables table that keeps this machine from being an open router."""


@guard.command()
@shared_options
@pass_target
def show(target: Target) -> None:
    """The table as it would be written now, and how often it had to be put back."""
    answer = target.client().get("guard")
    if not answer["ruleset"]:
        target.show(answer, lambda: 'off: the configuration says guard = "off"')
        return
    restored = f"# put back {answer['restored']} times after somebody took it away\n" if answer["restored"] else ""
    target.show(answer, lambda: restored + answer["ruleset"].rstrip("\n"))


@guard.command()
@shared_options
@pass_target
def remove(target: Target) -> None:
    """Take the table away, once the daemon is stopped. Forwarding stays on: see what it prints."""
    try:
        target.client().get("roles")
    except DaemonNotRunning:
        pass
    else:
        raise RequestError(
            'the daemon runs and would put the table back: stop it first, or set guard = "off" and restart it'
        )
    from dmssd.driver.guard import remove as remove_table

    remove_table()
    hint = "dmssd clean, or sysctl -w net.ipv6.conf.all.forwarding=0, and net.ipv4.conf.IF.forwarding=0 for each link"
    target.show(
        {"removed": True},
        lambda: f"removed; what dmssd switched on still forwards, now for everybody: to end that, {hint}",
    )
