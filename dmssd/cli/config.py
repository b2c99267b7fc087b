"""``dmssd config``: check files, show what is in effect."""

from pathlib import Path

import click

from dmssd.cli.target import Target, output_option, pass_target, shared_options
from dmssd.config import paths


@click.group()
def config() -> None:
    """Check configuration files; show what is in effect."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@output_option
@pass_target
def check(target: Target, file: Path | None) -> None:
    """Whether dmssd run would take FILE (else the installed one), with the conf.d/*.toml beside it."""
    from dmssd.config.load import files, load

    load(file)
    read = [str(path) for path in files(file)]
    shown = ", ".join(read) if read else f"the defaults ({paths.CONFIG_FILE} does not exist)"
    target.show({"ok": True, "files": read}, lambda: f"ok: {shown}")


@config.command()
@shared_options
@pass_target
def show(target: Target) -> None:
    """The running daemon's whole configuration, defaults included, as TOML that it would take again."""
    answer = target.client().get("config")

    def text() -> str:
        from dmssd.config.schema import toml

        return toml(answer).rstrip("\n")

    target.show(answer, text)
