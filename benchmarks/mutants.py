"""Mutants: ``make soak-mutants MUTANTS=400``, a seeded sample of small mistakes, each of which some test should notice.

A mutant is one change in ``gossip/``, ``routing/`` or ``dmssd/security/``: a comparison, an operator, a constant, a
condition, a statement that is left out. Not mutated: docstrings, annotations, messages for people, default values and
``assert``. Each meets the unit and property tests of these packages, the hostile input among them.

All this happens inside of one pytest that has collected the tests. It notes first which test executes which lines. For
each mutant it forks; the child puts the changed code into the functions that exist, and runs the tests that execute the
changed line, the quickest first, until one fails or takes longer than ten times what it took and ``SECONDS_SPARE``.
Those that the quick tests let live meet the slow ones in a second round. Nothing is written to the tree.

This never counts too many as killed. It can count too few: a line that no test executes is a survivor without a run,
what is called while modules are imported has been called already, and tests that find a value in a cache which another
test filled are not known to depend on it. Property tests try the same examples each time.

Printed are the survivors and the share that was killed; which survivors are accepted, and why, stands in
docs/internals/testing.md.
"""

import argparse
import ast
import contextlib
import faulthandler
import gc
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FunctionType

import coverage
import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gossip", "routing", "dmssd/security")
TESTS = ("tests/unit/gossip", "tests/unit/routing", "tests/unit/security", "tests/property")
QUICK_SECONDS = 0.3
SECONDS_SPARE = 20.0
SLOWER_MAX = 10.0
"""A test that takes so many times what it took, and ``SECONDS_SPARE``, has failed."""

MEMORY_MAX = 4 << 30
"""A mutant that never stops collecting something is killed before it takes the machine with it."""

SHARE_MIN = 0.8
PASSED, FAILED, NOT_MADE = 0, 1, 3

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the file, the lines whose execution meets it, what it says, and the functions that it changes."""

    path: Path
    lines: range
    what: str
    changed: dict[tuple[str, int], CodeType]

    def __str__(self) -> str:
        return f"{self.path}:{self.lines.start}  {self.what}"

    def make(self) -> int:
        """Put the changed code into the functions of this process; into how many."""
        file = str(ROOT / self.path)
        functions = [each for each in gc.get_objects() if isinstance(each, FunctionType)]
        made = 0
        for function in functions:
            code = function.__code__
            if code.co_filename == file and (new := self.changed.get((code.co_qualname, code.co_firstlineno))):
                function.__code__ = new
                made += 1
        return made


def places(path: Path) -> int:
    """How many mutants a file has."""
    return sum(1 for _ in _code(ast.parse((ROOT / path).read_text())))


def mutant(path: Path, number: int) -> Mutant:
    """One mutant of a file."""
    tree = ast.parse((ROOT / path).read_text())
    target = list(_code(tree))[number]
    before, lines, original = ast.unparse(target).partition("\n")[0], _lines(tree, target), _functions(tree, path)
    _change(target)
    after = "(left out)" if isinstance(target, ast.Expr) else ast.unparse(target).partition("\n")[0]
    new = _functions(ast.fix_missing_locations(tree), path)
    # What is inside a call that is left out is inside that no more; the function around it is another one then.
    changed = {key: new[key] for key in original if key in new and new[key] != original[key]}
    return Mutant(path, lines, f"{before}  ->  {after}", changed)


def _functions(tree: ast.Module, path: Path) -> dict[tuple[str, int], CodeType]:
    """The code of every function, by name and line."""
    found = {}
    waiting = [compile(tree, str(ROOT / path), "exec", dont_inherit=True)]
    while waiting:
        code = waiting.pop()
        found[code.co_qualname, code.co_firstlineno] = code
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
    return {key: code for key, code in found.items() if code.co_flags & CO_OPTIMIZED}


def _lines(tree: ast.Module, target: ast.AST) -> range:
    """All lines of the statement it is in, or its own lines where that statement holds others."""
    line = getattr(target, "lineno", 0)
    near = [each for each in ast.walk(tree) if isinstance(each, ast.stmt) and each.lineno <= line <= _end(each)]
    smallest = min((each for each in near if target in ast.walk(each)), key=lambda each: _end(each) - each.lineno)
    place = smallest if not hasattr(smallest, "body") else target.test if isinstance(target, ast.If) else target
    return range(getattr(place, "lineno", 0), _end(place) + 1)


def _end(node: ast.AST) -> int:
    return getattr(node, "end_lineno", None) or 0


def _code(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes inside functions that may be changed."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name not in ("__repr__", "__str__"):
            for statement in function.body:
                if not isinstance(statement, ast.Assert | ast.FunctionDef):
                    yield from (node for node in _evaluated(statement) if _is_place(node))


def _evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """It and all below it, without annotations."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for below in value if isinstance(value, list) else [value]:
                if isinstance(below, ast.AST):
                    yield from _evaluated(below)


