"""``dmssd run``: the daemon itself. The only command that imports it."""

import os
import sys
from pathlib import Path

import click

from dmssd.cli.target import config_option


@click.command()
@config_option("TOML; conf.d/*.toml beside it are merged in")
@click.pass_context
def run(context: click.Context, config_file: Path | None) -> None:
    """Run the daemon in the foreground, until SIGTERM or SIGINT.

    Forwarding stays in place when it stops, and is taken over when it starts again.
    """
    from dmssd.config.load import load

    # The file first: a mistake in it is told at once, before the daemon's imports.
    config = load(config_file)
    from dmssd.driver.daemon import RUN_AGAIN
    from dmssd.driver.daemon import run as run_daemon
    from dmssd.driver.systemd import ADMIN_SOCKET, Handed

    handed = Handed(os.environ, os.getpid())
    status = run_daemon(config, config_file, handed.sockets.get(ADMIN_SOCKET))
    if status == RUN_AGAIN:
        handed.hand_on(os.environ)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - itself
    context.exit(status)
