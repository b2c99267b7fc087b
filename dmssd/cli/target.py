"""Which daemon a command talks to, and how it answers: the options that every command shares.

``-o``, ``--socket`` and ``--node`` are taken before the command and after it; the later one wins. Without them the
socket is that of ``DMSSD_SOCKET``, else the installed daemon's.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from dmssd.cli.client import AdminClient
from dmssd.cli.render import as_json
from dmssd.config import paths
from sansio.errors import DmssdError, RequestError

F = TypeVar("F", bound=Callable[..., Any])

SOCKET_VARIABLE = "DMSSD_SOCKET"
SOCKET_NAME = "dmssd.sock"


@dataclass(slots=True)
class Target:
    """What the shared options said."""

    socket: str | None = None
    node: str | None = None
    output: str = "table"

    def client(self) -> AdminClient:
        """A client of the chosen daemon. Raises ``RequestError`` for a lab node that is not there."""
        if self.socket and self.node:
            raise click.UsageError("--socket and --node both pick the daemon: give one of them.")
        if self.node:
            return AdminClient(str(lab_socket(self.node)))
        return AdminClient(self.socket or os.environ.get(SOCKET_VARIABLE) or paths.SOCKET)

    def show(self, value: Any, text: Callable[[], str]) -> None:
        """Print ``value`` as JSON, or as ``text`` makes it for people."""
        click.echo(as_json(value) if self.output == "json" else text())


pass_target = click.make_pass_decorator(Target, ensure=True)


def lab_socket(name: str) -> Path:
    """The admin socket of the lab node ``NODE`` or ``LAB/NODE``; ``RequestError`` where none or several fit."""
    lab, slash, node = name.rpartition("/")
    fits = [path for path in lab_sockets() if path.parent.name == node and (not slash or _lab_of(path) == lab)]
    if not fits:
        raise RequestError(f"no lab runs a node {name!r}: dmssd lab status shows the nodes")
    if len(fits) > 1:
        choices = ", ".join(f"{_lab_of(path)}/{node}" for path in fits)
        raise RequestError(f"several labs run a node {node!r}: say --node with one of {choices}")
    return fits[0]


def lab_sockets() -> list[Path]:
    """The admin sockets of every node of every lab on this machine."""
    return sorted(Path(paths.LAB_DIR).glob(f"*/*/{SOCKET_NAME}"))


def complete_member(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of members, asked of the daemon that the command line has named so far."""
    try:
        members = context.ensure_object(Target).client().get("members")
    except (DmssdError, click.UsageError):
        return []
    return [member["name"] for member in members if member["name"].startswith(incomplete)]


def output_option(command: F) -> F:
    """Give a command that asks no daemon ``-o``."""
    return _output(command)


def shared_options(command: F) -> F:
    """Give a command ``-o``, ``--socket`` and ``--node``."""
    for option in (_node, _socket, _output):
        command = option(command)
    return command


def config_option(said: str) -> Callable[[F], F]:
    """Give a command ``--config`` (a parameter ``config_file``): ``said`` is what for."""
    path = click.Path(path_type=Path)
    return click.option("--config", "config_file", type=path, metavar="FILE", help=f"{said}; else {paths.CONFIG_FILE}.")


def _lab_of(path: Path) -> str:
    return path.parent.parent.name


def _complete_node(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    names = [path.parent.name for path in lab_sockets()]
    names += [f"{_lab_of(path)}/{path.parent.name}" for path in lab_sockets()]
    return sorted({name for name in names if name.startswith(incomplete)})


# Names apart, so that a command may have an argument called NODE of its own.
_PREFIX = "target_"


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and parameter.name is not None:
        setattr(context.ensure_object(Target), parameter.name.removeprefix(_PREFIX), value)


_output = click.option(
    "-o",
    "--output",
    f"{_PREFIX}output",
    type=click.Choice(["table", "json"]),
    expose_value=False,
    callback=_remember,
    help="How to print: for people (the default) or for programs.",
)
_socket = click.option(
    "--socket",
    f"{_PREFIX}socket",
    metavar="PATH",
    expose_value=False,
    callback=_remember,
    help=f"Admin socket of the daemon [{SOCKET_VARIABLE}; default {paths.SOCKET}].",
)
_node = click.option(
    "--node",
    f"{_PREFIX}node",
    metavar="[LAB/]NODE",
    expose_value=False,
    callback=_remember,
    shell_complete=_complete_node,
    help="Talk to the daemon of this node of a lab.",
)
