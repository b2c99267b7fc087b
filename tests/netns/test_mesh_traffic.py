"""Drain, live metrics, a gateway and a contested address, by the command line and in the kernel's tables.

n1 - n2
 |    |
n4 - n3 ── wan0 ── out     out is no member: n3 is the gateway to it
"""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dmssd.lab import design
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from routing.lsa import METRIC_MAX
from tests.netns import mesh
from tests.netns.kernel import Namespaces, ip
from tests.netns.mesh import Arc, arcs, dmssd, routes_become, until

pytestmark = pytest.mark.netns

NAME = f"tr{os.getpid()}"


@pytest.fixture(scope="module")
def ring() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("ring:4", NAME, tp=1) as lab:
        yield lab


@pytest.fixture
def lab(ring: Lab) -> Iterator[Lab]:
    """Everybody up by the routes of the whole, and nothing configured beside; again afterwards."""
    until(lambda: mesh.all_up(ring), "every node sees every other up")
    routes_become(ring, arcs(ring))
    yield ring
    for node in ring.nodes:
        for file in (design.node_directory(NAME, node) / "conf.d").glob("*.toml"):
            file.unlink()
            ring.restart(node)


def configure(lab: Lab, node: str, text: str) -> None:
    drop_in = design.node_directory(NAME, node) / "conf.d"
    drop_in.mkdir(exist_ok=True)
    (drop_in / "more.toml").write_text(text)
    lab.restart(node)
    until(lambda: mesh.all_up(lab), "every node sees every other up")


def costing(edges: list[Arc], metric: int, *pairs: tuple[str, str]) -> list[Arc]:
    return [replace(arc, metric=metric) if (arc.near, arc.far) in pairs else arc for arc in edges]


def test_a_drained_node_carries_nothing_for_others_answers_itself_and_comes_back(lab: Lab) -> None:
    edges = arcs(lab)
    assert dmssd(lab, "n2", "node", "drain").returncode == 0
    around = [replace(arc, metric=METRIC_MAX) if arc.near == "n2" else arc for arc in edges]
    assert {far for _, far in mesh.expected(around, "n1")["n3"]} == {"n4"}
    routes_become(lab, around)
    mesh.everybody_pings(lab)
    assert "this node is draining" in dmssd(lab, "n2", "status").stdout
    assert "draining" in dmssd(lab, "n4", "network", "global").stdout
    lab.restart("n2")
    until(lambda: mesh.all_up(lab), "every node sees every other up")
    routes_become(lab, around)
    assert dmssd(lab, "n2", "node", "undrain").returncode == 0
    routes_become(lab, edges)
    assert "draining" not in dmssd(lab, "n2", "status").stdout


def test_a_metric_set_by_name_moves_routes_at_both_ends_until_it_is_taken_back(lab: Lab) -> None:
    edges = arcs(lab)
    done = dmssd(lab, lab.design.founder, "network", "set", "n2-n3", "metric", "500")
    assert done.returncode == 0, done.stderr
    dear = costing(edges, 500, ("n2", "n3"), ("n3", "n2"))
    assert mesh.expected(dear, "n2")["n3"] == {("to-n1", "n1")}
    routes_become(lab, dear)
    assert dmssd(lab, lab.design.founder, "network", "set", "n2-n3", "metric", "configured").returncode == 0
    routes_become(lab, edges)


def test_a_metric_of_others_links_is_refused_to_who_is_no_admin_and_to_who_errs(lab: Lab) -> None:
    asker = lab.design.admissions[-1].node  # the first three members are admins, and it is the fourth
    beside = {arc.far for arc in arcs(lab) if arc.near == asker}
    (opposite,) = set(lab.nodes) - beside - {asker}
    done = dmssd(lab, asker, "network", "set", f"{min(beside)}-{opposite}", "metric", "500")
    assert done.returncode == 1
    assert "admin capability" in done.stderr
    wrong = ((f"{asker}-{opposite}", "are not adjacent"), ("n2", "is no link"), ("n2-nobody", "called 'nobody'"))
    for link, says in wrong:
        done = dmssd(lab, asker, "network", "set", link, "metric", "5")
        assert done.returncode == 1
        assert says in mesh.only_line(done.stderr)
    routes_become(lab, arcs(lab))


def test_an_address_that_two_members_announce_is_a_conflict_that_everybody_is_shown(lab: Lab) -> None:
    configure(lab, "n4", f'announce = ["{lab.address4("n2")}"]')
    for node, names in (("n3", "n2, n4"), ("n2", "this node, n4")):
        sentence = f"address {lab.address4('n2')} is announced by"

        def shown(node: str = node, sentence: str = sentence) -> str:
            return next((line for line in dmssd(lab, node, "status").stdout.splitlines() if sentence in line), "")

        line = until(shown, f"{node} says so")
        assert set(names.split(", ")) == set(line.split("announced by ")[1].split(":")[0].split(", "))


def test_a_measured_link_that_loses_echoes_costs_more_than_one_that_does_not(lab: Lab) -> None:
    chain = 'add table netdev k; add chain netdev k in { type filter hook ingress device "to-n2" priority 0; }'
    lossy = "add rule netdev k in icmpv6 type echo-reply numgen random mod 100 < 60 drop"
    assert lab.exec("n1", ["nft", f"{chain}; {lossy}"]).returncode == 0
    try:
        liveness = "[liveness]\necho_interval_ms = 20\necho_misses = 20"
        configure(lab, "n1", f'{liveness}\n[[links]]\nmatch = "to-*"\nmetric = "measured"')

        def metrics() -> dict[str, int]:
            return {row["name"]: row["metric"] for row in lab.client("n1").get("status")["neighbours"]}

        until(lambda: metrics()["n2"] > metrics()["n4"] >= 10, "the lossy link costs more")
    finally:
        assert lab.exec("n1", ["nft", "delete table netdev k"]).returncode == 0


def test_a_gateway_leads_the_mesh_out_and_nobody_in(lab: Lab) -> None:
    with Namespaces("out") as spaces:
        n3 = lab.design.node("n3").namespace
        spaces.ip("out", "link", "add", "up0", "type", "veth", "peer", "name", "wan0", "netns", n3)
        spaces.ip("out", "addr", "add", "192.0.2.9/24", "dev", "up0")
        spaces.ip("out", "link", "set", "up0", "up")
        spaces.ip("out", "route", "add", "10.5.0.0/24", "via", "192.0.2.1")
        for command in (
            ["addr", "add", "192.0.2.1/24", "dev", "wan0"],
            ["link", "set", "wan0", "up"],
            ["route", "add", "default", "via", "192.0.2.9"],
        ):
            ip("-n", n3, *command)
        assert lab.exec("n3", ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).returncode == 0
        configure(lab, "n3", "[gateway]\npreference = 7\nipv6 = false")

        def answers(source: str) -> bool:
            done = lab.exec(source, ["ping", "-n", "-q", "-c", "1", "-W", "1", "203.0.113.1"])
            return done.returncode == 0

        spaces.ip("out", "addr", "add", "203.0.113.1/32", "dev", "lo")
        until(lambda: answers("n1") and answers("n2"), "nodes reach an address outside by the gateway")
        assert spaces.run("out", "ping", "-n", "-q", "-c", "1", "-W", "1", lab.address4("n1")).returncode != 0
        assert "gateway 7" in dmssd(lab, "n1", "network", "global").stdout
        configure(lab, "n1", '[routes]\ndeny = ["default"]')
        until(lambda: not answers("n1") and answers("n2"), "the node that denies default routes has none")
        assert "1 announced prefix is kept out" in dmssd(lab, "n1", "status").stdout
