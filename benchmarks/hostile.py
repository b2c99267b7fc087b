"""Hostile input by the million: ``make soak-hostile INPUTS=1000000``, the same attackers as in ``make test``.

Half of the inputs go to single cores, in bouts of growing length; half to whole meshes under siege, a new one for every
10,000. A failure prints the command that repeats it. With ``--atheris`` (installed with ``pip install atheris``) the
bouts are guided by coverage instead of drawn: ``--inputs`` is then the number of bouts.
"""

import argparse
import functools
import importlib
import itertools
import sys
import time
import traceback
from collections.abc import Callable, Iterator

from tests.hostile import bouts, credentials
from tests.hostile.siege import ATTACKERS, besiege, blocks

BOUTS = {**bouts.BOUTS, **credentials.BOUTS}
LENGTHS = (20, 60, 200, 1000)
SIEGE_INPUTS = 10_000
INSTRUMENTED = ("sansio", "gossip", "routing", "dmssd")


Work = tuple[str, int, Callable[[], object]]
"""The command that repeats it, how many inputs it is, and what to run."""


def single_cores(seed: int, inputs: int, only: str) -> Iterator[Work]:
    """Every core gets as many inputs."""
    names = [name for name in sorted(BOUTS) if only in ("", name)]
    for name in names:
        done, wanted = 0, inputs // len(names)
        for number, length in enumerate(itertools.cycle(LENGTHS)):
            count = min(length, wanted - done)
            if count <= 0:
                break
            done += count
            choices = next(blocks(f"{seed}/{name}/{number}", count, count))
            repeat = f"--only {name!r} --seed {seed} --inputs {done}"
            yield repeat, count, functools.partial(_fight, name, choices)


def sieges(seed: int, inputs: int, only: str) -> Iterator[Work]:
    """The attackers in turn, each time a new mesh."""
    attackers = [attacker for attacker in ATTACKERS if only in ("", attacker)]
    for number, attacker in zip(range(-(-inputs // SIEGE_INPUTS)), itertools.cycle(attackers), strict=False):
        count = min(SIEGE_INPUTS, inputs - number * SIEGE_INPUTS)
        repeat = f"--only {attacker} --seed {seed + number} --inputs {count}"
        yield repeat, count, functools.partial(besiege, attacker, seed + number, count)


def _fight(name: str, choices: list[int]) -> None:
    BOUTS[name]().fight(choices)


def guided(inputs: int) -> None:
    """Let atheris choose: the first byte picks a bout, four bytes make a choice."""
    atheris = importlib.import_module("atheris")
    for name in [name for name in sys.modules if name.partition(".")[0] in (*INSTRUMENTED, "tests")]:
        del sys.modules[name]  # only what is imported from now on is watched
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        fresh = [importlib.import_module(f"tests.hostile.{name}") for name in ("bouts", "credentials")]
    makers = {name: maker for module in fresh for name, maker in module.BOUTS.items()}
    names = sorted(makers)

    def one_input(data: bytes) -> None:
        data = data.ljust(21, b"\x00")
        choices = [int.from_bytes(data[at : at + 4], "big") for at in range(1, len(data) - 3, 4)]
        makers[names[data[0] % len(names)]]().fight(choices)

    atheris.Setup([sys.argv[0], f"-runs={inputs}", "-max_len=401", "-len_control=0"], one_input)
    atheris.Fuzz()


def main() -> int:
    """Parse the arguments, attack, summarise."""
    parser = argparse.ArgumentParser(prog="make soak-hostile", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help=f"one of {', '.join((*sorted(BOUTS), *ATTACKERS))}")
    parser.add_argument("--atheris", action="store_true", help="choose by coverage")
    options = parser.parse_args()
    if options.atheris:
        guided(options.inputs)
        return 0
    half = options.inputs // 2 if not options.only else options.inputs
    works = []
    if options.only not in ATTACKERS:
        works.append(single_cores(options.seed, half, options.only))
    if options.only not in BOUTS:
        works.append(sieges(options.seed, half, options.only))
    done = failed = 0
    began = time.monotonic()
    for repeat, count, work in itertools.chain(*works):
        try:
            work()
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            failed += 1
            print(f"FAILED, repeat with: python -m benchmarks.hostile {repeat}", flush=True)
            traceback.print_exc(limit=-6, file=sys.stdout)
        done += count
        if done // 100_000 != (done - count) // 100_000:
            print(f"{done:9} inputs, {failed} failures, {time.monotonic() - began:6.0f} s", flush=True)
    print(f"{done} inputs, {failed} failures")
    return 1 if failed or not done else 0


if __name__ == "__main__":
    sys.exit(main())
