"""Many simulated worlds, one seed after another: ``make soak SEEDS=500``.

Each seed draws what is switched on (:mod:`dmssd.sim.swarm`); with ``--plain`` the worlds are those of the suite: 16
nodes, every kind of fault, and the options below. Prints a line per seed and, for each that has findings, the command
that repeats it. Exit status 1 if any has.
"""

import argparse
import concurrent.futures
import sys
import time

from dmssd.sim import mesh, shapes, swarm
from dmssd.sim.scenario import Report, Scenario, timeline_of_seconds


def run_seed(seed: int, nodes: int, seconds: float, faults: int, shape: str | None) -> tuple[str, Report, float]:
    """One world; returns the command that repeats it, the report, and its CPU seconds."""
    chosen = shapes.parse(shape or shapes.by_seed(seed, nodes), seed)
    began = time.process_time()
    report = Scenario(mesh.build(seed, chosen), mesh.VIEWS, timeline_of_seconds(seconds)).run(fault_count=faults)
    size = f"--nodes {chosen.nodes} --seconds {seconds:g} --faults {faults} --shape {chosen.text}"
    return f"dmssd sim run --seed {seed} {size}", report, time.process_time() - began


def run_swarm(seed: int) -> tuple[str, Report, float]:
    """The same, where the seed chooses everything."""
    began = time.process_time()
    _, report = swarm.run(seed)
    return f"dmssd sim run --swarm --seed {seed}", report, time.process_time() - began


def main() -> int:
    """Parse the arguments, run the seeds, summarise."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=1000, help="the first seed (the suite runs 0..19)")
    parser.add_argument("--plain", action="store_true", help="the suite's worlds, and the options below")
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--faults", type=int, default=5)
    parser.add_argument("--shape", default=None, help="by default the seed chooses")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    failed = 0
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        seeds = range(options.first, options.first + options.seeds)
        arguments = (options.nodes, options.seconds, options.faults, options.shape)
        runs = [
            pool.submit(run_seed, seed, *arguments) if options.plain else pool.submit(run_swarm, seed) for seed in seeds
        ]
        for run in concurrent.futures.as_completed(runs):
            command, report, cpu_s = run.result()
            verdict = f"{len(report.findings)} FINDINGS" if report.findings else "ok"
            print(f"{verdict:12} {cpu_s:5.1f} s  {command}", flush=True)
            for finding in report.findings[:5]:
                print(f"    {finding}")
            failed += bool(report.findings)
    print(f"{len(runs) - failed} of {len(runs)} worlds without findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
