"""Collects what a maintainer needs to see of this machine, in one file, with secrets left out.

Each part is made by itself: one that fails says why in its place and the rest goes on; one that is too large keeps its
end (logs) or its beginning, in whole lines, and says so. Everything passes through a scrubber before it is kept
(:mod:`dmssd.scrubbing`). Of the state directory only names, sizes and ages are shown; of the configuration what the
schema knows, without comments.
"""

import dataclasses
import gzip
import io
import json
import os
import platform
import socket
import stat
import subprocess
import tarfile
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmssd import __version__
from dmssd.config import schema
from dmssd.config.load import CONFIG_BYTES_MAX, files
from dmssd.driver import clock
from dmssd.driver.formats import FORMAT_KEY
from dmssd.driver.guard import TABLE
from dmssd.driver.kernel import Sysctl
from dmssd.rules.rotation import IDENTITY_KEY, NEXT_IDENTITY_KEY
from dmssd.scrubbing import REMOVED, Scrubber
from dmssd.security.identity import Identity
from sansio.errors import DmssdError, RequestError, StoreError

PART_BYTES_MAX = 1 << 20
COMMAND_S_MAX = 20.0
LOG_LINES_MAX = 5_000
FAILURE_BYTES_MAX = 1_024
"""What a program that failed printed is shown as the reason, if it is no more than this."""
FILES_MAX = 1_024
UNITS = ("dmssd.service", "dmssd.socket", "dmssd-helper.socket")
UNIT_FACTS = (
    "Id,LoadState,ActiveState,SubState,Result,NRestarts,ExecMainPID,ExecMainStatus,ExecMainCode,"
    "ActiveEnterTimestamp,InactiveEnterTimestamp,MemoryCurrent,MemoryPeak,CPUUsageNSec,FragmentPath,DropInPaths"
)
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "kernel/links.txt": ("ip", "-details", "-statistics", "link"),
    "kernel/addresses.txt": ("ip", "address"),
    "kernel/routes4.txt": ("ip", "-4", "route", "show", "table", "all"),
    "kernel/routes6.txt": ("ip", "-6", "route", "show", "table", "all"),
    "kernel/nexthops.txt": ("ip", "nexthop"),
    "kernel/rules4.txt": ("ip", "-4", "rule"),
    "kernel/rules6.txt": ("ip", "-6", "rule"),
    "kernel/neighbours.txt": ("ip", "neighbour"),
    "kernel/guard.txt": ("nft", "list", "table", "inet", TABLE),
    "units.txt": ("systemctl", "show", "--no-pager", f"--property={UNIT_FACTS}", *UNITS),
    "package.txt": ("dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture} ${Status}\\n", "dmssd"),
}
JOURNAL = (
    *("journalctl", "--no-pager", "--output=short-precise", f"--lines={LOG_LINES_MAX}"),
    *("--unit=dmssd.service", "--unit=dmssd.socket", "--unit=dmssd-helper@*"),
)
_SYSCTLS = (
    ("net", "ipv4", "ip_forward"),
    ("net", "ipv4", "fib_multipath_hash_policy"),
    ("net", "ipv4", "fib_multipath_hash_seed"),
    ("net", "ipv4", "nexthop_compat_mode"),
    ("net", "ipv6", "fib_multipath_hash_policy"),
)
_SYSCTLS_OF_LINK = (
    *(("net", "ipv4", "conf", None, name) for name in ("forwarding", "rp_filter")),
    *(
        ("net", "ipv6", "conf", None, name)
        for name in ("forwarding", "disable_ipv6", "accept_ra", "addr_gen_mode", "mtu")
    ),
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Ask = Callable[[str], Any]
Making = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look. ``ask``: the running daemon, by the path of a query (``metrics`` too); it raises ``DmssdError``.

    ``state``: the state directory; ``config``: the main configuration file, ``None`` for the installed one;
    ``examine``: the doctor's findings; ``log``: a file with the daemon's output, besides the journal.
    """

    state: Path
    config: Path | None
    ask: Ask
    queries: tuple[str, ...]
    examine: Callable[[], Any]
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the report; ``problem`` says why it holds nothing, ``cut`` that it holds less than there was."""

    name: str
    contents: bytes
    cut: bool = False
    problem: str = ""


def collect(sources: Sources) -> list[Part]:
    """All parts, those that failed too."""
    scrubber = Scrubber(_secrets(sources.state))
    return [_made(name, make, scrubber) for name, make in _parts(sources)]


def packed(parts: list[Part]) -> bytes:
    """The file: a gzipped tar of the parts, and of ``contents.json`` that lists them."""
    listed = [
        {"name": part.name, "bytes": len(part.contents), "cut": part.cut, "problem": part.problem or None}
        for part in parts
    ]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        contents = json.dumps({"dmssd": __version__, "parts": listed}, indent=2).encode()
        for name, data in [("contents.json", contents), *((part.name, part.contents) for part in parts)]:
            info = tarfile.TarInfo(f"dmssd-bugreport/{name}")
            info.size, info.mode, info.mtime = len(data), 0o600, int(clock.wall())
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), 6)


