"""A board that forwards for the mesh is no router for anybody else.

out ── lan0 ─┐
             n1 ═════ n2        out and far are no members; n1 has IPv4 forwarding on for all interfaces, as a
far ── lan1 ─┘                  container engine would have it; n2 knows the way back to both
"""

import os
from collections.abc import Iterator

import pytest

from dmssd.lab import design
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.kernel import Namespaces, ip
from tests.netns.mesh import dmssd, until

pytestmark = pytest.mark.netns

NAME = f"gd{os.getpid()}"
NETWORKS = {"out": ("lan0", "192.0.2", "fd09::"), "far": ("lan1", "198.51.100", "fd0a::")}


@pytest.fixture(scope="module")
def outside() -> Iterator[tuple[Lab, Namespaces]]:
    mesh.require_lab()
    take_down(NAME)
    with Namespaces("out", "far") as spaces, Lab.build("line:2", NAME, tp=1) as lab:
        for host, (interface, four, six) in NETWORKS.items():
            _plug(lab, spaces, host, interface, four, six)
        lab.start_daemons()
        lab.wait_ready()
        lab.found()
        lab.admit_all()
        lab.wait_converged()
        assert lab.exec("n1", ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).returncode == 0
        gateway = mesh.link_local(lab, "n1", "to-n2")
        for _, four, six in NETWORKS.values():
            back = ["via", "inet6", gateway, "dev", "to-n1"]
            assert lab.exec("n2", ["ip", "route", "add", f"{four}.0/24", *back]).returncode == 0
            assert lab.exec("n2", ["ip", "-6", "route", "add", f"{six}/64", *back[:1], *back[2:]]).returncode == 0
        yield lab, spaces


def _plug(lab: Lab, spaces: Namespaces, host: str, interface: str, four: str, six: str) -> None:
    node = lab.design.node("n1").namespace
    peer = ["type", "veth", "peer", "name", interface, "netns", node]
    spaces.ip(host, "link", "add", "up0", *peer)
    for command in (
        ["-n", node, "addr", "add", f"{four}.1/24", "dev", interface],
        ["-n", node, "addr", "add", f"{six}1/64", "dev", interface, "nodad"],
        ["-n", node, "link", "set", interface, "up"],
    ):
        ip(*command)
    spaces.ip(host, "addr", "add", f"{four}.2/24", "dev", "up0")
    spaces.ip(host, "addr", "add", f"{six}2/64", "dev", "up0", "nodad")
    spaces.ip(host, "link", "set", "up0", "up")
    spaces.ip(host, "route", "add", "default", "via", f"{four}.1")
    spaces.ip(host, "-6", "route", "add", "default", "via", f"{six}1")


@pytest.fixture
def lab(outside: tuple[Lab, Namespaces]) -> Iterator[Lab]:
    """Both daemons run as the lab configured them, before and after."""
    made, _ = outside
    until(lambda: mesh.all_up(made), "both nodes see each other up")
    made.wait_converged()
    yield made
    for file in (design.node_directory(NAME, "n1") / "conf.d").glob("*.toml"):
        file.unlink()
        made.stop_daemons(["n1"])
    made.start_daemons()
    made.wait_ready()


@pytest.fixture
def spaces(outside: tuple[Lab, Namespaces]) -> Namespaces:
    return outside[1]


def configure(lab: Lab, text: str) -> None:
    """Restart n1 with more configuration."""
    drop_in = design.node_directory(NAME, "n1") / "conf.d"
    drop_in.mkdir(exist_ok=True)
    (drop_in / "more.toml").write_text(text)
    lab.restart("n1")
    until(lambda: mesh.all_up(lab), "both nodes see each other up")


def answers(spaces: Namespaces, host: str, address: str) -> bool:
    return spaces.run(host, "ping", "-n", "-q", "-c", "1", "-W", "0.5", address).returncode == 0


def reaches_n2(lab: Lab, spaces: Namespaces, host: str) -> list[bool]:
    """Whether n2 answers a host outside, over IPv4 and IPv6."""
    return [answers(spaces, host, mesh.address(lab, "n2", family)) for family in mesh.FAMILIES]


def has_table(lab: Lab) -> bool:
    return lab.exec("n1", ["nft", "list", "table", "inet", "dmssd"]).returncode == 0


def test_a_host_outside_gets_nothing_through_a_board_and_the_board_itself_answers_it(
    lab: Lab, spaces: Namespaces
) -> None:
    assert answers(spaces, "out", "192.0.2.1")
    assert answers(spaces, "out", "fd09::1")
    assert reaches_n2(lab, spaces, "out") == [False, False]
    assert mesh.pings(lab, "n1", "n2")


