"""What may be wrong with this machine, before and while a daemon runs on it: each check looks, and says what to do.

A check reads what it needs itself (the kernel's settings, netlink, processes, files) and never writes. It yields one
finding for each thing that is wrong, or one that all is well. ``fail``: the mesh does not work, or is not safe, until
it is mended; ``warn``: it works, and less well than it could or only for now. Nothing here is part of the daemon.
"""

import ctypes
import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dmssd.config.schema import Config
from dmssd.driver import clock
from dmssd.driver.guard import TABLE, admitted
from dmssd.driver.kernel import Sysctl, require_capabilities
from dmssd.driver.netlink import NetlinkSocket
from dmssd.driver.rtnetlink import foreign_routes
from routing.lsa import Prefix
from sansio.errors import ConfigError

OK, WARN, FAIL = "ok", "warn", "fail"
MTU_MIN = 1280
"""The least that IPv6 works over (RFC 8200 5)."""
YEAR_MIN = 2024
_CLONE_NEWNET = 0x40000000
_NFT_TIMEOUT_S = 20
_FOREIGN_ROUTES = "ManageForeignRoutes"
_NETWORKD_PLACES = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")
_NM_PLACES = ("usr/lib/NetworkManager/conf.d", "run/NetworkManager/conf.d", "etc/NetworkManager/conf.d")
_ROUTING_DAEMONS = ("bird", "bird6", "zebra", "ospfd", "ospf6d", "babeld", "olsrd", "batmand")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; ``do`` is empty where nothing is to be done."""

    check: str
    verdict: str
    says: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at. ``status``: the running daemon's, ``None`` where none runs; ``root``: of the file system."""

    config: Config
    status: Mapping[str, Any] | None = None
    sysctl: Sysctl = field(default_factory=Sysctl)
    root: Path = Path("/")
    nft: str | None = None

    @property
    def links(self) -> list[str]:
        """The interfaces here that the configuration selects."""
        names = sorted(name for _, name in socket.if_nameindex() if name != "lo")
        return [name for name in names if any(fnmatchcase(name, rule.match) for rule in self.config.links)]


def examine(patient: Patient) -> list[Finding]:
    """Every check's findings, in order."""
    return [finding for check in CHECKS for finding in check(patient)]


def enter_namespace_of(daemon: str) -> None:
    """Look at the machine as the daemon behind this socket does: enter its network namespace, where that is another.

    Without the privilege, or without a daemon, nothing happens.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.connect(daemon)
            pid = int.from_bytes(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
        with open(f"/proc/{pid}/ns/net") as theirs:
            if os.fstat(theirs.fileno()).st_ino != os.stat("/proc/thread-self/ns/net").st_ino:
                # os.setns came with Python 3.12.
                ctypes.CDLL(None, use_errno=True).setns(theirs.fileno(), _CLONE_NEWNET)
    except OSError:
        pass


# The daemon


def check_daemon(patient: Patient) -> Iterator[Finding]:
    """Whether it runs and is content."""
    status = patient.status
    if status is None:
        yield Finding("daemon", WARN, "dmssd is not running", "systemctl start dmssd, or dmssd run --config FILE")
    elif status["verdict"] != OK:
        count = len(status["reasons"])
        yield Finding("daemon", WARN, f"dmssd runs and finds {count} things wrong in the mesh", "dmssd status")
    else:
        yield Finding("daemon", OK, "dmssd runs and finds nothing wrong")


def check_identity(patient: Patient) -> Iterator[Finding]:
    """Whether another machine has this one's key, or its address."""
    status = patient.status or {}
    contested = [reason for reason in status.get("reasons", ()) if "announced by" in reason and "this node" in reason]
    for reason in contested:
        yield Finding("identity", FAIL, reason.partition("; next: ")[0], "give each machine its own address")
    if status.get("rejected", {}).get("LSA of ours that we did not send"):
        yield Finding(
            "identity",
            WARN,
            "others hold news of this node that it did not send: its state was restored, or another machine is a copy",
            "if it goes on, stop the copy, remove its state directory whole, and have it join as a new node",
        )
    elif not contested:
        yield Finding("identity", OK, "nobody else is seen with this node's key or addresses")


# The kernel


