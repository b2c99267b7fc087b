"""The package on two machines that a real systemd boots, from apt install to purge, in the order of this file.

    host (eth0) ── (eth1) alpha (eth0) ── (eth0) beta

``host`` is a machine behind alpha that knows nothing of the mesh: alpha announces its network. It is pinged from beta
over programmed routes.
"""

import json
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.netns.kernel import Namespaces
from tests.netns.mesh import REST_S, until
from tests.packaging import machines
from tests.packaging.machines import SECONDS, Flow, Machine
from tests.packaging.package import package

pytestmark = pytest.mark.netns

HIGHER = "0.9.0"
SECURITY_MAX = 2.2
"""What ``systemd-analyze security`` may say of the daemon's exposure, from 0 to 10."""

# Settings as far as any daemon could change them (seeds and counters cannot be read, or differ each time); all of the
# tables, of all tables.
KERNEL = """
find /proc/sys/net/ipv4 /proc/sys/net/ipv6 -type f -perm -200 | sort | while read -r file; do
    echo "$file $(tr '\\n\\t' '  ' <"$file" 2>/dev/null)"
done
ip route show table all proto 201; ip -6 route show table all proto 201; ip nexthop; ip rule; ip -6 rule
ip -oneline -4 address show dev lo; ip -oneline -6 address show dev lo; nft list ruleset
"""

HOST = "192.0.2.10"


@dataclass
class Pair:
    """Two machines and what is between and behind them."""

    spaces: Namespaces
    alpha: Machine
    beta: Machine
    package: Path
    higher: Path
    untouched: dict[str, "Traces"]

    def is_healthy(self) -> None:
        """Wait until both say so of the mesh of two."""
        for machine in self.both:
            until(partial(healthy, machine, 2), f"{machine.name} says that two are up and all is well", SECONDS)

    @property
    def both(self) -> tuple[Machine, Machine]:
        return (self.alpha, self.beta)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    machines.require_machines()
    machines.remove_leftovers()
    with ThreadPoolExecutor() as pool:
        making = pool.submit(machines.debian_root)
        deb, higher = package(), package(version=HIGHER)
        root = making.result()
    logs = tmp_path_factory.mktemp("consoles")
    with Namespaces("alpha", "beta", "host", prefix=machines.PREFIX) as spaces:
        spaces.veth(("alpha", "eth0"), ("beta", "eth0"))
        spaces.veth(("alpha", "eth1"), ("host", "eth0"))
        alpha, beta = (Machine(name, spaces.full(name), logs) for name in ("alpha", "beta"))
        try:
            for machine in (alpha, beta):
                machine.boot(root)
                machine.put(deb, "/root/")
            spaces.ip("alpha", "addr", "add", "192.0.2.1/24", "dev", "eth1")
            # A router's administrator does this, whatever the machine has routed so far.
            spaces.sysctl("alpha", "net/ipv4/conf/eth1/forwarding", "1")
            spaces.ip("host", "addr", "add", f"{HOST}/24", "dev", "eth0")
            spaces.ip("host", "route", "add", "default", "via", "192.0.2.1")
            yield Pair(spaces, alpha, beta, deb, higher, {each.name: Traces.of(each) for each in (alpha, beta)})
        finally:
            for machine in (alpha, beta):
                machine.power_off()


