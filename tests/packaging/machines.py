"""Machines that a real systemd boots, on a minimal Debian 12, joined by virtual cables; all gone afterwards.

A root directory is made once by debootstrap and kept below the temporary directory (``debian_root``); it holds what the
package depends on, for the machines have no network but the cables. Each machine is that root with an overlay of its
own in memory, in a mount namespace of its own, booted by systemd-nspawn in a network namespace that the test made. The
machines die with the process that made them; what a killed run leaves (namespaces, cgroups) the next one removes.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.netns.kernel import REPOSITORY, Namespaces, require_netns
from tests.netns.mesh import until
from tests.packaging.package import lacking, need

PREFIX = "dmssd-pkg"
"""Of the names of namespaces, cgroups and machines; the process id of the test follows."""

SUITE = "bookworm"
SECONDS = 120.0
"""How long an event on a machine is waited for, where it takes ten seconds at most."""

CGROUPS = tuple(path for path in map(Path, ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")) if path.is_dir()) or (
    Path("/sys/fs/cgroup"),
)
"""Where a machine has a cgroup of its own: with controllers of version 1 there are two, else there is one hierarchy."""

PACKAGES = ("debootstrap", "systemd-container", "iproute2", "iputils-ping")
ALWAYS = ("systemd", "systemd-sysv", "dbus", "procps")

# What a machine is made to be: started from a shell that has moved into cgroups of its own.
LAUNCH = """
set -e
lower=$1 machine=$2 namespace=$3
shift 3
for cgroup in "$@"; do mkdir -p "$cgroup"; echo $$ >"$cgroup/cgroup.procs"; done
mount -t tmpfs -o mode=755 own /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay own -o "lowerdir=$lower,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
echo "${machine##*-}" >/mnt/root/etc/hostname
[ ! -c /dev/net/tun ] || tun=--bind=/dev/net/tun
# Of the kernel's settings a machine may write the network's, as those are its own.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
# No link to journals of this machine, which would take a machine id: in a container there may be none.
exec systemd-nspawn --quiet --link-journal=no --keep-unit --register=no --boot --console=pipe ${tun:-} \
    --directory=/mnt/root --machine="$machine" --network-namespace-path="/run/netns/$namespace" \
    --capability=CAP_NET_ADMIN,CAP_NET_RAW