def _made(name: str, make: Making, scrubber: Scrubber) -> Part:
    try:
        data = make()
        whole = bounded(data, keep_end=name.startswith("log"))
        return Part(name, _scrubbed(name, whole, scrubber), cut=len(whole) < len(data))
    except Exception as problem:  # noqa: BLE001 - whatever is broken here is what the rest of the report is wanted for
        said = str(problem) if isinstance(problem, DmssdError) else f"{type(problem).__name__}: {problem}"
        said = scrubber.text(" ".join(said.split())[:500])
        return Part(name, f"not there: {said}\n".encode(), problem=said)


def _scrubbed(name: str, data: bytes, scrubber: Scrubber) -> bytes:
    text = data.decode(errors="replace")
    if name.endswith(".json"):
        try:
            return json.dumps(scrubber.data(json.loads(text)), indent=1).encode()
        except ValueError:
            pass  # it was cut: no JSON any more, but still of use
    return scrubber.text(text).encode()


def bounded(data: bytes, *, keep_end: bool) -> bytes:
    """At most ``PART_BYTES_MAX`` of ``data``, in whole lines: half a secret would not be known for one."""
    if len(data) <= PART_BYTES_MAX:
        return data
    if keep_end:
        return data[-PART_BYTES_MAX:].partition(b"\n")[2]
    return data[:PART_BYTES_MAX].rpartition(b"\n")[0] + b"\n"


def _parts(sources: Sources) -> Iterator[tuple[str, Making]]:
    yield "versions.txt", _versions
    yield "configuration.json", lambda: _json(_configuration(sources.config))
    yield "doctor.json", lambda: _json(sources.examine())
    yield from _answers(sources)
    yield "state.txt", lambda: _listing(sources.state)
    yield "kernel/sysctls.txt", _sysctls
    for name, command in COMMANDS.items():
        yield name, lambda command=command: output(command)  # type: ignore[misc]
    yield "log-journal.txt", lambda: output(JOURNAL)
    if (log := sources.log) is not None:
        yield "log-file.txt", lambda: _end_of(log)


def _answers(sources: Sources) -> Iterator[tuple[str, Making]]:
    silent: list[DmssdError] = []

    def answer(query: str) -> bytes:
        # A daemon that does not answer is not waited for again and again.
        if silent:
            raise silent[0]
        try:
            found = sources.ask(query)
        except DmssdError as problem:
            if not isinstance(problem, RequestError) or "did not answer" in str(problem):
                silent.append(problem)
            raise
        return found.encode() if isinstance(found, str) else _json(found)

    for query in sources.queries:
        suffix = "txt" if query == "metrics" else "json"
        yield f"api/{query.replace('/', '-')}.{suffix}", lambda query=query: answer(query)  # type: ignore[misc]


def output(command: tuple[str, ...]) -> bytes:
    """What a program prints, on both streams; not waited for longer than ``COMMAND_S_MAX``, and bounded.

    ``StoreError`` where it is not there, or says nothing but that it failed.
    """
    # No PATH of the caller's: this may be root. Nor a language, a pager or anything else of his.
    environment = {"PATH": _PATH, "LC_ALL": "C", "PAGER": "cat"}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
    except OSError as problem:
        raise StoreError(f"{command[0]} cannot be run ({problem.strerror})") from None
    assert process.stdout is not None
    late = threading.Timer(COMMAND_S_MAX, process.kill)
    late.start()
    try:
        # More than a part may have, so that the end of a log is its end.
        data = process.stdout.read(8 * PART_BYTES_MAX)
        if len(data) == 8 * PART_BYTES_MAX:
            process.kill()
        status = process.wait()
    finally:
        late.cancel()
        process.kill()
        process.stdout.close()
    if status and len(data) < FAILURE_BYTES_MAX:
        raise StoreError(f"{' '.join(command)}: status {status}: {data.decode(errors='replace').strip()[:300]}")
    return data


