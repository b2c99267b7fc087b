"""``dmssd sim``: run simulated meshes, and replay what a real daemon recorded."""

import sys
import time
from pathlib import Path
from typing import NoReturn

import click

from dmssd.sim import mesh, shapes
from dmssd.sim import replay as replaying
from dmssd.sim import swarm as swarming
from dmssd.sim.scenario import Report, Scenario, timeline_of_seconds
from sansio.instant import SECOND


@click.group()
def sim() -> None:
    """The same node, simulated: N of them under a seed, with faults, and checkers that know the truth."""


@sim.command()
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Decides everything by chance.")
@click.option("--nodes", type=click.IntRange(2, shapes.NODES_MAX), default=16, show_default=True)
@click.option("--seconds", type=click.FloatRange(6), default=60, show_default=True, help="Simulated time.")
@click.option("--faults", type=click.IntRange(0, 1000), default=5, show_default=True)
@click.option("--shape", help=f"{shapes.KNOWN}; by default the seed chooses.")
@click.option("--swarm", is_flag=True, help="Let the seed choose everything else: size, shape, features, faults.")
def run(swarm: bool, seed: int, nodes: int, seconds: float, faults: int, shape: str | None) -> None:
    """Run one world: a cold start, faults with the safety checkers on, then healing and convergence.

    Prints what happened and every finding; exit status 1 if there is one.
    """
    if swarm:
        _run_swarm(seed)
    try:
        chosen = shapes.parse(shape or shapes.by_seed(seed, nodes), seed)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None
    if shape is not None and chosen.nodes != nodes and _given("nodes"):
        raise click.UsageError(f"shape {shape} has {chosen.nodes} nodes, not {nodes}: leave out one of the two options")
    click.echo(f"{chosen.nodes} nodes, {len(chosen.edges)} cables ({chosen.text}), seed {seed}, {seconds:g} s")
    began = time.process_time()
    report = Scenario(mesh.build(seed, chosen), mesh.VIEWS, timeline_of_seconds(seconds)).run(fault_count=faults)
    _show(report, time.process_time() - began)
    sys.exit(1 if report.findings else 0)


@sim.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def replay(file: Path) -> None:
    """Run the node again whose events a daemon recorded in FILE, and say where it would now do something else.

    A daemon records when its configuration has a [record] table. Exit status 1 where the replay differs.
    """
    replayed = replaying.replay(file)
    nodes = "1 node" if replayed.nodes == 1 else f"{replayed.nodes} nodes, one after another"
    click.echo(f"{replayed.events} events of {nodes}, {replayed.span / SECOND:.3f} s")
    if replayed.diverged_at is not None:
        click.echo(f"differs at event {replayed.diverged_at}: {replayed.diverged_event}")
        sys.exit(1)
    click.echo("did the same to the end")


def _run_swarm(seed: int) -> NoReturn:
    others = [f"--{name}" for name in ("nodes", "seconds", "faults", "shape") if _given(name)]
    if others:
        raise click.UsageError(f"a swarm is drawn by its seed alone: leave out {', '.join(others)}")
    began = time.process_time()
    click.echo(f"seed {seed}: {swarming.by_seed(seed)}")
    _, report = swarming.run(seed)
    _show(report, time.process_time() - began)
    sys.exit(1 if report.findings else 0)


def _given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is not None and source.name != "DEFAULT"


def _show(report: Report, cpu_s: float) -> None:
    click.echo("faults:" if report.plan else "no faults")
    for fault in report.plan:
        click.echo(f"  {fault}")
    click.echo(f"cold start at rest after {_seconds(report.cold_start_s)}; healed after {_seconds(report.healed_s)}")
    click.echo(f"longest loop {report.worst_loop_s:.1f} s, longest black hole {report.worst_hole_s:.1f} s")
    click.echo(f"{report.events} events, {cpu_s:.1f} s of CPU, digest {report.digest}")
    for finding in report.findings:
        click.echo(str(finding))
    click.echo(f"{len(report.findings)} findings" if report.findings else "no findings")


def _seconds(value: float | None) -> str:
    return "(never)" if value is None else f"{value:.1f} s"
