"""What real daemons tell a monitoring system, on the admin socket and over TCP, against the page that documents it.

n1 - n2 - n3     n2 is scraped over TCP at its own address in the mesh; on n3 somebody has the port already
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from dmssd.lab import design
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.kernel import REPOSITORY
from tests.netns.mesh import dmssd, until

pytestmark = pytest.mark.netns

NAME = f"mm{os.getpid()}"
PORT = 9747
ROW = re.compile(r"^\| `(dmssd_\w+)` \| (\w+) \| (.*?) \| (\w+) \| (.+) \|$", re.MULTILINE)
UNITS = ("seconds", "bytes")
FETCH = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=10)
connection.request("GET", sys.argv[3])
answer = connection.getresponse()
print(answer.status, answer.getheader("Content-Type"), answer.read().decode(), sep="\\n")
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.build("line:3", NAME, tp=1) as made:
        for node in ("n2", "n3"):
            file = design.node_directory(NAME, node) / "config.toml"
            address = made.address4(node) if node == "n2" else "127.0.0.1"
            file.write_text(f'{file.read_text()}\n[metrics]\nlisten = "{address}:{PORT}"\n')
        hold = "import socket; s = socket.create_server(('127.0.0.1', int(__import__('sys').argv[1]))); input()"
        holder = made.exec_argv("n3", [sys.executable, "-c", hold, str(PORT)])
        with subprocess.Popen(holder, stdin=subprocess.PIPE) as other:
            until(lambda: f":{PORT}" in made.exec("n3", ["ss", "-ltn"]).stdout, "the port is taken")
            made.start_daemons()
            made.wait_ready()
            made.found()
            made.admit_all()
            until(lambda: mesh.all_up(made), "every node sees every other up")
            mesh.everybody_pings(made)
            yield made
            other.stdin.close()


def metrics(text: str) -> dict[str, Metric]:
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in text_string_to_metric_families(text)
    }


def asked(lab: Lab, node: str) -> dict[str, Metric]:
    return metrics(lab.client(node).metrics())


def value(lab: Lab, node: str, name: str, **labels: str) -> float:
    [found] = [sample.value for sample in asked(lab, node)[name].samples if sample.labels == labels]
    return float(found)


def documented() -> dict[str, tuple[str, ...]]:
    text = (REPOSITORY / "docs" / "operating" / "monitoring.md").read_text()
    return {name: (type_, labels, unit, meaning) for name, type_, labels, unit, meaning in ROW.findall(text)}


def test_the_page_documents_what_a_daemon_tells_and_nothing_else(lab: Lab) -> None:
    page, real = documented(), asked(lab, "n2")
    assert page.keys() == real.keys()
    for name, family in real.items():
        type_, labels, unit, meaning = page[name]
        assert type_ == family.type, name
        assert meaning.startswith(family.documentation), name
        shown = {label for sample in family.samples for label in sample.labels if label != "le"}
        assert not shown or shown == set(re.findall(r"`(\w+)`", labels)), name
        stem = name.removesuffix("_total")
        assert unit == next((each for each in UNITS if stem.endswith(each)), "1"), name


def test_every_state_kind_and_family_that_is_told_is_explained(lab: Lab) -> None:
    text = (REPOSITORY / "docs" / "operating" / "monitoring.md").read_text()
    bounded = {"state", "family", "kind", "channel"}
    for name, family in asked(lab, "n2").items():
        for sample in family.samples if name != "dmssd_events_total" else ():
            for label in bounded & sample.labels.keys():
                assert f"`{sample.labels[label]}`" in text, (name, sample.labels)


def test_what_is_told_is_what_the_kernel_and_the_others_say(lab: Lab) -> None:
    for node in lab.nodes:
        assert value(lab, node, "dmssd_members", state="up") == len(lab.nodes)
        for family, option in (("ipv4", "-4"), ("ipv6", "-6")):
            held = mesh.ip_json(lab, node, option, "route", "show", "proto", "201")
            until(
                lambda node=node, family=family, held=held: (
                    value(lab, node, "dmssd_routes_programmed", family=family) == len(held)
                ),
                f"{node} tells of {len(held)} {family} routes",
            )
    assert value(lab, "n2", "dmssd_link_up", interface="to-n1") == 1
    assert value(lab, "n2", "dmssd_adjacencies", interface="to-n1", state="up") == 1
    for name in ("dmssd_disk_writes_total", "dmssd_fib_reads_total", "dmssd_cpu_seconds_total", "dmssd_open_fds"):
        assert value(lab, "n2", name) > 0
    for family in ("ipv4", "ipv6", "nexthop"):
        assert value(lab, "n2", "dmssd_fib_operations_total", family=family) > 0
        assert value(lab, "n2", "dmssd_fib_refused_total", family=family) == 0
    for kind in ("greeting", "handshake", "sealed", "echo"):
        for direction in ("sent", "received"):
            datagrams = value(lab, "n2", f"dmssd_{direction}_datagrams_total", kind=kind)
            assert value(lab, "n2", f"dmssd_{direction}_bytes_total", kind=kind) > datagrams > 0
    woken = {sample.name: sample.value for sample in asked(lab, "n2")["dmssd_loop_lag_seconds"].samples}
    assert woken["dmssd_loop_lag_seconds_count"] > 0
    assert woken["dmssd_loop_lag_seconds_sum"] > 0
    assert value(lab, "n2", "dmssd_resident_memory_bytes") > 1 << 20
    assert value(lab, "n2", "dmssd_guard_up") == 1


def test_counters_follow_what_happens(lab: Lab) -> None:
    def read(name: str, **labels: str) -> float:
        return value(lab, "n2", name, **labels)

    echoes, reads = read("dmssd_received_datagrams_total", kind="echo"), read("dmssd_fib_reads_total")
    restored, taken = read("dmssd_guard_restored_total"), read("dmssd_routes_taken_total")
    until(lambda: read("dmssd_received_datagrams_total", kind="echo") > echoes, "echoes go on")
    assert lab.exec("n2", ["nft", "delete", "table", "inet", "dmssd"]).returncode == 0
    until(lambda: read("dmssd_guard_restored_total") > restored, "the guard is put back")
    assert lab.exec("n2", ["ip", "route", "flush", "proto", "201"]).returncode == 0
    until(lambda: read("dmssd_routes_taken_total") > taken, "routes were taken")
    assert read("dmssd_fib_reads_total") > reads
    until(lambda: read("dmssd_events_total", kind="fib.taken") > 0, "and an event of it")


def test_a_neighbour_that_dies_is_counted_as_down(lab: Lab) -> None:
    assert lab.exec("n1", ["ip", "link", "set", "to-n2", "down"]).returncode == 0
    try:
        until(lambda: value(lab, "n2", "dmssd_members", state="down") == 1, "n1 is down")
        assert value(lab, "n2", "dmssd_problems") > 0
        until(lambda: value(lab, "n3", "dmssd_routes_wanted", family="ipv4") == 1, "and nobody routes there")
    finally:
        lab.exec("n1", ["ip", "link", "set", "to-n2", "up"])
    until(lambda: mesh.all_up(lab), "all are up again")


def fetched(lab: Lab, node: str, address: str, path: str) -> list[str]:
    done = lab.exec(node, [sys.executable, "-c", FETCH, address, str(PORT), path])
    assert done.returncode == 0, done.stderr
    return str(done.stdout).split("\n", 2)


def test_over_tcp_others_in_the_mesh_are_told_the_same_and_nothing_else(lab: Lab) -> None:
    status, kind, text = until(
        lambda: fetched(lab, "n3", lab.address4("n2"), "/metrics"), "n3 reads the metrics of n2 through the mesh"
    )
    assert (status, kind) == ("200", "text/plain; version=0.0.4; charset=utf-8")
    assert metrics(text).keys() == asked(lab, "n2").keys()
    assert fetched(lab, "n3", lab.address4("n2"), "/v1/status")[0] == "404"


def test_where_none_is_configured_nobody_listens(lab: Lab) -> None:
    assert f":{PORT}" not in lab.exec("n1", ["ss", "-ltn"]).stdout


def test_a_port_that_somebody_else_has_costs_the_metrics_and_not_the_network(lab: Lab) -> None:
    status = lab.client("n3").get("status")
    assert status["verdict"] == "degraded"
    [reason] = [each for each in status["reasons"] if "metrics" in each]
    assert reason == (
        f"metrics are not served: [metrics] listen: 127.0.0.1 port {PORT} is in use: choose another port, "
        "and restart dmssd"
    )
    assert dmssd(lab, "n3", "metrics").stdout.startswith("# HELP dmssd_build_info")
