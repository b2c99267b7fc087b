"""``dmssd backup`` and ``dmssd restore``: a node in one file."""

from pathlib import Path
from typing import Any

import click

from dmssd.cli.render import clean
from dmssd.cli.target import Target, config_option, output_option, pass_target
from dmssd.config import paths
from sansio.errors import ConfigError, StoreError

CLEAR = "it holds the node's private key in clear: whoever reads it can be this node (--encrypt asks for a passphrase)"
CLONES = (
    "WARNING: run this node on ONE machine only. Two that run with one identity are an offence: members detect it and"
    " show both."
)
PASSPHRASE_BYTES_MAX = 4096

_config = config_option("Configuration that names the state directory")
_passphrase = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the passphrase from the first line of FILE and ask nobody.",
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@_config
@click.option("--encrypt", is_flag=True, help="Ask for a passphrase, and encrypt the file with it.")
@_passphrase
@output_option
@pass_target
def backup(target: Target, file: Path, config_file: Path | None, encrypt: bool, passphrase_file: Path | None) -> None:
    """Write this node's identity, state and configuration to FILE, while the daemon runs or not.

    FILE must not exist; only its owner can read it. Join tokens are not in it. Make another one after "dmssd rotate
    key": the old key is no member any more.
    """
    from dmssd.config.load import files, load
    from dmssd.driver.backup import collect, write_file

    config = load(config_file)
    main = config_file or Path(paths.CONFIG_FILE)
    named = {"dmssd.toml" if path == main else f"conf.d/{path.name}": path for path in files(config_file)}
    found = collect(config.state, named)
    from dmssd.backupfile import encode

    data = encode(found)
    sealed = encrypt or passphrase_file is not None
    if sealed:
        import os

        from dmssd.backupfile import seal

        data = seal(data, _ask(passphrase_file, confirm=True), os.urandom(40))
    write_file(file, data)
    answer = {"file": str(file), "bytes": len(data), "encrypted": sealed, **_shown(found)}

    def text() -> str:
        lines = [f"{file}: node {found.name} ({found.node}), {len(found.state)} parts of state"]
        lines[0] += f", {len(found.config)} configuration files"
        lines += [] if sealed else [CLEAR]
        return "\n".join(clean(line) for line in (*lines, CLONES))

    target.show(answer, text)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@_config
@click.option("--force", is_flag=True, help="Also where another node is; what is there is kept aside.")
@click.option("--config-to", type=click.Path(path_type=Path), metavar="DIR", help="Write the configuration there too.")
@_passphrase
@output_option
@pass_target
def restore(
    target: Target,
    file: Path,
    config_file: Path | None,
    force: bool,
    config_to: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Make this machine the node that FILE is a backup of. Refused while the daemon runs.

    Everything is checked before anything is written. Configuration is written only with --config-to.
    """
    from dmssd.backupfile import decode, is_sealed, unseal
    from dmssd.config.load import load
    from dmssd.driver.backup import read_file, write_config
    from dmssd.driver.backup import restore as restore_state

    state = load(config_file).state
    data = read_file(file)
    if is_sealed(data):
        data = unseal(data, _ask(passphrase_file, confirm=False))
    found = decode(data)
    done = restore_state(state, found, force=force)
    written = write_config(config_to, found.config) if config_to is not None else []
    kept, config = str(done.kept) if done.kept else None, [str(path) for path in written]
    answer = {"state": str(state), "kept": kept, "config": config, **_shown(found)}

    def text() -> str:
        lines = [f"{state} is node {found.name} ({found.node}) as it was {_age(found.made_s)}"]
        lines += [f"kept: {done.kept}, with the private key of the node that was there"] if done.kept else []
        lines += [f"written: {path}" for path in written]
        if config_to is None and found.config:
            lines.append(f"not written: {', '.join(found.config)} (--config-to {Path(paths.CONFIG_FILE).parent})")
        return "\n".join(clean(line) for line in (*lines, CLONES))

    target.show(answer, text)


def _shown(found: Any) -> dict[str, Any]:
    shown = {key: getattr(found, key) for key in ("node", "name", "version", "made_s")}
    return {**shown, "members": sorted([*found.state, *found.config]), "warning": CLONES}


def _age(made_s: int) -> str:
    from dmssd.driver import clock

    hours = (int(clock.wall()) - made_s) / 3600
    return f"{hours:.1f} hours ago" if hours >= 0 else "at a time that is yet to come by this machine's clock"


def _ask(file: Path | None, *, confirm: bool) -> str:
    if file is None:
        answer: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
        return answer
    try:
        with file.open("rb") as stream:
            lines = stream.read(PASSPHRASE_BYTES_MAX).decode().splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise StoreError(f"{file} cannot be read ({problem}): it is to hold the passphrase in its first line") from None
    if not lines:
        raise ConfigError(str(file), "is empty: it is to hold the passphrase in its first line")
    return lines[0]
