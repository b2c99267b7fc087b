#!/usr/bin/env python3
"""Build every package and look at it from outside: ``make soak-packages``. Exit status 1 with a line for each finding.

- Two builds of one tree, the second under another umask, time zone and language, give the same bytes.
- The package for arm64 has the files of that for amd64, its libraries are AArch64, nothing in it is x86.
- Lintian has neither error nor warning.
"""

import hashlib
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
AIM_BYTES = 8_000_000
ARCHITECTURES = ("amd64", "arm64")
MACHINES = {"amd64": 62, "arm64": 183}  # e_machine: EM_X86_64, EM_AARCH64
GNU = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}


def machine(file: Path) -> int | None:
    """The machine that an ELF file is for; ``None`` of any other file."""
    with file.open("rb") as opened:
        head = opened.read(20)
    return int(struct.unpack_from("<H", head, 18)[0]) if head.startswith(b"\x7fELF") and len(head) == 20 else None


def fields(deb: Path) -> dict[str, str]:
    """The control fields of a package."""
    text = subprocess.run(["dpkg-deb", "-f", str(deb)], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^([A-Za-z-]+): (.*)", text, re.MULTILINE))


def depended(deb: Path) -> list[str]:
    """The names of the packages that a package depends on."""
    return [re.split(r"[ (]", each.strip())[0] for each in fields(deb)["Depends"].split(",")]


def listed(tree: Path, architecture: str) -> set[str]:
    """The files of a tree, the architecture's own name left out of them."""
    names = (str(path.relative_to(tree)) for path in tree.rglob("*") if not path.is_dir())
    return {name.replace(GNU[architecture], "GNU") for name in names}


def strangers(tree: Path, architecture: str) -> Iterator[str]:
    """Programs and libraries for another machine than the package's, and a package without any for its own."""
    kinds = {path: machine(path) for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()}
    for path, kind in kinds.items():
        if kind is None and re.search(r"\.so(\.|$)", path.name):
            yield f"{architecture}: {path.relative_to(tree)} is no ELF file"
        if kind not in (None, MACHINES[architecture]):
            yield f"{architecture}: {path.relative_to(tree)} is for machine {kind}"
    if MACHINES[architecture] not in kinds.values():
        yield f"{architecture}: holds no library at all"


def compared(debs: dict[str, Path], scratch: Path) -> Iterator[str]:
    """What is wrong with the packages, seen side by side."""
    files = {}
    for architecture, deb in debs.items():
        tree = scratch / architecture
        subprocess.run(["dpkg-deb", "--extract", str(deb), str(tree)], check=True)
        yield from strangers(tree, architecture)
        files[architecture] = listed(tree, architecture)
        if fields(deb)["Architecture"] != architecture:
            yield f"{deb.name}: its Architecture is {fields(deb)['Architecture']}"
        if deb.stat().st_size > AIM_BYTES:
            yield f"{deb.name}: {deb.stat().st_size / 1e6:.2f} MB, aim {AIM_BYTES / 1e6:.0f} MB"
    first, *others = debs
    for other in others:
        for name in sorted(files[first] ^ files[other]):
            yield f"{name} is in only one of {first} and {other}"
        if depended(debs[first]) != depended(debs[other]):
            yield f"{other} depends on {depended(debs[other])}, {first} on {depended(debs[first])}"


def built(architecture: str) -> Path:
    """Build the package; where it lies."""
    done = subprocess.run([str(REPOSITORY / "packaging/deb/build.sh"), architecture], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"the package for {architecture} does not build")
    print(done.stdout.strip(), flush=True)
    return REPOSITORY / done.stdout.split(":")[0].splitlines()[-1]


def differs_when_built_again(architecture: str) -> Iterator[str]:
    """Build twice, under another time zone, umask and language, and compare the bytes."""
    first = hashlib.sha256(built(architecture).read_bytes()).hexdigest()
    before = dict(os.environ), os.umask(0o077)
    try:
        os.environ |= {"TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8"}
        second = hashlib.sha256(built(architecture).read_bytes()).hexdigest()
    finally:
        os.umask(before[1])
        os.environ.clear()
        os.environ |= before[0]
    print(f"{architecture}: {first}", flush=True)
    if first != second:
        yield f"{architecture}: another build of this tree gave other bytes ({second})"


def complained(deb: Path) -> Iterator[str]:
    """What lintian says."""
    subprocess.run([str(REPOSITORY / "setup/system.sh"), "lintian"], check=True)
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", str(deb)], capture_output=True, text=True
    )
    yield from (f"{deb.name}: lintian: {line}" for line in done.stdout.splitlines() if line[:2] in ("E:", "W:"))
    if done.returncode not in (0, 2):
        yield f"{deb.name}: lintian failed: {done.stderr.strip()}"


def main() -> None:
    """Everything; the findings last."""
    findings = [each for architecture in ARCHITECTURES for each in differs_when_built_again(architecture)]
    debs = {
        each: max((REPOSITORY / "build").glob(f"dmssd_*_{each}.deb"), key=os.path.getmtime) for each in ARCHITECTURES
    }
    findings += [each for deb in debs.values() for each in complained(deb)]
    with tempfile.TemporaryDirectory() as scratch:
        findings += compared(debs, Path(scratch))
    print("\n".join(findings) or "no findings")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