def check_kernel(patient: Patient) -> Iterator[Finding]:
    """Whether it has what forwarding takes, and what it lacks of the rest."""
    read = patient.sysctl.read
    release = os.uname().release
    if read("net", "ipv4", "nexthop_compat_mode") is None:
        yield Finding("kernel", FAIL, f"Linux {release} has no nexthop objects", "run Linux 5.3 or newer")
    if read("net", "ipv6", "conf", "all", "forwarding") is None:
        yield Finding("kernel", FAIL, "there is no IPv6, by which links are addressed", "boot without ipv6.disable=1")
    for link in patient.links:
        if read("net", "ipv6", "conf", link, "disable_ipv6") == "1":
            do = f"sysctl -w net.ipv6.conf.{link}.disable_ipv6=0"
            yield Finding("kernel", FAIL, f"IPv6 is off on {link}, by which it would be addressed", do)
    lacks_seed = read("net", "ipv4", "fib_multipath_hash_seed") is None
    optional = " (without fib_multipath_hash_seed, equal-cost ways may share unevenly)" if lacks_seed else ""
    yield Finding("kernel", OK, f"Linux {release}{optional}")


def check_sysctls(patient: Patient) -> Iterator[Finding]:
    """Whether what the daemon sets is set, or can be."""
    wanted: dict[tuple[str, ...], str] = {("net", "ipv4", "nexthop_compat_mode"): "0"}
    if patient.links:
        wanted[("net", "ipv6", "conf", "all", "forwarding")] = "1"
    wanted |= {("net", "ipv4", "conf", link, "forwarding"): "1" for link in patient.links}
    wrong = {key: value for key, value in wanted.items() if patient.sysctl.read(*key) not in (value, None)}
    found = False
    for key, value in wrong.items():
        name = ".".join(key)
        if patient.status is not None:
            found = True
            yield Finding(
                "sysctls", FAIL, f"{name} was changed while dmssd runs: packets are lost", f"sysctl -w {name}={value}"
            )
        elif not os.access(patient.sysctl.root.joinpath(*key), os.W_OK):
            found = True
            yield Finding("sysctls", FAIL, f"{name} is not {value} and cannot be set here", f"sysctl -w {name}={value}")
    for link in patient.links:
        everywhere, here = (patient.sysctl.read("net", "ipv4", "conf", name, "rp_filter") for name in ("all", link))
        if patient.status is not None and "1" in (everywhere, here) and "2" not in (everywhere, here):
            found = True
            do = f"sysctl -w net.ipv4.conf.{link}.rp_filter=2"
            yield Finding(
                "sysctls", FAIL, f"strict reverse path filtering on {link} drops what comes by another way", do
            )
    if not found:
        yield Finding("sysctls", OK, "forwarding is set as it must be" if not wrong else "forwarding can be set")


def check_links(patient: Patient) -> Iterator[Finding]:
    """Whether there are links, and what they carry."""
    links = patient.links
    if not links:
        named = ", ".join(rule.match for rule in patient.config.links)
        says = f"no interface here matches [[links]] ({named})" if named else "no [[links]] are configured"
        yield Finding("links", WARN, says, "name the interfaces of the mesh under [[links]]; ip link shows them")
        return
    sizes = {link: _mtu(link) for link in links}
    for link, mtu in sizes.items():
        if mtu < MTU_MIN:
            do = f"ip link set {link} mtu 1500, or what its far end has"
            yield Finding("mtu", FAIL, f"{link} has an MTU of {mtu}, and IPv6 takes {MTU_MIN}: it cannot be a link", do)
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{link} {mtu}" for link, mtu in sizes.items())
        do = "give all links of the mesh one MTU, or let path MTU discovery (ICMP) through everywhere"
        yield Finding("mtu", WARN, f"links differ in MTU: {shown}; large packets may need to be fragmented", do)
    elif min(sizes.values()) >= MTU_MIN:
        yield Finding("mtu", OK, f"{', '.join(links)}: {min(sizes.values())} bytes")


def _mtu(link: str) -> int:
    # SIOCGIFMTU: unlike /sys it follows the network namespace of the caller.
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket.fileno(), 0x8921, struct.pack("16si16x", link.encode(), 0))
    mtu: int = struct.unpack("16si16x", answer)[1]
    return mtu


def check_port(patient: Patient) -> Iterator[Finding]:
    """Whether the mesh's UDP port is free, or the daemon's."""
    port = patient.config.port
    if patient.status is not None:
        yield Finding("port", OK, f"UDP {port} is in use by dmssd")
        return
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind(("::", port))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                yield Finding("port", FAIL, f"UDP {port} cannot be used: {problem.strerror}", "enable IPv6")
                return
            do = f"ss -ulnp 'sport = :{port}' shows by what: stop it, or set another port on every node"
            yield Finding("port", FAIL, f"UDP {port} is in use by another program", do)
            return
    yield Finding("port", OK, f"UDP {port} is free")


# Privilege, files, time


