"""``dmssd run``: the daemon itself. The only command that imports it."""

import os
import sys
from pathlib import Path

import click

from dmssd.config import paths


@click.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"TOML; conf.d/*.toml beside it are merged in. Default {paths.CONFIG_FILE}, if that exists.",
)
@click.pass_context
def run(context: click.Context, file: Path | None) -> None:
    """Run the daemon in the foreground, until SIGTERM or SIGINT.

    Forwarding stays in place when it stops, and is taken over when it starts again.
    """
    from dmssd.config.load import load

    # The file first: a mistake in it is told at once, before the daemon's imports.
    config = load(file)
    from dmssd.driver.daemon import RUN_AGAIN
    from dmssd.driver.daemon import run as run_daemon
    from dmssd.driver.systemd import ADMIN_SOCKET, Handed

    handed = Handed(os.environ, os.getpid())
    status = run_daemon(config, file, handed.sockets.get(ADMIN_SOCKET))
    if status == RUN_AGAIN:
        handed.hand_on(os.environ)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - itself
    context.exit(status)
