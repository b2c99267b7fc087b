"""``dmssd bugreport``: what a maintainer needs to see, in one file, with secrets left out."""

from pathlib import Path
from typing import Any

import click

from dmssd.cli.client import DaemonNotRunning
from dmssd.cli.render import clean, table
from dmssd.cli.target import Target, config_option, pass_target, shared_options
from dmssd.config import paths
from sansio.errors import DmssdError

METRICS = "metrics"


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_option("The daemon's configuration")
@click.option(
    "--log",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the end of this file too: where the daemon's output goes if not to the journal.",
)
@shared_options
@pass_target
def bugreport(target: Target, file: Path | None, config_file: Path | None, log: Path | None) -> None:
    """Collect what a maintainer needs into FILE (a .tar.gz): versions, configuration, the daemon's answers, the kernel.

    Keys, tokens and passphrases are left out; names, addresses and routes are in it: look before you publish it. Run as
    root, while the daemon runs or not. What cannot be had is left out and named.
    """
    from dmssd.api.requests import QUERIES
    from dmssd.driver.backup import write_file
    from dmssd.driver.bugreport import Sources, collect, packed

    client = target.client()

    def ask(query: str) -> Any:
        return client.metrics() if query == METRICS else client.get(query)

    state, examine = _surroundings(target, config_file)
    queries = (*(path.lstrip("/") for path in QUERIES), METRICS)
    parts = collect(Sources(state, config_file, ask, queries, examine, log))
    chosen = file or Path(_usual_name())
    data = packed(parts)
    write_file(chosen, data)
    answer = {
        "file": str(chosen),
        "bytes": len(data),
        "parts": [
            {"part": one.name, "bytes": len(one.contents), "cut": one.cut, "problem": one.problem or None}
            for one in parts
        ],
    }

    def text() -> str:
        rows = [[one.name, len(one.contents), one.problem or ("cut" if one.cut else "")] for one in parts]
        lines = [table(["part", "bytes", "note"], rows)]
        lines.append(f"\n{clean(chosen)}: {len(data)} bytes; keys, tokens and passphrases are left out")
        lines.append("names, addresses and routes are in it: look before you publish it (tar xzf)")
        return "\n".join(lines)

    target.show(answer, text)


def _surroundings(target: Target, config_file: Path | None) -> tuple[Path, Any]:
    """The state directory, and the doctor; of the running daemon, or by the files where none runs."""
    from dmssd.config.load import load, parse
    from dmssd.driver.doctor import Patient, enter_namespace_of, examine

    client = target.client()
    config, status, problem = None, None, None
    try:
        status, config = client.get("status"), parse(client.get("config"))
        enter_namespace_of(client.path)
    except DaemonNotRunning:
        pass
    except DmssdError as refused:
        problem = refused
    if config is None:
        try:
            config = load(config_file)
        except DmssdError as refused:
            problem = refused

    def findings() -> list[dict[str, str]]:
        if config is None:
            raise problem or DaemonNotRunning(client.path)
        found = examine(Patient(config, status))
        return [{"check": one.check, "verdict": one.verdict, "says": one.says, "do": one.do} for one in found]

    return config.state if config is not None else Path(paths.STATE_DIR), findings


def _usual_name() -> str:
    import time

    return time.strftime("dmssd-bugreport-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime())
