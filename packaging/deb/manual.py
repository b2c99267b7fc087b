#!/usr/bin/env python3
"""Print dmssd(1) from the program's own table of commands."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dmssd import __version__
from dmssd.cli.main import COMMANDS
from dmssd.config import paths

FILES = {
    paths.CONFIG_FILE: "the configuration; conf.d/*.toml beside it are merged in",
    paths.STATE_DIR: "identity, certificate and what must outlive a restart; losing it loses the identity",
    paths.SOCKET: "the admin socket; who may open it (group dmssd) may do everything",
}
STATUS = {
    "0": "done",
    "1": "degraded or failed",
    "2": "wrong usage",
    "3": "the daemon is not running",
}
PAGE = r""".TH DMSSD 1 "" "dmssd {version}" "dmssd"
.SH NAME
dmssd \- leaderless daemon that makes machines one self\-healing network
.SH SYNOPSIS
.B dmssd
.I COMMAND
.RI [ ARGUMENT ]...
.SH DESCRIPTION
One program: the daemon (\fBdmssd run\fP, which the service manager starts) and the commands that ask it, over a unix
socket. Each command says more with \fB\-\-help\fP.
.SH COMMANDS
{commands}
.SH EXIT STATUS
{status}
.SH FILES
{files}"""


def escaped(text: str) -> str:
    """Text as groff takes it."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("\u00b5", "micro")


def listed(entries: dict[str, str]) -> str:
    """A list of terms."""
    return "\n".join(f".TP\n.B {escaped(term)}\n{escaped(text)}" for term, text in entries.items())


def main() -> None:
    """The page."""
    commands = {name: summary for name, (_, summary) in COMMANDS.items()}
    print(PAGE.format(version=__version__, commands=listed(commands), status=listed(STATUS), files=listed(FILES)))


if __name__ == "__main__":
    main()
