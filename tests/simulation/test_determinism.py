"""One seed, one history: whatever the process, whatever its hash seed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = """
from benchmarks.soak import run_seed
report = run_seed({seed}, 12, 18, 6, "random:12")[1]
print(report.digest, report.events, [str(finding) for finding in report.findings])
"""


def run(seed: int, hash_seed: str) -> str:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN.format(seed=seed)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def test_the_same_seed_gives_the_same_history_in_every_process_and_another_seed_another():
    assert run(5, "1") == run(5, "2") != run(6, "1")
