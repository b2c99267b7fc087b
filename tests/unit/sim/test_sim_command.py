import re

from click.testing import CliRunner

from dmssd.cli.sim import sim
from sansio.errors import StoreError

SMALL = ["run", "--seed", "2", "--shape", "ring:4", "--seconds", "9"]


def test_a_run_prints_its_faults_and_a_digest_and_repeats_itself():
    first, second = (CliRunner().invoke(sim, [*SMALL, "--faults", "2"]) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert "no findings" in first.output
    assert len(re.findall(r"^  \d+\.\d+\.\.\d+\.\d+ s [a-z-]+", first.output, re.MULTILINE)) == 2 + 1  # a clock too
    digests = [re.search(r"digest ([0-9a-f]{32})", done.output).group(1) for done in (first, second)]
    assert digests[0] == digests[1]


def test_nodes_that_contradict_the_shape_are_a_usage_error():
    done = CliRunner().invoke(sim, [*SMALL, "--nodes", "9"])
    assert (done.exit_code, "leave out one of the two" in done.output) == (2, True)


def test_an_unknown_shape_is_a_usage_error_with_those_there_are():
    done = CliRunner().invoke(sim, ["run", "--shape", "blob:4"])
    assert (done.exit_code, "there are campus, full, grid" in done.output) == (2, True)


def test_a_file_that_is_no_record_is_not_replayed(tmp_path):
    file = tmp_path / "noise"
    file.write_bytes(b"\x00\x00\x00\x05noise")
    done = CliRunner().invoke(sim, ["replay", str(file)])
    assert isinstance(done.exception, StoreError)
