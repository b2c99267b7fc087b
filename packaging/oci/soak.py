#!/usr/bin/env python3
"""Build the image and run the mesh of compose.yaml by it, as docs/operating/container.md says: ``make soak-image``.

podman runs in a network namespace of this run's own, so that no bridge is made on the host, with its storage below a
temporary directory; both are gone afterwards. Exit status 1 with the first thing that is not as it must be.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NODES = ("alpha", "beta", "gamma")
PROJECT = "soak"
DEADLINE_S = 120.0
SETTINGS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "none"
tmp_dir = "{scratch}/tmp"
[network]
network_backend = "cni"
network_config_dir = "{scratch}/net"
"""
WRAPPER = """#!/bin/sh
exec nsenter --net=/run/netns/{namespace} env CONTAINERS_CONF={scratch}/containers.conf \\
    podman --root {scratch}/root --runroot {scratch}/run --storage-driver vfs "$@"
"""


def run(*command: str, check: bool = True, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command; what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=1800)
    if check and done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


class Podman:
    """podman with a store and a network of its own, while the context lasts."""

    def __init__(self, scratch: Path, namespace: str) -> None:
        self.program = str(scratch / "podman")
        (scratch / "containers.conf").write_text(SETTINGS.format(scratch=scratch))
        Path(self.program).write_text(WRAPPER.format(scratch=scratch, namespace=namespace))
        Path(self.program).chmod(0o755)
        for directory in ("net", "tmp"):
            (scratch / directory).mkdir()

    def __call__(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run podman."""
        return run(self.program, *arguments, check=check)

    def on(self, node: str, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command in the container of a node."""
        return self("exec", f"{PROJECT}_{node}_1", *command, check=check)

    def take_down(self) -> None:
        """Containers, volumes, networks and images."""
        self("rm", "--force", "--all", "--volumes", "--time", "2", check=False)
        self("volume", "rm", "--all", "--force", check=False)
        self("rmi", "--all", "--force", check=False)


@contextlib.contextmanager
def podman() -> Iterator[Podman]:
    """A :class:`Podman` of this run's own; what it made is gone afterwards."""
    namespace = f"dmssd-soak-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="dmssd-soak-", ignore_cleanup_errors=True) as scratch:
        run("ip", "netns", "add", namespace)
        made = Podman(Path(scratch), namespace)
        try:
            run("ip", "-n", namespace, "link", "set", "lo", "up")
            yield made
        finally:
            made.take_down()
            run("ip", "netns", "del", namespace, check=False)
            shutil.rmtree(Path(scratch) / "root", ignore_errors=True)


def until(what: str, is_so: Callable[[], bool]) -> None:
    """Wait for a condition, or end with its name."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > DEADLINE_S:
            sys.exit(f"not so within {DEADLINE_S:.0f} s: {what}")
        time.sleep(0.3)
    print(f"{what}: after {time.monotonic() - began:.1f} s", flush=True)


def demand(what: str, is_so: bool, shown: str = "") -> None:
    """End unless it is so."""
    if not is_so:
        sys.exit(f"not so: {what} {shown}")
    print(what, flush=True)


def main() -> None:
    """Build, refuse, run, join, ping, be healthy and unhealthy, come back after a restart, take down."""
    needed = ("podman", "podman-compose", "runc", "containernetworking-plugins", "iptables", "iproute2")
    run(str(REPOSITORY / "setup/system.sh"), *needed)
    built = run(str(REPOSITORY / "packaging/oci/build.sh")).stdout.splitlines()[-1]
    print(built, flush=True)
    archive, image = re.match(r"(\S+): (\S+),", built).groups()  # type: ignore[union-attr]
    with podman() as engine:
        engine("load", "--quiet", "--input", str(REPOSITORY / archive))
        refused(engine, image)
        compose = ["podman-compose", "-f", "packaging/oci/compose.yaml", "-p", PROJECT, "--podman-path", engine.program]
        run(*compose, "up", "-d", DMSSD_IMAGE=image)
        try:
            mesh(engine)
        except SystemExit:
            for node in NODES:
                said = engine("logs", f"{PROJECT}_{node}_1", check=False)
                print(f"--- {node}\n{said.stdout}{said.stderr}", file=sys.stderr)
            raise
    print("all gone")


def refused(engine: Podman, image: str) -> None:
    """What the image says of itself, and what it needs."""
    done = engine("run", "--rm", "--network", "none", "--cap-drop", "ALL", image, check=False)
    demand("without capabilities it says what to do", done.returncode == 1 and "--cap-add NET_ADMIN" in done.stderr)
    version = engine("run", "--rm", "--network", "none", "--cap-drop", "ALL", image, "--version").stdout
    demand("other commands need none", version.startswith("dmssd "), version)
    for trace in ("/etc/apt", "/var/lib/apt", "/usr/bin/perl5.36-x86_64-linux-gnu"):
        command = ("--rm", "--network", "none", "--entrypoint", "/usr/bin/test", image, "-e", trace)
        demand(f"no {trace} is in it", engine("run", *command, check=False).returncode == 1)


def mesh(engine: Podman) -> None:
    """The mesh of compose.yaml, from three strangers to a ping across two hops."""
    for node in NODES:
        until(
            f"{node} answers", lambda node=node: engine.on(node, "dmssd", "role", "list", check=False).returncode == 0
        )
    status = engine.on("beta", "cat", "/proc/1/status").stdout
    caps = re.findall(r"^Cap(?:Prm|Eff|Bnd|Amb):\s*(\w+)", status, re.MULTILINE)
    demand(
        "it runs by two capabilities, and not as root", set(caps) == {"0000000000003000"} and "Uid:\t0" not in status
    )
    engine.on("alpha", "dmssd", "init", "garden")
    token = engine.on("alpha", "dmssd", "token", "create", "--uses", "2").stdout.strip()
    engine.on("beta", "dmssd", "join", "alpha", "--token", token)
    engine.on("gamma", "dmssd", "join", "beta", "--token", token)
    until("gamma has an address", lambda: address(engine, "gamma") is not None)
    there = address(engine, "gamma") or ""
    until("alpha reaches gamma", lambda: engine.on("alpha", "ping", "-c1", "-W1", there, check=False).returncode == 0)
    hops = re.findall(r"^ ?(\d+)  (\S+)", engine.on("alpha", "dmssd", "trace", "gamma").stdout, re.MULTILINE)
    demand("the way leads over beta", hops == [("1", "beta"), ("2", "gamma")], str(hops))
    lost = engine.on("alpha", "ping", "-c20", "-i0.1", there).stdout
    demand("20 of 20 pings are answered", " 0% packet loss" in lost, lost)
    for node in NODES:
        until(f"{node} says ok", lambda node=node: engine.on(node, "dmssd", "status", check=False).returncode == 0)
    health(engine)
    engine("restart", "--time", "10", f"{PROJECT}_gamma_1")
    until("gamma is back under its address", lambda: address(engine, "alpha", of="gamma") == there)
    until("alpha reaches it", lambda: engine.on("alpha", "ping", "-c1", "-W1", there, check=False).returncode == 0)


def health(engine: Podman) -> None:
    """The health check tells a daemon that does not answer. Without systemd, podman runs it when asked."""
    name = f"{PROJECT}_beta_1"
    demand("beta is healthy", engine("healthcheck", "run", name, check=False).returncode == 0)
    engine("kill", "--signal", "STOP", name)
    done = engine("healthcheck", "run", name, check=False)
    demand("stopped, it is not", done.returncode == 1, f"{done.stdout}{done.stderr}")
    engine("kill", "--signal", "CONT", name)
    until("it is again", lambda: engine("healthcheck", "run", name, check=False).returncode == 0)


def address(engine: Podman, node: str, of: str = "") -> str | None:
    """The IPv4 address of a node (``of``, else itself), as ``node`` knows it."""
    done = engine.on(node, "dmssd", "-o", "json", "member", "addresses", check=False)
    claims = json.loads(done.stdout) if done.returncode == 0 else []
    held = [each["block"] for each in claims if each["name"] == (of or node) and each["family"] == 4 and each["holds"]]
    return held[0].partition("/")[0] if held else None


if __name__ == "__main__":
    main()