def _is_place(node: ast.AST) -> bool:
    """Whether the node can be changed."""
    match node:
        case ast.Compare(ops=[op]):
            return type(op) in COMPARISONS
        case ast.BoolOp() | ast.If():
            return True
        case ast.BinOp(op=op, left=left):
            is_text = isinstance(left, ast.JoinedStr) or (
                isinstance(left, ast.Constant) and isinstance(left.value, str)
            )
            return type(op) in OPERATORS and not is_text
        case ast.Constant(value=bool()):
            return True
        case ast.Constant(value=int()):
            return True
        case ast.Expr(value=ast.Call()):
            return True
        case _:
            return False


def _change(node: ast.AST) -> None:
    match node:
        case ast.Compare(ops=[op]):
            node.ops = [COMPARISONS[type(op)]()]
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.If():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.BinOp():
            node.op = OPERATORS[type(node.op)]()
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() as value):
            node.value = value + 1
        case ast.Expr():
            # Never called; but what the function closes over stays the same, without which its code cannot be replaced.
            node.value = ast.Lambda(ast.arguments([], [], None, [], [], None, []), node.value)


def sample(count: int, seed: int) -> list[Mutant]:
    """``count`` mutants of all, each as likely as any other."""
    found: list[tuple[Path, int]] = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).glob("*.py")):
            relative = path.relative_to(ROOT)
            found += [(relative, number) for number in range(places(relative))]
    chosen = random.Random(seed).sample(found, min(count, len(found)))
    return [mutant(path, number) for path, number in chosen]