"""

# systemd-nspawn covers a file with a boot id of the container's own, which is not there for a service that has a /proc
# of its own (ProtectProc=): a machine has one boot id.
ONE_BOOT_ID = "while umount /proc/sys/kernel/random/boot_id 2>/dev/null; do :; done"

# No address of a mirror stays in the root, and nothing that differs between two machines.
FINISH = """
rm -f etc/apt/sources.list etc/resolv.conf etc/machine-id var/lib/dbus/machine-id var/cache/apt/archives/*.deb
rm -rf var/lib/apt/lists/*
: >etc/machine-id
"""


# --- whether there can be machines ----------------------------------------------------------------------------------


def require_machines() -> None:
    """Skip the calling test, or fail it where namespaces are required, unless machines can be booted here."""
    require_netns()
    need(*PACKAGES)
    probe = [path / f"{PREFIX}-{os.getpid()}-probe" for path in CGROUPS]
    try:
        for cgroup in probe:
            cgroup.mkdir()
            cgroup.rmdir()
    except OSError as problem:
        lacking(f"a machine needs a cgroup of its own, which cannot be made: {problem}")


# --- the root that all machines share -------------------------------------------------------------------------------


def depended_on() -> list[str]:
    """The Debian packages that ours depends on or recommends, from its own control file."""
    control = (REPOSITORY / "packaging/deb/debian/control").read_text().partition("\nPackage: dmssd\n")[2]
    fields = re.findall(r"^(?:Depends|Recommends): (.*(?:\n .*)*)", control.partition("\nPackage:")[0], re.MULTILINE)
    words = [word.strip() for field in fields for word in field.split(",")]
    return sorted({word.split()[0] for word in words if word and not word.startswith("$")})


def debian_root() -> Path:
    """A whole root of Debian 12, made now if it is not there yet; nothing may write to it."""
    packages = [*ALWAYS, *depended_on()]
    recipe = hashlib.sha256(repr((SUITE, packages, FINISH)).encode()).hexdigest()[:12]
    kept = Path(os.environ.get("TMPDIR", "/var/tmp"))
    root = kept / f"{PREFIX}-root-{recipe}"
    with (kept / f"{PREFIX}-root.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            # Under another name until it is whole: a broken one is never taken.
            scratch = kept / f"{PREFIX}-root-scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            bootstrap(scratch, packages)
            scratch.rename(root)
    return root


def bootstrap(root: Path, packages: list[str]) -> None:
    """Make a root from the mirror that this machine's apt uses, with apt's proxy and authorities."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = Path(scratch) / "wgetrc"
        settings.write_text("".join(f"{name} = {value}\n" for name, value in fetching().items()))
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, str(root), mirror()]
        done = subprocess.run(
            command,
            env={**os.environ, "WGETRC": str(settings), "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
    if done.returncode:
        raise AssertionError(f"debootstrap: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    subprocess.run(["sh", "-ec", FINISH], cwd=root, check=True)


def mirror() -> str:
    """Where this machine's apt has Debian 12 from."""
    wanted = "$(CODENAME) $(COMPONENT) $(REPO_URI)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = [line.split(" ", 2)[2] for line in listed.stdout.splitlines() if line.startswith(f"{SUITE} main ")]
    if not found:
        lacking(f"apt has no mirror of Debian 12: its sources name no {SUITE} main, or apt-get update was never run")
    if not found[0].startswith("mirror+file:"):
        return found[0]
    # What cloud images have: a file that lists mirrors.
    lines = Path("/" + found[0].removeprefix("mirror+file:").strip("/")).read_text().splitlines()
    return next(line.split()[0] for line in lines if re.match(r"(https?|file):", line))


def fetching() -> dict[str, str]:
    """What apt is told of proxies and authorities, as wget (which debootstrap fetches by) is told it."""
    dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, timeout=60, check=False)
    said = {name.lower(): value for name, value in re.findall(r'^(\S+) "(.*)";$', dump.stdout, re.MULTILINE)}
    told = {f"{scheme}_proxy": said.get(f"acquire::{scheme}::proxy", "") for scheme in ("http", "https")}
    told = {name: value for name, value in told.items() if value and value != "DIRECT"}
    told |= {"use_proxy": "on"} if told else {}
    names = {"cainfo": "ca_certificate", "sslcert": "certificate", "sslkey": "private_key"}
    given = {wget: said.get(f"acquire::https::{apt}", "") for apt, wget in names.items()}
    return told | {wget: value for wget, value in given.items() if value}


# --- machines -------------------------------------------------------------------------------------------------------


class Machine:
    """One booted Debian. ``name`` is its host name and that of its namespace in the test."""

    def __init__(self, name: str, namespace: str, logs: Path) -> None:
        self.name = name
        self.full = f"{PREFIX}-{os.getpid()}-{name}"
        self.console = logs / f"{name}.console"
        self.leader = 0
        self._namespace = namespace
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self, root: Path) -> None:
        """Start it; AssertionError with its console if it does not come up."""
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
        command += ["sh", "-c", LAUNCH, "launch", str(root), self.full, self._namespace]
        command += [str(path / self.full) for path in CGROUPS]
        with self.console.open("wb") as console:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            self.leader = until(self._find_leader, f"{self.name} has a process of its own", SECONDS)
            self.run(ONE_BOOT_ID)
            until(lambda: self.state() in ("running", "degraded"), f"{self.name} has booted", SECONDS)
        except AssertionError as problem:
            raise AssertionError(f"{problem}; its console:\n{self.console.read_text()[-3000:]}") from None

    def _find_leader(self) -> int:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended while it booted"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in map(int, children):
            with contextlib.suppress(OSError):
                ours = os.readlink("/proc/self/ns/pid") == os.readlink(f"/proc/{child}/ns/pid")
                if not ours and Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return child
        return 0

    def state(self) -> str:
        """What its service manager says of the whole."""
        return self.run("systemctl is-system-running", check=False).stdout.strip()

    def entering(self) -> list[str]:
        """The words before a command that is to run in it."""
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return [*enter, "env", "-i", path, "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]

    def run(self, script: str, *, check: bool = True, timeout_s: float = SECONDS) -> "subprocess.CompletedProcess[str]":
        """Run a script as its root; AssertionError with what it said unless it ended well or ``check`` is off."""
        done = subprocess.run(
            [*self.entering(), "bash", "-c", f"cd; {script}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"on {self.name}: {script}\n{done.stdout}{done.stderr}(status {done.returncode})")
        return done

    def path(self, inside: str) -> Path:
        """One of its files, as seen from here."""
        return Path(f"/proc/{self.leader}/root") / inside.lstrip("/")

    def put(self, file: Path, into: str) -> None:
        """Copy a file to it."""
        shutil.copy(file, self.path(into))

    def power_off(self) -> None:
        """End it at once, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
        raze(self.full)


class Flow:
    """Echoes from one namespace to an address, every 20 ms for as long as the context lasts."""

    def __init__(self, spaces: Namespaces, source: str, destination: str, said: Path) -> None:
        self._command = [*spaces.entering(source), "ping", "-n", "-i", "0.02", destination]
        self._said = said

    def __enter__(self) -> "Flow":
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(self._command, stdout=said, stderr=said)
        self._seen = 0
        self.lost()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(60)

    def lost(self) -> list[int]:
        """The numbers of the echoes since the last call that nobody answered, once a later one is answered."""
        last = max(self._answered(), default=0)
        until(lambda: max(self._answered(), default=0) > last, "an echo is answered", SECONDS)
        answered = self._answered()
        missing = sorted(set(range(self._seen + 1, max(answered) + 1)) - answered)
        self._seen = max(answered)
        return missing

    def _answered(self) -> set[int]:
        lines = self._said.read_text(errors="replace")
        return {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=.*\n", lines)}


def raze(name: str) -> None:
    """End every process in the cgroups of that name, and remove them."""
    for cgroup in (path / name for path in CGROUPS):
        for _ in range(100):
            if not cgroup.exists():
                break
            for each in sorted(cgroup.rglob("cgroup.procs"), reverse=True):
                with contextlib.suppress(OSError):
                    for pid in each.read_text().split():
                        os.kill(int(pid), 9)
                with contextlib.suppress(OSError):
                    each.parent.rmdir()
            time.sleep(0.05)


def remove_leftovers() -> None:
    """Take away what runs of which the process is gone have left."""
    pattern = re.compile(rf"{PREFIX}-(\d+)-\w+")
    here = [path.name for place in (Path("/run/netns"), *CGROUPS) if place.is_dir() for path in place.iterdir()]
    for name in sorted(set(here)):
        if (match := pattern.fullmatch(name)) and not Path(f"/proc/{match[1]}").exists():
            raze(name)
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=60)