def check_permissions(patient: Patient) -> Iterator[Finding]:
    """Whether the daemon may do its work, and others may not read its key."""
    found = False
    if patient.status is None:
        try:
            require_capabilities()
        except ConfigError as problem:
            found = True
            yield Finding("permissions", WARN, f"as this user: {problem.problem.partition(':')[0]}", "run as root")
    state = patient.config.state
    try:
        mode = stat.S_IMODE(state.stat().st_mode)
    except FileNotFoundError:
        mode = 0o700  # made at the first start
    except PermissionError:
        mode = 0o700  # closed to us, as it should be
    if mode & 0o077:
        found = True
        do = f"chmod 0700 {state}"
        yield Finding("permissions", FAIL, f"{state} is open to others (mode {mode:04o}): it holds this node's key", do)
    if not found:
        yield Finding("permissions", OK, f"the key in {state} is closed to others")


def check_clock(patient: Patient) -> Iterator[Finding]:
    """Whether the time of day can be right."""
    now = time.gmtime(clock.wall())
    year = now.tm_year
    if year < YEAR_MIN:
        do = "enable a time service (systemctl enable --now systemd-timesyncd); the mesh itself needs no clock"
        yield Finding("clock", WARN, f"the clock says {year}: expiry of certificates cannot be judged here", do)
    else:
        yield Finding("clock", OK, time.strftime("%Y-%m-%d %H:%M UTC", now))


# Others on the machine


def check_guard(patient: Patient) -> Iterator[Finding]:
    """Whether the nftables table is there that keeps this machine from being a router for everybody."""
    if patient.config.guard == "off":
        do = 'set guard = "strict", or be sure that a firewall of yours lets mesh traffic alone through'
        yield Finding("guard", WARN, 'guard = "off": this machine forwards for everybody', do)
        return
    ruleset = _ruleset(patient)
    if ruleset is None:
        do = 'apt-get install nftables; on a kernel without nf_tables guard = "off" is the only choice'
        yield Finding("guard", FAIL, "nft is not there or may not be used: dmssd does not forward unguarded", do)
    elif patient.status is not None and not any(_is_guard(item) for item in ruleset):
        yield Finding(
            "guard", FAIL, f"the nftables table inet {TABLE} is gone while dmssd runs", "systemctl restart dmssd"
        )
    else:
        yield Finding("guard", OK, "nftables works" + (", and the table is there" if patient.status else ""))


def check_announced(patient: Patient) -> Iterator[Finding]:
    """Whether what comes from a network that this node announces is forwarded: links alone are the daemon's to set."""
    announced = [Prefix.parse(text) for text in patient.config.announce]
    netlink = NetlinkSocket()
    try:
        leading = admitted(patient.links, announced, foreign_routes(netlink), closes_ipv6=False).open
    finally:
        netlink.close()
    closed = [
        (interface, prefix)
        for interface, prefix in leading
        if len(prefix.network) == 4 and patient.sysctl.read("net", "ipv4", "conf", interface, "forwarding") == "0"
    ]
    for interface, prefix in closed:
        says = f"{prefix} is announced, and {interface}, which leads there, does not forward: no answer comes back"
        yield Finding("announced", FAIL, says, f"sysctl -w net.ipv4.conf.{interface}.forwarding=1")
    if leading and not closed:
        yield Finding("announced", OK, "interfaces that lead to announced networks forward")


def check_firewalls(patient: Patient) -> Iterator[Finding]:
    """Whether another program's filter drops what is forwarded from link to link (a container engine's, usually)."""
    ruleset = _ruleset(patient) or []
    dropping = [
        chain
        for item in ruleset
        if (chain := item.get("chain")) and chain.get("hook") == "forward" and chain.get("policy") == "drop"
    ]
    closed = [chain for chain in dropping if chain["table"] != TABLE]
    for chain in closed:
        missing = [link for link in patient.links if not _accepts(ruleset, chain["table"], chain["family"], link)]
        if missing:
            place = f"{chain['family']} {chain['table']} {chain['name']}"
            tool = "ip6tables" if chain["family"] == "ip6" else "iptables"
            commands = "; ".join(f"{tool} -I FORWARD -i {one} -j ACCEPT" for one in missing[:4])
            do = f"{commands} (under Docker -I DOCKER-USER, which it leaves alone)"
            says = f"{place} drops forwarded packets by default, those from {', '.join(missing)} too"
            yield Finding("firewalls", FAIL, says, do)
            return
    yield Finding("firewalls", OK, "no other filter drops what the mesh forwards by default")


def _accepts(ruleset: Sequence[Mapping[str, Any]], table: str, family: str, link: str) -> bool:
    """Whether a rule of that table accepts by this incoming interface alone, or whatever its interface."""
    for item in ruleset:
        rule = item.get("rule")
        if not rule or rule["table"] != table or rule["family"] != family:
            continue
        expressions = [one for one in rule["expr"] if "counter" not in one]
        if not expressions or "accept" not in expressions[-1]:
            continue
        matches = [one["match"] for one in expressions[:-1] if "match" in one]
        named = [one for one in matches if one.get("left") == {"meta": {"key": "iifname"}} and _names(one, link)]
        if len(expressions) == 1 or (len(matches) == len(named) == 1 and len(expressions) == 2):
            return True
    return False