class Killer:
    """A plugin of pytest that runs the tests in children, once to note their lines and then for each mutant."""

    def __init__(self, chosen: list[Mutant]) -> None:
        self._chosen = chosen
        self._seconds: dict[str, float] = {}
        self._executing: dict[tuple[str, int], set[str]] = {}
        self.survivors: list[str] = []
        self.finished = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of running the tests one after another."""
        began = time.monotonic()
        items = {item.nodeid: item for item in session.items}
        with tempfile.TemporaryDirectory() as directory:
            noted = Path(directory) / "noted.json"
            if _child(lambda: _note(session, noted)) != PASSED:
                raise pytest.UsageError("the tests fail without any mutant: make unit tells more")
            self._read(noted)
        print(f"which tests execute which lines: known after {time.monotonic() - began:.0f} s", flush=True)
        quick = {test for test, seconds in self._seconds.items() if seconds <= QUICK_SECONDS}
        living = self._round(self._chosen, quick, session, items)
        print(f"{len(living)} of {len(self._chosen)} live on: the slow tests", flush=True)
        living = self._round(living, self._seconds.keys() - quick, session, items)
        self.survivors = [f"{each}  ({len(self._tests(each))} tests execute it)" for each in living]
        self.finished = True
        return True

    def _round(
        self, mutants: list[Mutant], tests: Set[str], session: pytest.Session, items: dict[str, pytest.Item]
    ) -> list[Mutant]:
        """Those that all of these tests let live."""
        if _child(lambda: _run(session, self._ordered(tests, items))) != PASSED:
            raise pytest.UsageError("the tests fail without any mutant when the quickest run first")
        living = []
        for number, each in enumerate(mutants, 1):
            if lives := self._lives(each, self._tests(each) & tests, session, items):
                living.append(each)
            print(f"{number:4} {'lives   ' if lives else 'killed  '} {each}", flush=True)
        return living

    def _read(self, noted: Path) -> None:
        for test, (seconds, files) in json.loads(noted.read_text()).items():
            self._seconds[test] = seconds
            for file, lines in files.items():
                for line in lines:
                    self._executing.setdefault((file, line), set()).add(test)

    def _ordered(self, tests: Iterable[str], items: dict[str, pytest.Item]) -> list[tuple[pytest.Item, float]]:
        quickest_first = sorted((self._seconds[test], test) for test in tests)
        return [(items[test], SLOWER_MAX * seconds + SECONDS_SPARE) for seconds, test in quickest_first]

    def _tests(self, changed: Mutant) -> set[str]:
        """Those that execute its lines."""
        file = str(ROOT / changed.path)
        return set[str]().union(*(self._executing.get((file, line), ()) for line in changed.lines))

    def _lives(self, changed: Mutant, tests: set[str], session: pytest.Session, items: dict[str, pytest.Item]) -> bool:
        """Whether none of these tests fails, and each ends."""

        def attempt() -> int:
            return _run(session, self._ordered(tests, items)) if changed.make() else NOT_MADE

        result = _child(attempt) if tests else PASSED
        if result == NOT_MADE:
            raise pytest.UsageError(f"cannot be made: {changed}")
        return result == PASSED


def _note(session: pytest.Session, path: Path) -> int:
    """Run all tests; write ``{test: [seconds, {file: [line, ...]}]}``, the seconds being those under the tracer."""
    tracer = coverage.Coverage(
        data_file=None, config_file=False, source=[str(ROOT / package) for package in PACKAGES], messages=False
    )
    seconds = {}
    tracer.start()
    for item, following in zip(session.items, [*session.items[1:], None], strict=True):
        tracer.switch_context(item.nodeid)
        began = time.monotonic()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        seconds[item.nodeid] = time.monotonic() - began
    tracer.stop()
    lines: dict[str, dict[str, list[int]]] = {test: {} for test in seconds}
    data = tracer.get_data()
    for file in sorted(data.measured_files()):
        for line, tests in data.contexts_by_lineno(file).items():
            for test in lines.keys() & tests:
                lines[test].setdefault(file, []).append(line)
    path.write_text(json.dumps({test: [seconds[test], lines[test]] for test in seconds}))
    return FAILED if session.testsfailed else PASSED


def _run(session: pytest.Session, tests: list[tuple[pytest.Item, float]]) -> int:
    """Run them until one fails or takes longer than its seconds, which ends the process whatever it is busy with."""
    for (item, seconds), (following, _) in zip(tests, [*tests[1:], (None, 0.0)], strict=True):
        faulthandler.dump_traceback_later(seconds, exit=True)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        faulthandler.cancel_dump_traceback_later()
        if session.testsfailed:
            return FAILED
    return PASSED


def _child(work: Callable[[], int]) -> int:
    """What ``work`` returns in a child of this process; ``FAILED`` where it raises or the child dies."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else FAILED
    result = FAILED
    with contextlib.suppress(BaseException):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
        result = work()
    os._exit(result)


def main() -> int:
    """Make them, run them, tell."""
    parser = argparse.ArgumentParser(prog="make soak-mutants", description=__doc__)
    parser.add_argument("--mutants", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip", type=int, default=0, help="begin further on in the sample")
    options = parser.parse_args()
    began = time.monotonic()
    chosen = sample(options.mutants, options.seed)[options.skip :]
    # The same examples for every mutant; none fails for want of time, which is watched here.
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("mutants")
    os.chdir(ROOT)
    killer = Killer(chosen)
    pytest.main(["-q", "-s", "--no-header", "--no-summary", "-p", "no:cacheprovider", *TESTS], plugins=[killer])
    if not killer.finished:
        return 1
    share = 1 - len(killer.survivors) / max(1, len(chosen))
    print(f"{share:.0%} of {len(chosen)} killed in {time.monotonic() - began:.0f} s; {len(killer.survivors)} survive:")
    for line in killer.survivors:
        print(f"    {line}")
    return 0 if chosen and share >= SHARE_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
