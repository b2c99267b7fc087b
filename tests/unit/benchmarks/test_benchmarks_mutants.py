"""The mutants that `make soak-mutants` tries: made in functions that exist, and of a line that tests can execute."""

import ast
import gc
from pathlib import Path
from types import FunctionType

from benchmarks.mutants import ROOT, _code, mutant, places
from gossip.health import LocalHealth

HEALTH, SPF = Path("gossip/health.py"), Path("routing/spf.py")


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


def test_a_call_is_left_out_together_with_the_functions_inside_it():
    nodes = enumerate(_code(ast.parse((ROOT / SPF).read_text())))
    calls = [number for number, node in nodes if isinstance(node, ast.Expr) and _has_comprehension(node)]
    assert calls
    for number in calls:
        made = mutant(SPF, number)
        assert "(left out)" in str(made)
        assert made.changed


def _has_comprehension(node: ast.AST) -> bool:
    return any(isinstance(below, ast.ListComp) for below in ast.walk(node))
