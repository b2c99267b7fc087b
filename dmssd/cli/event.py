"""``dmssd event``: what happens, as it happens."""

import json
from typing import Any

import click

from dmssd.cli.render import clean
from dmssd.cli.target import Target, pass_target, shared_options


@click.group()
def event() -> None:
    """What happens, as it happens."""


@event.command()
@shared_options
@pass_target
def watch(target: Target) -> None:
    """Print every event from now on, until interrupted; with -o json one object per line."""
    for one in target.client().events():
        click.echo(json.dumps(one) if target.output == "json" else _line(one))
    click.echo("the daemon has stopped; next: dmssd status", err=True)


def _line(one: dict[str, Any]) -> str:
    told = " ".join(f"{clean(key)}={clean(value)}" for key, value in (one.get("facts") or {}).items())
    return f"{_clock(one.get('time_s'))} {clean(one.get('kind'))} {told}".rstrip()


def _clock(time_s: float | None) -> str:
    import time

    if time_s is None:
        return "--:--:--.---"
    return time.strftime("%H:%M:%S", time.localtime(time_s)) + f".{int(time_s * 1_000) % 1_000:03d}"