def _versions() -> bytes:
    memory = Path("/proc/meminfo").read_text().splitlines()[:3]
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "an unknown system")
    lines = [
        f"dmssd {__version__}",
        f"Python {platform.python_version()}",
        f"{os.uname().sysname} {os.uname().release} {os.uname().version} {os.uname().machine}",
        system,
        f"{os.cpu_count()} processors, load {Path('/proc/loadavg').read_text().strip()}",
        f"up {Path('/proc/uptime').read_text().split()[0]} s, wall clock {clock.wall():.0f}",
        *memory,
        f"collected by user {os.geteuid()}",
    ]
    return "\n".join([*lines, ""]).encode()


def _configuration(config: Path | None) -> list[dict[str, Any]]:
    """Each file's settings; of what is no setting of ours only the name."""
    known = {
        each.name
        for thing in vars(schema).values()
        if isinstance(thing, type) and dataclasses.is_dataclass(thing)
        for each in dataclasses.fields(thing)
    }
    found = []
    for file in files(config):
        said: dict[str, Any] = {"file": str(file)}
        try:
            with file.open("rb") as stream:
                table = tomllib.loads(stream.read(CONFIG_BYTES_MAX).decode())
        except (OSError, ValueError, RecursionError) as problem:
            # Without its text, which the parser may quote: what stands in a broken file cannot be told apart.
            said["problem"] = f"cannot be read ({type(problem).__name__}): dmssd config check says more"
        else:
            said["settings"] = _known_only(table, known)
        found.append(said)
    return found


def _known_only(table: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    return {key: _known_value(value, known) if key in known else REMOVED for key, value in table.items()}


def _known_value(value: Any, known: set[str]) -> Any:
    match value:
        case dict():
            return _known_only(value, known)
        case list():
            return [_known_value(each, known) for each in value]
    return value if isinstance(value, bool | int | float | str) else str(value)


def _listing(state: Path) -> bytes:
    now = clock.wall()
    lines = []
    for path in sorted(state.iterdir())[:FILES_MAX]:
        info = path.lstat()
        owner = f"{info.st_uid}:{info.st_gid}"
        lines.append(
            f"{stat.filemode(info.st_mode)} {owner} {info.st_size} {now - info.st_mtime:.0f}s {path.name[:100]!r}"
        )
    mark = state / FORMAT_KEY
    lines.append(
        f"format: {mark.read_bytes()[:40].decode(errors='replace').strip()!r}" if mark.is_file() else "format 0"
    )
    return "\n".join([f"{state}: mode, owner, bytes, age, name", *lines, ""]).encode()


def _sysctls() -> bytes:
    sysctl = Sysctl()
    # Not by /sys, which shows the interfaces of the network namespace that it was mounted in.
    links = ["all", "default", *sorted(name for _, name in socket.if_nameindex())[:FILES_MAX]]
    keys = [*_SYSCTLS, *(tuple(word or link for word in key) for link in links for key in _SYSCTLS_OF_LINK)]
    return "".join(f"{'.'.join(key)} = {value}\n" for key in keys if (value := sysctl.read(*key)) is not None).encode()


def _end_of(log: Path) -> bytes:
    with log.open("rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise StoreError(f"{log} is no file")
        # One byte more, so that it shows as cut.
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - PART_BYTES_MAX - 1))
        return stream.read(PART_BYTES_MAX + 1)


def _secrets(state: Path) -> list[bytes]:
    """The node's private keys, as far as they can be read: so that they are known wherever else they may stand."""
    found = []
    for key in (IDENTITY_KEY, NEXT_IDENTITY_KEY):
        try:
            seed = (state / key).read_bytes()[:1024]
            found += [seed, Identity(seed).x25519_private]
        except (OSError, DmssdError):
            continue
    return found


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