@pytest.fixture(scope="module")
def flow(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """Echoes from beta to the host, through all that happens to the two machines."""
    until(lambda: all(map(at_rest, pair.both)), "the mesh is at rest", SECONDS)
    with Flow(pair.spaces, "beta", HOST, tmp_path_factory.mktemp("flow") / "ping") as flow:
        yield flow


@dataclass(frozen=True)
class Traces:
    """What a machine has that a package could have brought."""

    files: frozenset[str]
    kernel: str

    @classmethod
    def of(cls, machine: Machine) -> "Traces":
        """As it is now, but for what every package leaves: logs, and the records of the package manager."""
        kept = ("/var/log/", "/var/lib/dpkg/", "/var/lib/apt/", "/var/cache/", "/tmp/", "/var/tmp/")
        files = machine.run("find / -xdev -print; find /run/dmssd* 2>/dev/null", check=False).stdout.splitlines()
        ours = {file for file in files if not file.startswith(kept)}
        return cls(frozenset(ours), machine.run(KERNEL).stdout)


def at_rest(machine: Machine) -> bool:
    """Whether all members have been up for so long that a daemon's restart is not their death."""
    members = json.loads(machine.run("dmssd member list --output json", check=False).stdout or "[]")
    return len(members) == 2 and all(each["state"] == "up" and each["since_s"] >= REST_S for each in members)


def configure(machine: Machine, text: str) -> None:
    """Have this in its configuration, and nothing else; it is not told."""
    file = machine.path("/etc/dmssd/dmssd.toml")
    file.write_text(text)


def healthy(machine: Machine, members: int) -> bool:
    """Whether status says that all is well, with so many members."""
    said = machine.run("dmssd status", check=False)
    return said.returncode == 0 and re.search(rf"^members +{members} up$", said.stdout, re.MULTILINE) is not None


def main_process(machine: Machine) -> int:
    """The daemon's process, as its service manager says; 0: none."""
    return int(machine.run("systemctl show --value --property=MainPID dmssd.service").stdout)


def replaced(machine: Machine, process: int) -> bool:
    """Whether the daemon runs as another process than that."""
    return main_process(machine) not in (0, process)


def identity(machine: Machine) -> tuple[str, str]:
    """The daemon's node id and the name of its mesh."""
    said = json.loads(machine.run("dmssd status --output json", check=False).stdout)
    return said["node"], said["mesh"]


def settled(machine: Machine) -> None:
    """Nothing failed, and the daemon runs."""
    assert machine.run("systemctl list-units --failed --plain --no-legend").stdout == ""
    assert machine.run("systemctl is-active dmssd.service dmssd.socket").stdout.split() == ["active", "active"]


def test_apt_install_alone_makes_a_mesh_of_one_that_forwards_nothing(pair: Pair) -> None:
    for machine in pair.both:
        said = machine.run("apt install --yes ./dmssd_*.deb").stdout
        assert "Setting up dmssd" in said
        machine.run("systemctl start dmssd")
        settled(machine)
        assert healthy(machine, 1)
        assert machine.run("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding").stdout.split() == ["0", "0"]
        assert machine.run("ip route show proto 201; ip -6 route show proto 201; ip nexthop").stdout == ""
        assert "0 adjacencies" in machine.run("dmssd status").stdout


def test_a_founder_a_token_and_a_join_make_a_mesh_that_forwards(pair: Pair) -> None:
    links = '[[links]]\nmatch = "eth0"\n'
    configure(pair.alpha, f'announce = ["192.0.2.0/24"]\naddress4 = "10.5.0.1"\n{links}')
    configure(pair.beta, f'address4 = "10.5.0.2"\n{links}')
    for machine in pair.both:
        machine.run("systemctl reload dmssd")
    pair.alpha.run("dmssd init garden")
    token = pair.alpha.run("dmssd token create --ttl 10m").stdout.strip()
    pair.beta.run(f"dmssd join %eth0 --token {token}")
    pair.is_healthy()
    until(lambda: pair.spaces.run("beta", "ping", "-c", "1", "-W", "1", HOST).returncode == 0, "host answers", SECONDS)
    assert "nhid" in pair.beta.run("ip route show proto 201 192.0.2.0/24").stdout


def test_the_journal_tells_what_the_daemon_did(pair: Pair) -> None:
    for machine in pair.both:
        told = machine.run("journalctl --unit=dmssd --output=cat --no-pager").stdout
        assert f"is node {machine.name}" in told
        assert "Traceback" not in told
        # By fields that the daemon gave its lines, not by their text.
        other = pair.beta if machine is pair.alpha else pair.alpha
        asked = f"journalctl --unit=dmssd --output=json DMSSD_KIND=member.up DMSSD_NAME={other.name}"
        found = [json.loads(line) for line in machine.run(asked).stdout.splitlines()]
        assert found
        for each in found:
            assert each["MESSAGE"].startswith("member.up ")
            assert (each["SYSLOG_IDENTIFIER"], each["PRIORITY"], each["_TRANSPORT"]) == ("dmssd", "6", "journal")
            assert each["DMSSD_NODE"] == identity(other)[0]


def test_the_service_is_shut_in_as_far_as_it_can_be(pair: Pair) -> None:
    said = pair.alpha.run("systemd-analyze security --no-pager dmssd.service").stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert exposure is not None
    assert float(exposure[1]) <= SECURITY_MAX, said


def test_the_helper_does_what_root_named_under_its_sandbox_and_nothing_else(pair: Pair) -> None:
    machine = pair.alpha
    said = machine.run("systemd-analyze security --no-pager dmssd-helper@1.service").stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert exposure is not None
    assert float(exposure[1]) <= SECURITY_MAX, said
    policy, unit = machine.path("/etc/dmssd/helper.toml"), machine.path("/etc/systemd/system/app.service")
    as_it_was = policy.read_text()
    unit.write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    machine.run("systemctl daemon-reload; ip netns add blue")
    try:
        for request in ("start('app.service')", "set_cpus('app.service', '0')", "open_netns('blue')"):
            assert "root has not allowed it" in helper_said(machine, request)
        policy.write_text('units = ["app.service"]\ncpusets = ["app.service"]\nnamespaces = ["blue"]\n')
        assert helper_said(machine, "start('app.service')") == "None"
        started = machine.run("systemctl show --value --property=MainPID app.service").stdout
        assert int(started) != 0
        assert helper_said(machine, "restart('app.service')") == "None"
        assert machine.run("systemctl show --value --property=MainPID app.service").stdout not in (started, "0\n")
        assert helper_said(machine, "set_cpus('app.service', '0')") == "None"
        assert machine.run("systemctl show --value --property=AllowedCPUs app.service").stdout == "0\n"
        looked = "[link.name for link in __import__('dmssd.driver.rtnetlink').driver.rtnetlink.links({}.netlink)]"
        assert helper_said(machine, "open_netns('blue')", looked) == "['lo']"
        assert helper_said(machine, "stop('app.service')") == "None"
        assert machine.run("systemctl is-active app.service", check=False).stdout == "inactive\n"
        assert "root has not allowed it" in helper_said(machine, "stop('dmssd.service')")
        # Another user does not even reach the socket.
        assert "Permission denied" in helper_said(machine, "start('app.service')", user="nobody")
    finally:
        policy.write_text(as_it_was)
        machine.run("systemctl stop app.service; ip netns del blue", check=False)
        unit.unlink()
        machine.run("systemctl daemon-reload; rm -rf /run/systemd/system.control/app.service.d")
    settled(machine)


def test_a_daemon_that_is_killed_is_back_and_no_packet_is_lost(pair: Pair, flow: Flow) -> None:
    for machine in pair.both:
        before = main_process(machine)
        machine.run("systemctl kill --signal=KILL dmssd.service")
        until(partial(replaced, machine, before), "another process runs", SECONDS)
        pair.is_healthy()
        assert flow.lost() == []


def test_a_daemon_that_hangs_is_started_afresh_and_no_packet_is_lost(pair: Pair, flow: Flow) -> None:
    machine = pair.alpha
    before = main_process(machine)
    machine.run("systemctl kill --kill-whom=main --signal=STOP dmssd.service")
    until(partial(replaced, machine, before), "the watchdog has another process run", 3 * SECONDS)
    pair.is_healthy()
    assert flow.lost() == []
    assert "Watchdog timeout" in machine.run("journalctl --unit=dmssd --no-pager").stdout


def test_a_client_that_comes_first_starts_the_daemon(pair: Pair, flow: Flow) -> None:
    pair.beta.run("systemctl stop dmssd.service")
    assert main_process(pair.beta) == 0
    pair.beta.run("dmssd member list")
    assert main_process(pair.beta) != 0
    pair.is_healthy()
    assert flow.lost() == []


def test_a_reload_takes_a_good_file_and_refuses_a_bad_one_by_name(pair: Pair, flow: Flow) -> None:
    file = pair.beta.path("/etc/dmssd/dmssd.toml")
    as_it_was, process = file.read_text(), main_process(pair.beta)
    shown, set_now = "dmssd config show | grep hello_interval_ms", "liveness.hello_interval_ms = 500\n"
    file.write_text(f"{as_it_was}\n[liveness]\nhello_interval_ms = 500\n")
    pair.beta.run("systemctl reload dmssd")
    assert pair.beta.run(shown).stdout == set_now
    file.write_text(f'{as_it_was}\n[liveness]\nhello_interval_ms = "often"\n')
    assert pair.beta.run("systemctl reload dmssd", check=False).returncode != 0
    assert "liveness.hello_interval_ms" in pair.beta.run("journalctl --unit=dmssd -n 20 --output=cat").stdout
    assert pair.beta.run(shown).stdout == set_now
    file.write_text(as_it_was)
    pair.beta.run("systemctl reload dmssd")
    assert pair.beta.run(shown).stdout != set_now
    settled(pair.beta)
    assert main_process(pair.beta) == process
    pair.is_healthy()
    assert flow.lost() == []


def test_an_upgrade_keeps_identity_and_mesh_and_loses_no_packet(pair: Pair, flow: Flow) -> None:
    for machine in pair.both:
        changed_to(pair, machine, pair.higher, flow)
        assert f"daemon    {HIGHER}," in machine.run("dmssd status").stdout


def test_a_downgrade_by_one_version_keeps_identity_and_mesh_and_loses_no_packet(pair: Pair, flow: Flow) -> None:
    for machine in pair.both:
        changed_to(pair, machine, pair.package, flow)
        assert f"daemon    {HIGHER}," not in machine.run("dmssd status").stdout


def test_what_is_removed_and_installed_again_is_the_member_it_was(pair: Pair, flow: Flow) -> None:
    before = identity(pair.beta)
    pair.beta.run("apt-get remove --yes dmssd")
    assert left_in_kernel(pair, pair.beta) == []
    assert pair.beta.run("command -v dmssd; pgrep -u dmssd", check=False).stdout == ""
    assert pair.beta.run("systemctl list-units --failed --plain --no-legend").stdout == ""
    assert pair.beta.path("/var/lib/dmssd/identity").exists()
    assert pair.beta.path("/etc/dmssd/dmssd.toml").exists()
    pair.beta.run(f"apt-get install --yes ./{pair.package.name}")
    assert identity(pair.beta) == before
    pair.is_healthy()
    flow.lost()


def test_a_purge_leaves_nothing(pair: Pair) -> None:
    for machine in pair.both:
        machine.run("apt-get purge --yes dmssd")
        assert left_in_kernel(pair, machine) == []
        assert Traces.of(machine).files - pair.untouched[machine.name].files == set()
        assert machine.run("systemctl list-units --failed --plain --no-legend").stdout == ""


def helper_said(machine: Machine, request: str, shown: str = "{}", user: str = "dmssd") -> str:
    """What the helper's client gives back, or its error, to a user with the daemon's capabilities."""
    script = (
        "import sys; sys.path.insert(0, '/usr/lib/dmssd'); sys.dont_write_bytecode = True\n"
        f"from dmssd.driver.helper import Helper\nprint({shown.format('Helper().' + request)})"
    )
    caps = "--inh-caps=-all,+net_admin,+net_raw --ambient-caps=-all,+net_admin,+net_raw"
    who = f"setpriv --reuid={user} --regid=nogroup --clear-groups --no-new-privs {caps}"
    done = machine.run(f"{who} /usr/bin/python3 -IS -c {shlex.quote(script)}", check=False)
    return (done.stdout + done.stderr).strip()


def left_in_kernel(pair: Pair, machine: Machine) -> list[str]:
    """What a machine's kernel has that it had not before the package came."""
    before = pair.untouched[machine.name].kernel.splitlines()
    return [line for line in Traces.of(machine).kernel.splitlines() if line not in before]


def changed_to(pair: Pair, machine: Machine, package: Path, flow: Flow) -> None:
    """Install another version, under an eye on traffic and identity."""
    before = identity(machine)
    machine.put(package, "/var/tmp/")
    machine.run(f"apt-get install --yes --allow-downgrades /var/tmp/{package.name}")
    pair.is_healthy()
    assert flow.lost() == []
    assert identity(machine) == before
    settled(machine)
