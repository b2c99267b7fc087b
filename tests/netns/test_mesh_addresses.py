"""Addresses that nobody configured: real daemons draw their own, keep them, and move where they must.

    n1 (founder) - n2 - n3

No node has an address in its configuration; all draw IPv4 from one pool and IPv6 from the mesh's ULA.
"""

import ipaddress
import os
import re
from collections.abc import Iterator

import pytest

from dmssd.lab.design import node_directory
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from routing.claims import ula_of
from sansio.ids import MeshId
from tests.netns import mesh
from tests.netns.mesh import dmssd, ip_json, until

pytestmark = pytest.mark.netns

NAME = f"ka{os.getpid()}"
POOL = ipaddress.ip_network("10.77.0.0/24")


def configure(lab: Lab, node: str, **settings: str) -> None:
    """Rewrite a node's addresses: none, but for ``settings``."""
    file = node_directory(lab.name, node) / "config.toml"
    text = re.sub(r"^address[46] = .*\n", "", file.read_text(), flags=re.MULTILINE)
    text = re.sub(r"^pool4 = .*\n", "", text, flags=re.MULTILINE)
    text = text.replace("[mesh]\n", f'[mesh]\npool4 = "{POOL}"\n')
    file.write_text("".join(f'{key} = "{value}"\n' for key, value in settings.items()) + text)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.build("line:3", NAME, tp=0) as lab:
        for node in lab.nodes:
            configure(lab, node)
        lab.start_daemons()
        lab.wait_ready()
        lab.found()
        lab.admit_all()
        yield lab


def held(lab: Lab, node: str) -> dict[int, str]:
    """The addresses that a node's kernel has on lo, beside the loopback's own: one of each family at most."""
    found: dict[int, str] = {}
    for entry in ip_json(lab, node, "addr", "show", "dev", "lo"):
        for each in entry["addr_info"]:
            if each["scope"] == "global":
                assert (4 if each["family"] == "inet" else 6) not in found
                found[4 if each["family"] == "inet" else 6] = each["local"]
    return found


def drawn(lab: Lab) -> dict[str, dict[int, str]]:
    """Wait until every node has an address of each family, and all know all routes."""

    def complete() -> dict[str, dict[int, str]] | None:
        every = {node: held(lab, node) for node in lab.nodes}
        return every if all(len(addresses) == 2 for addresses in every.values()) else None

    return until(complete, "every node has an address of each family")


def reaches(lab: Lab, source: str, address: str) -> bool:
    return lab.exec(source, ["ping", "-n", "-q", "-c", "1", "-W", "1", address]).returncode == 0


def test_nodes_without_configured_addresses_draw_their_own_and_reach_one_another(lab: Lab) -> None:
    every = drawn(lab)
    assert len({address for addresses in every.values() for address in addresses.values()}) == 6
    ula = ipaddress.IPv6Address(ula_of(MeshId(bytes.fromhex(lab.client("n1").get("status")["mesh"]))))
    for addresses in every.values():
        assert ipaddress.ip_address(addresses[4]) in POOL
        assert ipaddress.ip_address(addresses[6]) in ipaddress.ip_network(f"{ula}/48")
    for family in (4, 6):
        until(lambda family=family: reaches(lab, "n1", every["n3"][family]), f"n1 reaches n3 over IPv{family}")
    done = dmssd(lab, "n1", "trace", "n3")
    assert done.returncode == 0, done.stderr


def test_everybody_tells_the_same_addresses(lab: Lab) -> None:
    every = drawn(lab)
    told = until(
        lambda: len(set(map(str, rows := [lab.client(node).get("addresses") for node in lab.nodes]))) == 1 and rows[0],
        "all nodes tell the same claims",
    )
    assert [(row["name"], row["family"]) for row in told] == [(n, f) for n in ("n1", "n2", "n3") for f in (4, 6)]
    assert all(row["holds"] and not row["configured"] for row in told)
    done = dmssd(lab, "n2", "member", "addresses")
    assert done.returncode == 0
    for addresses in every.values():
        assert f"{addresses[4]}/32" in done.stdout


def test_an_address_outlives_the_daemon(lab: Lab) -> None:
    before = drawn(lab)
    lab.kill("n2")
    assert held(lab, "n2") == before["n2"], "fail static: the kernel keeps it"
    lab.restart("n2")
    until(lambda: mesh.states(lab, "n1").get("n2") == "up", "n2 is back")
    assert drawn(lab) == before


def test_an_address_in_a_network_that_the_machine_joins_is_given_up_for_another(lab: Lab) -> None:
    before = drawn(lab)["n3"][4]
    # As if a second network card got an address by DHCP in the very same network.
    near = ipaddress.ip_network(f"{before}/30", strict=False)
    assert lab.exec("n3", ["ip", "link", "add", "uplink", "type", "bridge"]).returncode == 0
    assert lab.exec("n3", ["ip", "link", "set", "uplink", "up"]).returncode == 0
    own = next(str(host) for host in near.hosts() if str(host) != before)
    assert lab.exec("n3", ["ip", "addr", "add", f"{own}/30", "dev", "uplink"]).returncode == 0
    after = until(lambda: (now := held(lab, "n3").get(4)) not in (None, before) and now, "n3 has another address")
    assert ipaddress.ip_address(after) in POOL
    assert ipaddress.ip_address(after) not in near
    until(lambda: reaches(lab, "n1", after), "n1 reaches n3 by its new address")
    until(lambda: not reaches(lab, "n1", before), "the old address is nobody's")


def test_a_configured_address_of_two_nodes_is_said_in_status(lab: Lab) -> None:
    for node in ("n2", "n3"):
        configure(lab, node, address4="10.88.0.1")
        lab.kill(node)
        lab.restart(node)
    mistake = "address 10.88.0.1 is announced by n"
    until(lambda: mistake in str(lab.client("n1").get("status")["reasons"]), "n1 tells that n2 and n3 have one address")
    configure(lab, "n3")
    lab.kill("n3")
    lab.restart("n3")
    until(lambda: not lab.client("n1").get("status")["reasons"], "the mistake is mended")


def test_a_node_that_leaves_gives_its_addresses_back(lab: Lab) -> None:
    drawn(lab)
    until(lambda: len(lab.client("n1").get("addresses")) == 6, "all claims are known")
    assert dmssd(lab, "n3", "leave").returncode == 0
    until(lambda: {row["name"] for row in lab.client("n1").get("addresses")} == {"n1", "n2"}, "n3 claims nothing")
