"""The package on two machines that a real systemd boots, from apt install to purge, in the order of this file.

    host (eth0) ── (eth1) alpha (eth0) ── (eth0) beta

``host`` is a machine behind alpha that knows nothing of the mesh: alpha announces its network. It is pinged from beta
over programmed routes.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.netns.kernel import Namespaces
from tests.netns.mesh import until
from tests.packaging import machines
from tests.packaging.machines import SECONDS, Machine
from tests.packaging.package import package

pytestmark = pytest.mark.netns

HIGHER = "0.9.0"
HOST = "192.0.2.10"


@dataclass
class Pair:
    """Two machines and what is between and behind them."""

    spaces: Namespaces
    alpha: Machine
    beta: Machine
    package: Path
    higher: Path

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
            yield Pair(spaces, alpha, beta, deb, higher)
        finally:
            for machine in (alpha, beta):
                machine.power_off()


def configure(machine: Machine, text: str) -> None:
    """Have this in its configuration, and nothing else; it is not told."""
    file = machine.path("/etc/dmssd/dmssd.toml")
    file.write_text(text)


def healthy(machine: Machine, members: int) -> bool:
    """Whether status says that all is well, with so many members."""
    said = machine.run("dmssd status", check=False)
    return said.returncode == 0 and re.search(rf"^members +{members} up$", said.stdout, re.MULTILINE) is not None


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
    for machine in pair.both:
        until(partial(healthy, machine, 2), f"{machine.name} says that two are up", SECONDS)
    until(lambda: pair.spaces.run("beta", "ping", "-c", "1", "-W", "1", HOST).returncode == 0, "host answers", SECONDS)
    assert "nhid" in pair.beta.run("ip route show proto 201 192.0.2.0/24").stdout


def test_the_journal_tells_what_the_daemon_did(pair: Pair) -> None:
    for machine in pair.both:
        told = machine.run("journalctl --unit=dmssd --output=cat --no-pager").stdout
        assert f"is node {machine.name}" in told
        assert "Traceback" not in told
