"""Links of every kind while the daemons run: VLANs that come, are renamed and go, MTU, numbers, IPv6 alone, radio.

n1 - n2 - n3     n3 has no IPv4 address; n1 calls its link a radio
"""

import os
from collections.abc import Iterator

import pytest

from dmssd.lab import design
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.mesh import dmssd, until

pytestmark = pytest.mark.netns

NAME = f"md{os.getpid()}"
LATE = '\n[[links]]\nmatch = "late*"\nmetric = 5\n'


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.build("line:3", NAME, tp=0) as made:
        for node in made.nodes:
            file = design.node_directory(NAME, node) / "config.toml"
            text = file.read_text() + LATE
            if node == "n3":
                text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("address4"))
            if node == "n1":
                text = text.replace('match = "to-n2"\n', 'match = "to-n2"\nmedium = "radio"\n')
            file.write_text(text)
        made.start_daemons()
        made.wait_ready()
        made.found()
        made.admit_all()
        until(lambda: mesh.all_up(made), "every node sees every other up")
        yield made


def run(lab: Lab, node: str, *argv: str) -> None:
    done = lab.exec(node, argv)
    assert done.returncode == 0, done.stderr


def interfaces(lab: Lab, node: str, neighbour: str) -> set[str]:
    """On which interfaces a node has an adjacency up with a neighbour."""
    rows = lab.client(node).get("status")["neighbours"]
    return {row["interface"] for row in rows if row["name"] == neighbour and row["state"] == "up"}


def media(lab: Lab, node: str) -> dict[str, str]:
    return {row["name"]: row["medium"] for row in lab.client(node).get("status")["links"]}


def test_a_node_without_ipv4_is_reached_over_ipv6_alone(lab: Lab) -> None:
    until(lambda: lab.exec("n1", ["ping", "-c1", "-W1", lab.address6("n3")]).returncode == 0, "n3 answers over IPv6")
    routes = lab.exec("n1", ["ip", "-4", "route", "show", "proto", "201"]).stdout
    assert lab.address4("n2") in routes
    assert lab.address4("n3") not in routes


def second_link(lab: Lab) -> None:
    """A VLAN on the cable of n1 and n2, or another cable where the kernel has no 802.1Q; ``late.7`` at both ends."""
    vlan = ["name", "late.7", "type", "vlan", "id", "7"]
    if lab.exec("n1", ["ip", "link", "add", "link", "to-n2", *vlan]).returncode == 0:
        run(lab, "n2", "ip", "link", "add", "link", "to-n1", *vlan)
    else:
        far = lab.design.node("n2").namespace
        run(lab, "n1", "ip", "link", "add", "late.7", "type", "veth", "peer", "name", "late.7", "netns", far)
    for node in ("n1", "n2"):
        run(lab, node, "ip", "link", "set", "late.7", "up")


def test_a_second_link_of_a_pair_appears_is_renamed_and_vanishes_while_the_daemons_run(lab: Lab) -> None:
    second_link(lab)
    until(lambda: interfaces(lab, "n1", "n2") == {"to-n2", "late.7"}, "there is a second adjacency")
    run(lab, "n1", "sh", "-c", "ip link set late.7 down; ip link set late.7 name late.8; ip link set late.8 up")
    until(lambda: interfaces(lab, "n1", "n2") == {"to-n2", "late.8"}, "there is under its new name")
    run(lab, "n1", "ip", "link", "del", "late.8")
    until(lambda: interfaces(lab, "n1", "n2") == {"to-n2"}, "it is gone")
    until(lambda: interfaces(lab, "n2", "n1") == {"to-n1"}, "the far end has lost it too")
    lab.exec("n2", ["ip", "link", "del", "late.7"])
    assert lab.exec("n1", ["ping", "-c1", "-W1", lab.address6("n3")]).returncode == 0


def test_two_ends_of_different_mtu_are_told_at_both_with_what_to_type(lab: Lab) -> None:
    run(lab, "n2", "ip", "link", "set", "to-n3", "mtu", "1400")
    told = {"n2": "the MTU of to-n3 is 1400 here and 1500 at n3", "n3": "the MTU of to-n2 is 1500 here and 1400 at n2"}
    for node, words in told.items():
        until(lambda n=node, w=words: w in dmssd(lab, n, "status").stdout, f"{node} tells")  # type: ignore[misc]
    assert interfaces(lab, "n2", "n3") == {"to-n3"}, "and the link did not flap for it"
    run(lab, "n2", "ip", "link", "set", "to-n3", "mtu", "1500")
    until(lambda: "MTU" not in dmssd(lab, "n3", "status").stdout, "nothing is told when both are alike")


def test_a_numbered_link_keeps_its_addresses_and_its_network_to_itself(lab: Lab) -> None:
    run(lab, "n1", "ip", "addr", "add", "192.168.9.1/24", "dev", "to-n2")
    run(lab, "n2", "ip", "addr", "add", "192.168.9.2/24", "dev", "to-n1")
    assert lab.exec("n1", ["ping", "-c1", "-W2", "192.168.9.2"]).returncode == 0
    until(lambda: lab.exec("n1", ["ping", "-c1", "-W1", lab.address4("n2")]).returncode == 0, "the mesh goes on")
    assert "192.168.9" not in lab.exec("n3", ["ip", "-4", "route"]).stdout


def test_a_link_called_a_radio_is_one_here_and_a_wire_at_the_other_end(lab: Lab) -> None:
    media = {
        node: {row["name"]: row["medium"] for row in lab.client(node).get("status")["links"]} for node in lab.nodes
    }
    assert media["n1"] == {"to-n2": "radio"}
    assert media["n2"] == {"to-n1": "wire", "to-n3": "wire"}