def _names(match: Mapping[str, Any], link: str) -> bool:
    right = match.get("right")
    several = right.get("set", []) if isinstance(right, dict) else [right]
    return match.get("op") in ("==", "in") and any(isinstance(one, str) and fnmatchcase(link, one) for one in several)


def check_managers(patient: Patient) -> Iterator[Finding]:
    """Whether a program runs that takes away routes which it did not make, or makes routes of its own."""
    running = _processes()
    found = False
    if "systemd-networkd" in running and not _networkd_spares_us(patient.root):
        found = True
        yield Finding(
            "managers",
            WARN,
            "systemd-networkd removes routes and nexthops that it did not make when it configures a link",
            "install systemd/networkd.conf.d/10-dmssd.conf in /etc/systemd/networkd.conf.d (ManageForeignRoutes=no)"
            " and restart systemd-networkd",
        )
    managed = [link for link in patient.links if not _nm_spares(patient.root, link)]
    if "NetworkManager" in running and managed:
        found = True
        line = ";".join(f"interface-name:{link}" for link in managed)
        yield Finding(
            "managers",
            WARN,
            f"NetworkManager may manage {', '.join(managed)} and take routes away when it activates an interface anew",
            f"in /etc/NetworkManager/conf.d/10-dmssd.conf, under [keyfile]: unmanaged-devices={line};"
            " then systemctl reload NetworkManager",
        )
    for name in sorted(running.intersection(_ROUTING_DAEMONS)):
        found = True
        do = "have it leave the links of the mesh alone, or announce its prefixes with announce = [...]"
        yield Finding("managers", WARN, f"{name} routes on this machine too", do)
    taken = (patient.status or {}).get("plan", {}).get("taken", 0)
    if taken:
        found = True
        says = (
            f"{taken} routes of dmssd vanished from the kernel and were put back: taken by a program, or a link flapped"
        )
        yield Finding("managers", WARN, says, "ip monitor route shows when; see the managers named here, if any")
    if not found:
        yield Finding("managers", OK, "no program is seen that takes routes away")


def _networkd_spares_us(root: Path) -> bool:
    # Later files win; of files of one name the one in the place named later.
    files: dict[str, Path] = {}
    for place in _NETWORKD_PLACES:
        files |= {file.name: file for file in sorted((root / place).glob("networkd.conf.d/*.conf"))}
    main = [file for place in _NETWORKD_PLACES if (file := root / place / "networkd.conf").exists()]
    value = "yes"
    for file in [*main[-1:], *(files[name] for name in sorted(files))]:
        for line in file.read_text(errors="replace").splitlines():
            key, _, said = line.partition("=")
            if key.strip() == _FOREIGN_ROUTES:
                value = said.strip().lower()
    return value in ("no", "false", "off", "0")


def _nm_spares(root: Path, link: str) -> bool:
    for place in _NM_PLACES:
        for file in sorted((root / place).glob("*.conf")):
            for line in file.read_text(errors="replace").splitlines():
                key, _, said = line.partition("=")
                if key.strip() == "unmanaged-devices" and any(_nm_means(one, link) for one in said.split(";")):
                    return True
    return False


def _nm_means(one: str, link: str) -> bool:
    kind, _, pattern = one.strip().partition(":")
    return kind == "interface-name" and fnmatchcase(link, pattern.removeprefix("="))


def _processes() -> set[str]:
    """Names of the programs that run in this network namespace, as far as this user may know."""
    here = os.stat("/proc/thread-self/ns/net").st_ino
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns/net").stat().st_ino == here:
                    # The kernel cuts a process's name at 15 characters; its program has the whole one.
                    found.add(os.path.basename(os.readlink(entry / "exe")))
            except OSError:
                continue
    return found


def _ruleset(patient: Patient) -> list[dict[str, Any]] | None:
    program = patient.nft or shutil.which("nft") or "/usr/sbin/nft"
    try:
        done = subprocess.run(
            [program, "-j", "list", "ruleset"], capture_output=True, text=True, check=False, timeout=_NFT_TIMEOUT_S
        )
        if done.returncode:
            return None
        found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return None
    return found


def _is_guard(item: Mapping[str, Any]) -> bool:
    chain = item.get("chain")
    return bool(chain and chain["family"] == "inet" and chain["table"] == TABLE and chain.get("hook") == "forward")


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    check_daemon,
    check_identity,
    check_kernel,
    check_sysctls,
    check_links,
    check_port,
    check_permissions,
    check_clock,
    check_guard,
    check_announced,
    check_firewalls,
    check_managers,
)