def test_nothing_gets_out_of_the_mesh_through_a_board_that_announces_nothing(lab: Lab, spaces: Namespaces) -> None:
    for address in ("192.0.2.2", "fd09::2"):
        assert lab.exec("n2", ["ping", "-n", "-q", "-c", "1", "-W", "0.5", address]).returncode != 0


def test_forwarding_that_another_program_switched_on_goes_on_and_ipv6_that_nobody_else_did_stays_shut(
    lab: Lab, spaces: Namespaces
) -> None:
    assert answers(spaces, "out", "198.51.100.2")
    assert not answers(spaces, "out", "fd0a::2")
    configure(lab, 'guard = "links"')
    assert answers(spaces, "out", "198.51.100.2")
    assert answers(spaces, "out", "fd0a::2")
    assert reaches_n2(lab, spaces, "out") == [False, False]


def test_ipv6_that_somebody_else_switches_on_before_there_is_a_link_stays_open_when_one_comes() -> None:
    """A machine on which the package was installed and no link was named, and then a container engine."""
    name = f"{NAME}o"
    mesh.require_lab()
    take_down(name)
    with Namespaces("out", "far", prefix="dmssd-others") as spaces, Lab.build("line:2", name, tp=0) as lab:
        for host, (interface, four, six) in NETWORKS.items():
            _plug(lab, spaces, host, interface, four, six)
        file = design.node_directory(name, "n1") / "config.toml"
        whole = file.read_text()
        file.write_text(whole.replace('"to-n2"', '"later"'))
        assert file.read_text() != whole
        lab.start_daemons(["n1"])
        lab.wait_ready(["n1"])
        assert lab.exec("n1", ["cat", "/proc/sys/net/ipv6/conf/all/forwarding"]).stdout == "0\n"
        assert lab.exec("n1", ["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"]).returncode == 0
        until(lambda: answers(spaces, "out", "fd0a::2"), "they reach each other")
        file.write_text(whole)
        assert dmssd(lab, "n1", "config", "reload").returncode == 0
        until(lambda: "to-n2" in lab.exec("n1", ["nft", "list", "ruleset"]).stdout, "the guard knows the link")
        assert answers(spaces, "out", "fd0a::2")
        lab.restart("n1")
        assert answers(spaces, "out", "fd0a::2")


@pytest.mark.parametrize("how", ["flush ruleset", "delete table inet dmssd", "flush chain inet dmssd forward"])
def test_a_guard_that_somebody_takes_away_is_put_back(lab: Lab, spaces: Namespaces, how: str) -> None:
    before = lab.exec("n1", ["nft", "-s", "list", "table", "inet", "dmssd"]).stdout
    assert "iifname @links oifname @links accept" in before
    assert lab.exec("n1", ["nft", how]).returncode == 0
    until(lambda: lab.exec("n1", ["nft", "-s", "list", "table", "inet", "dmssd"]).stdout == before, "the table is back")
    assert reaches_n2(lab, spaces, "out") == [False, False]
    assert lab.client("n1").get("guard")["restored"] >= 1


def test_the_guard_outlives_the_daemon_and_goes_by_an_explicit_command_only(lab: Lab, spaces: Namespaces) -> None:
    refusal = dmssd(lab, "n1", "guard", "remove")
    assert refusal.returncode == 1
    assert "the daemon runs" in refusal.stderr
    lab.stop_daemons(["n1"])
    assert has_table(lab)
    assert reaches_n2(lab, spaces, "out") == [False, False]
    command = ["-m", "dmssd", "--socket", "/nowhere/dmssd.sock", "guard", "remove"]
    done = lab.exec("n1", [mesh.sys.executable, *command])
    assert done.returncode == 0, done.stderr
    assert not has_table(lab)
    # What the other tests find shut is open without it.
    assert reaches_n2(lab, spaces, "out") == [True, True]


def test_an_announced_prefix_is_reached_through_its_interface_and_nothing_else_is(lab: Lab, spaces: Namespaces) -> None:
    configure(lab, 'announce = ["192.0.2.0/24", "fd09::/64"]')
    lab.exec("n2", ["ip", "route", "del", "192.0.2.0/24"])
    lab.exec("n2", ["ip", "-6", "route", "del", "fd09::/64"])

    def routed() -> bool:
        shown = [lab.exec("n2", ["ip", f, "route", "show", "proto", "201"]).stdout for f in ("-4", "-6")]
        return "192.0.2.0/24" in shown[0] and "fd09::/64" in shown[1]

    until(routed, "n2 has the plan's routes to the announced prefixes")
    until(lambda: reaches_n2(lab, spaces, "out") == [True, True], "n2 answers a host of the prefix")
    assert reaches_n2(lab, spaces, "far") == [False, False]
    assert "192.0.2.0/24" in dmssd(lab, "n2", "route", "list").stdout
