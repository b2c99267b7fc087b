"""``dmssd doctor``: what may be wrong with this machine, what it means and what to do, with a daemon or without."""

from pathlib import Path

import click

from dmssd.cli.client import DaemonNotRunning
from dmssd.cli.render import clean, table
from dmssd.cli.target import Target, config_option, pass_target, shared_options

FAILED = 1


@click.command()
@config_option("Configuration to examine where no daemon runs")
@shared_options
@pass_target
@click.pass_context
def doctor(context: click.Context, target: Target, config_file: Path | None) -> None:
    """Examine the kernel, settings, links, permissions, and the other programs that manage the network here.

    Exit code 1 if any check fails; warnings alone are 0. Run as root to see everything.
    """
    from dmssd.config.load import load, parse
    from dmssd.driver.doctor import FAIL, OK, WARN, Patient, enter_namespace_of, examine

    client = target.client()
    try:
        status, config = client.get("status"), parse(client.get("config"))
        enter_namespace_of(client.path)
    except DaemonNotRunning:
        status, config = None, load(config_file)
    findings = examine(Patient(config, status))
    verdicts = [finding.verdict for finding in findings]
    verdict = next((one for one in (FAIL, WARN) if one in verdicts), OK)
    answer = {
        "verdict": verdict,
        "checks": [{"check": f.check, "verdict": f.verdict, "says": f.says, "do": f.do or None} for f in findings],
    }

    def text() -> str:
        lines = [table(["check", "verdict", "what"], [[f.check, f.verdict, f.says] for f in findings])]
        lines += [f"{clean(f.check)}: {clean(f.do)}" for f in findings if f.do]
        return "\n\nwhat to do\n".join(["\n".join(lines[:1]), "\n".join(lines[1:])]) if len(lines) > 1 else lines[0]

    target.show(answer, text)
    context.exit(FAILED if verdict == FAIL else 0)
