"""``dmssd``: the entry point. Commands are imported when they run, and every failure is one line and an exit code.

0 done | 1 degraded or failed | 2 wrong usage | 3 the daemon is not running | 130 interrupted | 141 broken pipe
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from dmssd import __version__
from dmssd.cli.client import DaemonNotRunning
from dmssd.cli.target import shared_options
from sansio.errors import DmssdError

FAILED = 1
NOT_RUNNING = 3
INTERRUPTED = 128 + 2  # as a shell reports SIGINT
BROKEN_PIPE = 128 + 13  # and SIGPIPE

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("membership", "Found a mesh of that name, of which this node is the first member."),
    "join": ("membership", "Become a member of the mesh that a peer belongs to."),
    "leave": ("membership", "Leave the mesh in good order and stop the daemon."),
    "pending": ("admission", "Who waits to be admitted."),
    "admit": ("admission", "Let in who waits, or approve beforehand who will."),
    "grant": ("admission", "Let a member admit and expel others."),
    "renew": ("admission", "Give members new certificates now."),
    "rotate": ("rotate", "Put other keys in place of those in use, while everything goes on."),
    "recover": ("admission", "Make this member an admin by the mesh's recovery key."),
    "expel": ("admission", "Take a member's membership away, or vote for it where it is an admin."),
    "run": ("run", "Run the daemon in the foreground."),
    "doctor": ("doctor", "Whether this machine can be a node: kernel, settings, and who else manages its network."),
    "status": ("status", "Whether all is well; if not, what, why and what to do."),
    "trace": ("trace", "The way of packets to a node, hop by hop, with names."),
    "token": ("token", "Invitations into the mesh."),
    "member": ("member", "Who belongs to the mesh."),
    "node": ("node", "This node: take it out of others' way, and back."),
    "network": ("network", "The graphs: global topology, MWT, SPT-ECMP."),
    "route": ("route", "What this node has programmed."),
    "guard": ("guard", "The nftables table that keeps this machine from being an open router."),
    "clean": ("clean", "Take away what a stopped daemon left in the kernel."),
    "bugreport": ("bugreport", "Collect what a maintainer needs to see, with secrets left out."),
    "backup": ("backup", "Write this node's identity, state and configuration to one file."),
    "restore": ("backup", "Make this machine the node that a file is a backup of."),
    "role": ("role", "The µ-services of this node."),
    "config": ("config", "Check configuration files; show what is in effect; change it safely."),
    "metrics": ("metrics", "What a monitoring system is told, as Prometheus reads it."),
    "event": ("event", "What happens, as it happens."),
    "lab": ("lab", "Real daemons in network namespaces on this machine."),
    "sim": ("sim", "The same node, simulated."),
}
"""Name -> module of dmssd.cli that holds it (under the same name), one line for ``--help``."""


class Commands(click.Group):
    """A group that imports a command when it is asked for, and lists them all without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands that are there, in the order of the table."""
        return [name for name, (module, _) in COMMANDS.items() if importlib.util.find_spec(f"dmssd.cli.{module}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(importlib.import_module(f"dmssd.cli.{COMMANDS[cmd_name][0]}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands for ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader of its output that has gone away is no failure of ours."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise click.exceptions.Exit(BROKEN_PIPE) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="dmssd", message="%(prog)s %(version)s")
@shared_options
def cli() -> None:
    """One self-healing network out of any set of Linux machines.

    The daemon is `dmssd run`; every other command asks it, over its socket.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        code = cli.main(arguments, prog_name="dmssd", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except DmssdError as error:
        click.echo(f"Error: {_one_line(str(error))}", err=True)
        return NOT_RUNNING if isinstance(error, DaemonNotRunning) else FAILED
    return code if isinstance(code, int) else 0


def _one_line(text: str) -> str:
    # The sentence may quote what another machine said.
    from dmssd.cli.render import clean

    return clean(" ".join(text.split()))


def _forget_stdout() -> None:
    # The interpreter flushes stdout once more when it exits, and would complain there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
