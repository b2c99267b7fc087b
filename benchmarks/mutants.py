"""Mutants: ``make soak-mutants MUTANTS=400``, a seeded sample of small mistakes, each of which some test should notice.

A mutant is one change in ``gossip/``, ``routing/`` or ``dmssd/security/``: a comparison, an operator, a constant, a
condition, a statement that is left out. It is made in a copy of the tree, and the unit and property tests that concern
its file are run there until the first fails. Printed are the survivors and the share that was killed; which survivors
are accepted, and why, stands in docs/internals/testing.md. Not mutated: docstrings, annotations, messages for people,
default values and ``assert``.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("sansio", "gossip", "routing", "dmssd", "tests", "benchmarks", "setup.cfg", "pyproject.toml")
TESTS = {
    "gossip": ["tests/unit/gossip", "tests/property/test_swim_properties.py"],
    "routing": ["tests/unit/routing", "tests/property", "--ignore=tests/property/test_hostile_input.py"],
    "dmssd/security": ["tests/unit/security", "tests/property/test_security_properties.py"],
}
HOSTILE = "tests/property/test_hostile_input.py"
"""Run last, and only for those that the tests of their own package have let live."""
SECONDS_MAX = 300.0

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
    """One change: the file, the line, what it says, and the whole source with it."""

    path: Path
    line: int
    what: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}  {self.what}"


def places(path: Path) -> int:
    """How many mutants a file has."""
    return sum(1 for _ in _code(ast.parse((ROOT / path).read_text())))


def mutant(path: Path, number: int) -> Mutant:
    """One mutant of a file."""
    tree = ast.parse((ROOT / path).read_text())
    target = list(_code(tree))[number]
    before, line = ast.unparse(target).partition("\n")[0], getattr(target, "lineno", 0)
    _change(target)
    after = "(left out)" if isinstance(target, ast.Expr) else ast.unparse(target).partition("\n")[0]
    return Mutant(path, line, f"{before}  ->  {after}", ast.unparse(ast.fix_missing_locations(tree)))


def _code(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes inside functions that may be changed."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name not in ("__repr__", "__str__"):
            for statement in function.body:
                for node in ast.walk(statement):
                    if _is_place(node) and not isinstance(statement, ast.Assert | ast.FunctionDef):
                        yield node


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
            node.value = ast.Constant(None)


def sample(count: int, seed: int) -> list[Mutant]:
    """``count`` mutants of all, each as likely as any other."""
    found: list[tuple[Path, int]] = []
    for package in TESTS:
        for path in sorted((ROOT / package).glob("*.py")):
            relative = path.relative_to(ROOT)
            found += [(relative, number) for number in range(places(relative))]
    chosen = random.Random(seed).sample(found, min(count, len(found)))
    return [mutant(path, number) for path, number in chosen]


def is_killed(changed: Mutant, tree: Path) -> bool:
    """Whether a test fails, or does not end, with the mutant in the tree."""
    file = tree / changed.path
    original = file.read_text()
    file.write_text(changed.source)
    try:
        package = next(name for name in TESTS if str(changed.path).startswith(name))
        return any(not _passes(tests, tree) for tests in (TESTS[package], [HOSTILE]))
    finally:
        file.write_text(original)


def _passes(tests: list[str], tree: Path) -> bool:
    argv = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "HYPOTHESIS_DATABASE_FILE": "", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            argv, cwd=tree, env=environment, capture_output=True, timeout=SECONDS_MAX, check=False, text=True
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> int:
    """Make them, run them, tell."""
    parser = argparse.ArgumentParser(prog="make soak-mutants", description=__doc__)
    parser.add_argument("--mutants", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip", type=int, default=0, help="begin further on in the sample")
    options = parser.parse_args()
    chosen = sample(options.mutants, options.seed)[options.skip :]
    survivors = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        for name in COPIED:
            source = ROOT / name
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tree / name, ignore=ignore) if source.is_dir() else shutil.copy(source, tree / name)
        for tests in (*TESTS.values(), [HOSTILE]):
            if not _passes(tests, tree):
                print(f"fails without any mutant: pytest {' '.join(tests)}")
                return 1
        for number, each in enumerate(chosen, 1):
            killed = is_killed(each, tree)
            if not killed:
                survivors.append(each)
            print(f"{number:4} {'killed  ' if killed else 'SURVIVED'} {each}", flush=True)
    share = 1 - len(survivors) / max(1, len(chosen))
    print(f"{share:.0%} of {len(chosen)} killed in {time.monotonic() - began:.0f} s; {len(survivors)} survive:")
    for each in survivors:
        print(f"    {each}")
    return 0 if chosen and share >= 0.8 else 1


if __name__ == "__main__":
    sys.exit(main())
