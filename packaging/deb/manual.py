#!/usr/bin/env python3
"""Print dmssd(1) from the program's own commands and options."""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
from roff import escaped, listed, paragraphs, term

from dmssd import __version__
from dmssd.cli.main import cli
from dmssd.cli.target import SOCKET_VARIABLE
from dmssd.config import paths

FILES = {
    paths.CONFIG_FILE: "The configuration, dmssd.toml(5); conf.d/*.toml beside it are merged in.",
    "/etc/dmssd/helper.toml": "What dmssd-helper(8) may do for the daemon as root; nothing by default.",
    paths.STATE_DIR: "Identity, certificate and what must outlive a restart. Losing it loses the identity.",
    paths.SOCKET: "The admin socket. Who may open it (root, group dmssd) may do everything.",
    f"{paths.LAB_DIR}/LAB/NODE": "Sockets, logs and configurations of the nodes of a lab.",
}
STATUS = {
    "0": "Done; of status, doctor: all is well.",
    "1": "Degraded, or failed: one line on standard error says why and what to do.",
    "2": "Wrong usage.",
    "3": "The daemon is not running.",
    "130": "Interrupted.",
    "141": "Who read the output went away.",
}
ENVIRONMENT = {
    SOCKET_VARIABLE: f"The admin socket to talk to, where no option names one; else {paths.SOCKET}.",
    "NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS": "Set by systemd(1) for dmssd run: where to say that it is ready and "
    "alive, and the admin socket that was opened for it.",
    "_DMSSD_COMPLETE": "Set by the completion of bash(1), zsh(1) and fish(1).",
}
SIGNALS = {
    "SIGHUP": "dmssd run reads its configuration again, like dmssd config reload.",
    "SIGTERM, SIGINT": "dmssd run ends. Forwarding stays in place, and is taken over when it starts again.",
}
PAGE = r""".TH DMSSD 1 "" "dmssd {version}" "dmssd"
.SH NAME
dmssd \- leaderless daemon that makes machines one self\-healing network
.SH SYNOPSIS
.B dmssd
.RI [ OPTION ]...
.I COMMAND
.RI [ ARGUMENT ]...
.SH DESCRIPTION
One program: the daemon (\fBdmssd run\fP, which the service manager starts) and the commands that ask it, over a unix
socket. Each command says the same with \fB\-\-help\fP.
.SH OPTIONS
Those that pick the daemon and the way of printing are taken before the command and after it; the later one wins. They
are not repeated below.
{shared}
.SH COMMANDS
{commands}
.SH EXIT STATUS
{status}
.SH SIGNALS
{signals}
.SH ENVIRONMENT
{environment}
.SH FILES
{files}
.SH SEE ALSO
.BR dmssd.toml (5),
.BR dmssd\-helper (8),
.BR ip\-route (8),
.BR nft (8),
.BR systemctl (1)"""


def commands(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[click.Context, str]]:
    """Every command below ``command`` that does something, with the line to type."""
    context = click.Context(command, info_name=name, parent=parent)
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            assert below is not None
            yield from commands(below, each, context)
    else:
        usage = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
        yield context, " ".join([context.command_path, *usage])


def options(context: click.Context) -> dict[str, str]:
    """The options of a command, with what each does."""
    records = [each.get_help_record(context) for each in context.command.params if isinstance(each, click.Option)]
    return dict(record for record in records if record)


def section(context: click.Context, line: str, shared: dict[str, str]) -> str:
    """One command: its line, what it does, its own options."""
    own = [(head, text) for head, text in options(context).items() if head not in shared]
    parts = [f".SS {escaped(line)}", paragraphs(context.command.help or "")]
    parts += [term(head, escaped(text)) for head, text in own]
    return "\n".join(parts)


def main() -> None:
    """The page."""
    shared = options(click.Context(cli, info_name="dmssd"))
    print(
        PAGE.format(
            version=escaped(__version__),
            shared=listed([*shared.items(), ("-h, --help", "Show what a command does and takes, and exit.")]),
            commands="\n".join(section(context, line, shared) for context, line in commands(cli, "dmssd", None)),
            status=listed(STATUS.items()),
            signals=listed(SIGNALS.items()),
            environment=listed(ENVIRONMENT.items()),
            files=listed(FILES.items()),
        )
    )


if __name__ == "__main__":
    main()
