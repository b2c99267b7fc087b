"""One seed, one history: whatever the process, whatever its hash seed."""

import os
import subprocess
import sys
from pathlib import Path

from dmssd.sim import swarm

ROOT = Path(__file__).resolve().parents[2]
RUN = """
from benchmarks.soak import run_seed, run_swarm
report = {world}[1]
print(report.digest, report.events, [str(finding) for finding in report.findings])
"""
PLAIN = 'run_seed({seed}, 12, 18, 6, "random:12")'
SWARM = "run_swarm({seed})"


def run(seed: int, hash_seed: str, world: str = PLAIN) -> str:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN.format(world=world.format(seed=seed))]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def test_the_same_seed_gives_the_same_history_in_every_process_and_another_seed_another():
    assert run(5, "1") == run(5, "2") != run(6, "1")


def test_a_swarm_with_changes_of_configuration_has_one_history_too():
    seed = 1006
    assert {"announce", "gateway", "filter", "settings"} & set(swarm.by_seed(seed).operators)
    assert run(seed, "1", SWARM) == run(seed, "2", SWARM)
