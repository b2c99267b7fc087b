"""``dmssd config``: check files, show what is in effect, take what they hold; and confirm or undo what is on trial."""

from pathlib import Path

import click

from dmssd.cli.target import Target, output_option, pass_target, shared_options
from dmssd.cli.trial import change_lines, show_changes, trial_arguments, trial_options
from dmssd.config import paths


@click.group()
def config() -> None:
    """Check configuration files; show what is in effect; change it safely."""


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


@config.command()
@shared_options
@pass_target
def diff(target: Target) -> None:
    """What the files hold against what the running daemon goes by, and what each difference takes."""
    answer = target.client().get("config/diff")
    target.show(answer, lambda: "\n".join(change_lines(answer)) or "nothing differs")


@config.command()
@trial_options
@shared_options
@pass_target
def reload(target: Target, dry_run: bool, confirm_s: float | None) -> None:
    """Have the running daemon read its files again. A file that cannot be used changes nothing."""
    show_changes(target, target.client().post("reload", trial_arguments(dry_run, confirm_s)))


@config.command()
@shared_options
@pass_target
def confirm(target: Target) -> None:
    """Keep every change that is on trial, of whatever kind."""
    answer = target.client().post("confirm")
    target.show(answer, lambda: f"kept: {', '.join(answer['confirmed'])}")


@config.command()
@shared_options
@pass_target
def undo(target: Target) -> None:
    """Undo every change that is on trial, at once."""
    answer = target.client().post("undo")
    target.show(answer, lambda: f"undone: {', '.join(answer['undone'])}")
