"""The mutants that `make soak-mutants` tries: made in functions that exist, and of a line that tests can execute."""

import gc
from pathlib import Path
from types import FunctionType

from benchmarks.mutants import ROOT, mutant, places, sample
from gossip.health import LocalHealth

HEALTH = Path("gossip/health.py")


def test_every_mutant_changes_one_file_in_functions_and_says_so():
    source = (ROOT / HEALTH).read_text().splitlines()
    made = [mutant(HEALTH, number) for number in range(places(HEALTH))]
    assert made
    for each in made:
        assert each.changed
        assert str(each).startswith(f"gossip/health.py:{each.lines.start}  ")
        assert source[each.lines.start - 1].strip()


def test_a_mutant_is_put_into_the_functions_of_the_process():
    file = str(ROOT / HEALTH)
    functions = [each for each in gc.get_objects() if isinstance(each, FunctionType)]
    before = {each: each.__code__ for each in functions if each.__code__.co_filename == file}
    left = [mutant(HEALTH, number) for number in range(places(HEALTH))]
    try:
        for each in left:
            assert each.make() >= 1, each
        assert any(function.__code__ is not code for function, code in before.items())
    finally:
        for function, code in before.items():
            function.__code__ = code
    assert LocalHealth.__init__.__code__ is before[LocalHealth.__init__]


def test_the_whole_sample_can_be_made():
    assert len(sample(400, 1)) == 400
