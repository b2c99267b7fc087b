"""Network namespaces for kernel tests, which are gone afterwards whatever happened.

A test that needs them calls :func:`require_netns` (or uses the ``Namespaces`` context): without root or a kernel that
makes namespaces it skips by name, and with ``DMSSD_REQUIRE_NETNS=1`` it fails instead.
"""

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
_CLONE_NEWNET = 0x40000000


def ip(*arguments: str) -> str:
    """Run ``ip``; its output."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise AssertionError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@functools.cache
def _lacking() -> str | None:
    if os.geteuid() != 0:
        return "root is needed to make network namespaces"
    name = f"dmssd-probe-{os.getpid()}"
    try:
        ip("netns", "add", name)
    except (AssertionError, OSError) as problem:
        return f"network namespaces cannot be made: {problem}"
    try:
        ip("-n", name, "link", "add", "p0", "type", "veth", "peer", "name", "p1")
        ip("-n", name, "link", "set", "p0", "up")
        ip("-n", name, "link", "set", "p1", "up")
        ip("-n", name, "nexthop", "add", "id", "1", "via", "fe80::1", "dev", "p0")
    except AssertionError as problem:
        return f"the kernel lacks veth or nexthop objects: {problem}"
    finally:
        ip("netns", "del", name)
    return None


def require_netns() -> None:
    """Skip the calling test, or fail it where namespaces are required, unless the kernel can do what it needs."""
    lacking = _lacking()
    if lacking is None:
        return
    if os.environ.get("DMSSD_REQUIRE_NETNS") == "1":
        pytest.fail(lacking)
    pytest.skip(lacking)


class Namespaces:
    """Some network namespaces, named ``PREFIX-PID-NAME`` on the machine and ``NAME`` here."""

    def __init__(self, *names: str, prefix: str = "dmssd-test") -> None:
        self._full = {name: f"{prefix}-{os.getpid()}-{name}" for name in names}
        self._made: list[str] = []

    def __enter__(self) -> "Namespaces":
        require_netns()
        try:
            for name, full in self._full.items():
                ip("netns", "add", full)
                self._made.append(full)
                # Before any link is made: duplicate detection would keep each unusable for 1.6 s.
                for scope in ("default", "all"):
                    self.sysctl(name, f"net/ipv6/conf/{scope}/accept_dad", "0")
                ip("-n", full, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._made:
            subprocess.run(["ip", "netns", "del", self._made.pop()], capture_output=True, check=False, timeout=30)

    def full(self, name: str) -> str:
        """The name of a namespace on the machine."""
        return self._full[name]

    def ip(self, name: str, *arguments: str) -> str:
        """Run ``ip`` in a namespace; its output."""
        return ip("-n", self._full[name], *arguments)

    def ip_json(self, name: str, *arguments: str) -> list[dict[str, Any]]:
        """Run ``ip -j`` in a namespace; its objects."""
        found: list[dict[str, Any]] = json.loads(self.ip(name, "-j", "-d", *arguments) or "[]")
        return [entry for entry in found if entry]

    def sysctl(self, name: str, key: str, value: str | None = None) -> str:
        """Read a kernel setting, or write it first."""
        path = Path("/proc/sys") / key

        def access() -> str:
            if value is not None:
                path.write_text(value)
            return path.read_text().strip()

        return self.inside(name, access)

    def veth(self, first: tuple[str, str], second: tuple[str, str]) -> None:
        """Join two (namespace, interface) by a cable, both ends switched on."""
        (a, a_link), (b, b_link) = first, second
        self.ip(a, "link", "add", a_link, "type", "veth", "peer", "name", b_link, "netns", self._full[b])
        self.ip(a, "link", "set", a_link, "up")
        self.ip(b, "link", "set", b_link, "up")

    def index(self, name: str, link: str) -> int:
        """The number of an interface."""
        return int(self.ip_json(name, "link", "show", "dev", link)[0]["ifindex"])

    def link_local(self, name: str, link: str) -> str:
        """The link-local IPv6 address of an interface, without zone."""
        found = self.ip_json(name, "-6", "addr", "show", "dev", link, "scope", "link")
        return str(found[0]["addr_info"][0]["local"])

    def inside(self, name: str, work: Callable[[], T]) -> T:
        """Call ``work`` in a thread that has entered the namespace; sockets made there stay in it."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        def enter() -> None:
            try:
                with open(f"/run/netns/{self._full[name]}") as handle:
                    _setns(handle.fileno())
                outcome.append(work())
            except BaseException as problem:  # noqa: BLE001 - raised again in the caller's thread
                failure.append(problem)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def run(self, name: str, *command: str, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command in a namespace to its end."""
        return subprocess.run(
            [*self.entering(name), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            cwd=REPOSITORY,
        )

    def python(self, name: str, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Start Python code in a namespace; the caller ends it."""
        return subprocess.Popen(
            [*self.entering(name), sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    def entering(self, name: str) -> list[str]:
        """The words before a command that is to run in a namespace."""
        return ["nsenter", f"--net=/run/netns/{self._full[name]}"]


def _setns(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
