"""What the benchmarks share: quantiles, hand-over of figures, refusal of names that no benchmark has."""

import subprocess
import sys

import msgspec

from benchmarks.gossip import Pair, fullest, ping
from benchmarks.machine import RESULTS_VARIABLE, Figure, quantile, report
from gossip.messages import MESSAGE_CODEC, PAYLOAD_BYTES_MAX


def test_a_quantile_is_a_value_that_was_measured_and_a_trial_that_never_ended_counts():
    assert quantile([30.0, 10.0, 20.0], 0.5) == 20.0
    assert quantile([float(value) for value in range(1, 31)], 0.9) == 27.0
    assert quantile([1.0, float("inf")], 0.9) == float("inf")
    assert quantile([7.0], 0.9) == 7.0


def test_figures_reach_whoever_started_the_benchmark(tmp_path, monkeypatch):
    results = tmp_path / "results"
    monkeypatch.setenv(RESULTS_VARIABLE, str(results))
    figures = [Figure("a", "1 ms", "2 ms", False), Figure("b", "none", "3")]
    report(figures[:1])
    report(figures[1:])
    assert [msgspec.json.decode(line, type=Figure) for line in results.read_bytes().splitlines()] == figures


def test_a_name_that_no_benchmark_has_is_refused_before_anything_runs():
    command = [sys.executable, "-m", "benchmarks", "gossip", "gosip"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "no benchmark is called gosip" in done.stderr
    assert done.stdout == ""


def test_what_the_gossip_benchmark_counts_did_arrive_and_its_fullest_message_is_full():
    pair = Pair()
    assert pair.pass_over(ping(3)) == ping(3)
    assert len(MESSAGE_CODEC.encode(fullest())) <= PAYLOAD_BYTES_MAX
    assert len(MESSAGE_CODEC.encode(ping(len(fullest().updates) + 1))) > PAYLOAD_BYTES_MAX
