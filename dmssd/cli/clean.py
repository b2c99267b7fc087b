"""``dmssd clean``: take away what a daemon that was stopped has left in the kernel."""

from dataclasses import asdict
from pathlib import Path

import click

from dmssd.cli.render import clean as printable
from dmssd.cli.target import Target, config_option, output_option, pass_target
from dmssd.config import paths
from sansio.errors import ConfigError

FAILED = 1


@click.command()
@config_option("Configuration that names the state directory")
@output_option
@pass_target
@click.pass_context
def clean(context: click.Context, target: Target, config_file: Path | None) -> None:
    """Take away what a stopped daemon left in the kernel: routes, addresses, the nftables table; put settings back.

    Forwarding for the mesh ends. Refused while the daemon runs: stop it first. Identity, state and configuration stay.
    Exit code 1 where something could not be done.
    """
    from dmssd.config.load import load
    from dmssd.driver.clean import clean as clean_kernel

    unread = None
    try:
        state = load(config_file).state
    except ConfigError as problem:
        if config_file is not None:
            raise
        state, unread = Path(paths.STATE_DIR), f"{problem}; {paths.STATE_DIR} is taken for the state directory"
    done = clean_kernel(state)
    if unread is not None:
        done.left.append(unread)
    answer = asdict(done)

    def text() -> str:
        lines = [f"taken away: {done.routes} routes, {done.nexthops} nexthops, {len(done.addresses)} addresses"]
        lines[0] += ", the nftables table" if done.guard else ""
        lines += [f"put back: {one['key']} {one['from']} -> {one['to']}" for one in done.settings]
        lines += [f"left: {one}" for one in done.left]
        lines += [f"not done: {one}" for one in done.problems]
        return "\n".join(printable(line) for line in lines)

    target.show(answer, text)
    context.exit(FAILED if done.problems else 0)
