"""The lab against the real kernel, without a daemon: what it makes, breaks and leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dmssd.lab import design, plumbing, processes
from dmssd.lab.errors import LabError
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import all_labs, take_down
from dmssd.lab.outage import Flow, way
from dmssd.lab.state import Process, StateFile

pytestmark = pytest.mark.netns

NAME = f"t{os.getpid()}"
PROGRAMS = ("ip", "nft", "nsenter", "ping")


def until(claim: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether ``claim`` comes true in time."""
    end = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0 or missing:
        why = f"needs root and {', '.join(PROGRAMS)}; missing: {missing or 'root'}"
        if os.environ.get("DMSSD_REQUIRE_NETNS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    yield
    take_down(NAME)


def machine() -> tuple[str, str, str]:
    """What the machine's own namespace holds: links, routes of both families."""
    commands = (["ip", "-o", "link"], ["ip", "route", "show", "table", "all"], ["ip", "-6", "route"])
    links, four, six = (subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands)
    return links, four, six


def link_local(lab: Lab, node: str, interface: str) -> str:
    found: list[str] = []

    def there() -> bool:
        answer = lab.exec(node, ["ip", "-j", "-6", "addr", "show", "dev", interface, "scope", "link"]).stdout
        found[:] = [a["local"] for entry in json.loads(answer) for a in entry.get("addr_info", [])]
        return bool(found)

    assert until(there)
    return found[0]


def route_line(lab: Lab) -> None:
    """Addresses and routes of ``line:3``, by hand, where later the daemons put them."""
    for node in lab.nodes:
        for address in (lab.address4(node), lab.address6(node)):
            assert lab.exec(node, ["ip", "addr", "add", address, "dev", "lo"]).returncode == 0
        script = "for f in /proc/sys/net/ipv[46]/conf/all/forwarding; do echo 1 >$f; done"
        assert lab.exec(node, ["sh", "-c", script]).returncode == 0
    hops = (("n1", "n2", "n2 n3"), ("n2", "n1", "n1"), ("n2", "n3", "n3"), ("n3", "n2", "n2 n1"))
    for node, through, destinations in hops:
        gateway = link_local(lab, through, f"to-{node}")
        for destination in destinations.split():
            rest = ["dev", f"to-{through}", "proto", "201", "src"]
            four = ["ip", "route", "add", lab.address4(destination), "via", "inet6", gateway, *rest, lab.address4(node)]
            six = ["ip", "-6", "route", "add", lab.address6(destination), "via", gateway, *rest, lab.address6(node)]
            for command in (four, six):
                assert lab.exec(node, command).returncode == 0


def pings(lab: Lab, node: str, interface: str, far: str) -> bool:
    """Whether one of a few echoes to a neighbour's link-local address is answered."""
    return lab.exec(node, ["ping", "-6", "-c", "3", "-i", "0.02", "-W", "0.3", f"{far}%{interface}"]).returncode == 0


def test_up_and_down_leave_the_machine_as_it_was() -> None:
    before = machine()
    with Lab.build("abilene", NAME) as lab:
        assert len(plumbing.existing(NAME)) == 11
        assert machine() == before
        directory = StateFile(NAME).directory
        assert (directory / "chicago" / "config.toml").is_file()
        assert lab.state().owner == processes.myself()
    assert plumbing.existing(NAME) == []
    assert not directory.exists()
    assert NAME not in all_labs()
    assert machine() == before


def test_before_a_daemon_starts_every_table_holds_only_the_nodes_own_links() -> None:
    with Lab.build("abilene", NAME) as lab:
        for node in lab.nodes:
            interfaces = {interface for interface, _ in plumbing.ends(lab.design, node)}
            assert all(link_local(lab, node, interface) for interface in interfaces)
            links = json.loads(lab.exec(node, ["ip", "-j", "addr"]).stdout)
            assert {link["ifname"] for link in links} == {"lo", *interfaces}
            addresses = {a["local"] for link in links for a in link["addr_info"] if not a["local"].startswith("fe80::")}
            assert addresses <= {"127.0.0.1", "::1"}
            routes = json.loads(lab.exec(node, ["ip", "-j", "-4", "route"]).stdout)
            routes += json.loads(lab.exec(node, ["ip", "-j", "-6", "route"]).stdout)
            assert {(route["dst"], route["dev"]) for route in routes} <= {("fe80::/64", i) for i in interfaces}
            assert lab.exec(node, ["ip", "nexthop"]).stdout == ""


def test_every_link_is_up_and_joins_the_two_nodes_it_is_named_for() -> None:
    with Lab.build("abilene", NAME) as lab:
        for link in lab.design.links:
            far = link_local(lab, link.b, link.b_interface)
            assert pings(lab, link.a, link.a_interface, far), link


def test_on_a_segment_everyone_reaches_everyone_over_one_link_and_a_silent_node_is_missed_by_all() -> None:
    with Lab.build("segment:4+1x2", NAME) as lab:
        addresses = {node: link_local(lab, node, "to-lan") for node in ("n1", "n2", "n3", "n4")}
        pairs = [(near, far) for near in addresses for node, far in addresses.items() if node != near]
        assert until(lambda: all(pings(lab, near, "to-lan", far) for near, far in pairs))
        lab.drop_node("n2")
        assert not pings(lab, "n1", "to-lan", addresses["n2"])
        assert pings(lab, "n1", "to-lan", addresses["n3"])
        lab.heal("n2")
        lab.link_down("n3", "lan")
        assert pings(lab, "n1", "to-lan", addresses["n2"])
        assert not pings(lab, "n1", "to-lan", addresses["n3"])
    assert plumbing.existing(NAME) == []


def test_a_second_lab_of_that_name_is_refused_saying_how_to_end_the_first() -> None:
    with Lab.build("line:2", NAME) as lab:
        with pytest.raises(LabError, match="in use by process"):
            Lab.build("line:2", NAME)
        lab.release()
        with pytest.raises(LabError, match=f"dmssd lab down {NAME}"):
            Lab.build("line:2", NAME)
        assert len(plumbing.existing(NAME)) == 2


def test_down_is_idempotent_and_another_lab_whose_name_begins_alike_stays() -> None:
    other = f"{NAME}_b"
    with Lab.build("line:2", other):
        with Lab.build("line:2", NAME):
            pass
        assert take_down(NAME) == []
        assert take_down(NAME) == []
        assert len(plumbing.existing(other)) == 2


def test_a_lab_whose_builder_was_killed_is_cleared_by_the_next_of_its_name() -> None:
    script = f"""
        import os, signal
        from dmssd.lab.lab import Lab
        lab = Lab.build("ring:4", {NAME!r})
        with open(os.devnull, "wb") as null:
            lab.launch("n1", lab.exec_argv("n1", ["sleep", "1000"]), null.fileno(), null.fileno())
        lab.drop("n1", "n2")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = StateFile(NAME).read()
    assert state is not None
    sleeper = state.processes["n1"]
    assert processes.alive(sleeper)
    with Lab.build("line:2", NAME) as lab:
        assert len(plumbing.existing(NAME)) == 2
        assert lab.state().faults == []
    assert until(lambda: not processes.alive(sleeper))


@pytest.mark.parametrize("after", [1, 2, 3, 5, 7, 10, 14])
def test_a_crash_at_any_step_of_building_leaves_only_what_down_takes_away(after: int) -> None:
    script = f"""
        import os, signal, subprocess
        from dmssd.lab.lab import Lab
        run, left = subprocess.run, [{after}]
        def counted(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return run(*arguments, **options)
        subprocess.run = counted
        Lab.build("grid:2x4", {NAME!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert NAME in all_labs()
    take_down(NAME)
    assert NAME not in all_labs()
    assert plumbing.existing(NAME) == []


def test_namespaces_without_a_directory_are_taken_away_too() -> None:
    with Lab.build("line:2", NAME):
        shutil.rmtree(StateFile(NAME).directory)
        assert NAME in all_labs()
        take_down(NAME)
        assert plumbing.existing(NAME) == []


def test_down_ends_recorded_processes_and_names_but_spares_a_stranger_in_a_namespace() -> None:
    with Lab.build("line:2", NAME) as lab:
        stranger = subprocess.Popen(lab.exec_argv("n1", ["sleep", "1000"]))
        try:
            ours = lab.launch("n1", lab.exec_argv("n1", ["sleep", "1000"]), subprocess.DEVNULL, subprocess.DEVNULL)
            inside = [lab.namespace("n1")]
            assert until(lambda: {stranger.pid, ours.pid} <= {pid for pid, _ in processes.living_in(inside)})
            left = lab.down()
            assert left == [f"process {stranger.pid} (sleep) still runs in a namespace of lab {NAME}"]
            assert ours.wait(5) == -signal.SIGTERM
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()


def test_a_process_whose_id_was_reused_is_not_ended() -> None:
    with Lab.build("line:2", NAME) as lab:
        bystander = subprocess.Popen(["sleep", "1000"])
        try:
            real = processes.identify(bystander.pid)
            assert real is not None
            with StateFile(NAME).changing() as state:
                state.processes["n1"] = Process(real.pid, real.started - 1)
            assert lab.running() == {}
            lab.down()
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    with Lab.build("line:2", NAME) as lab:
        argv = lab.exec_argv("n1", ["sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done"])
        stubborn = lab.launch("n1", argv, subprocess.PIPE, subprocess.DEVNULL)
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"on\n"
        lab.down()
        assert stubborn.wait(5) == -signal.SIGKILL


def test_a_process_whose_recorder_dies_before_recording_it_never_starts(tmp_path: Path) -> None:
    script = f"""
        import os, signal, subprocess
        from dmssd.lab import processes
        def crash(process):
            print(process.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        null = subprocess.DEVNULL
        processes.launch(["touch", {str(tmp_path / "ran")!r}], crash, stdout=null, stderr=null)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    pid = int(done.stdout)
    assert until(lambda: processes.identify(pid) is None)
    assert not (tmp_path / "ran").exists()


def flags(lab: Lab, node: str) -> dict[str, list[str]]:
    return {entry["ifname"]: entry["flags"] for entry in json.loads(lab.exec(node, ["ip", "-j", "link"]).stdout)}


def test_a_drop_is_silent_both_ways_and_heals() -> None:
    with Lab.build("line:3", NAME) as lab:
        one, two = link_local(lab, "n1", "to-n2"), link_local(lab, "n2", "to-n1")
        three = link_local(lab, "n3", "to-n2")
        assert pings(lab, "n1", "to-n2", two)
        before = [flags(lab, node) for node in lab.nodes]
        lab.drop("n1", "n2")
        assert not pings(lab, "n1", "to-n2", two)
        assert not pings(lab, "n2", "to-n1", one)
        assert pings(lab, "n2", "to-n3", three)
        assert [flags(lab, node) for node in lab.nodes] == before
        assert [str(fault) for fault in lab.heal("n2", "n1")] == ["drop n1 n2"]
        assert pings(lab, "n1", "to-n2", two)
        assert lab.exec("n1", ["nft", "list", "ruleset"]).stdout == ""


def test_a_one_way_drop_lets_the_other_way_pass() -> None:
    with Lab.build("line:3", NAME) as lab:
        route_line(lab)

        def received(source: str, destination: str) -> bool:
            with Flow(lab, source, destination, 5000) as flow:
                until(lambda: False, 0.2)
            assert flow.outage is not None
            return flow.outage.lost < flow.outage.sent

        assert received("n1", "n3")  # neighbours are resolved while both ways are open
        assert received("n3", "n1")
        lab.drop("n1", "n2", one_way=True)
        assert not received("n1", "n3")
        assert received("n3", "n1")
        lab.heal()
        assert received("n1", "n3")


def test_a_loss_loses_about_as_much_as_it_says_and_heals() -> None:
    with Lab.build("line:2", NAME) as lab:
        two = link_local(lab, "n2", "to-n1")

        def answered() -> int:
            echoes = ["ping", "-6", "-q", "-c", "300", "-i", "0.002", "-W", "1", f"{two}%to-n2"]
            return int(re.findall(r"(\d+) received", lab.exec("n1", echoes).stdout)[0])

        assert answered() == 300
        lab.lose(50, "n1", "n2")
        assert 30 < answered() < 120  # a quarter, there and back; beyond eight standard deviations it is no chance
        lab.heal("n1")
        assert answered() == 300


def test_a_partition_leaves_each_part_whole() -> None:
    with Lab.build("full:4", NAME) as lab:
        far = {(a, b): link_local(lab, b, f"to-{a}") for a in lab.nodes for b in lab.nodes if a != b}
        lab.part(["n1", "n3"])
        together = {pair for pair, to in far.items() if pings(lab, pair[0], f"to-{pair[1]}", to)}
        assert together == {("n1", "n3"), ("n3", "n1"), ("n2", "n4"), ("n4", "n2")}
        assert len(lab.heal()) == 4
        assert all(pings(lab, a, f"to-{b}", to) for (a, b), to in far.items())


def test_a_frozen_daemon_stands_still_until_it_is_healed_or_ended() -> None:
    with Lab.build("line:2", NAME) as lab:
        with pytest.raises(LabError, match="does not run"):
            lab.freeze("n1")
        lab.start_daemons()
        lab.wait_ready()

        def stands() -> bool:
            return Path(f"/proc/{lab.running()['n1']}/stat").read_text().rpartition(")")[2].split()[0] == "T"

        lab.freeze("n1")
        assert until(stands)
        lab.heal("n1")
        assert until(lambda: not stands())
        lab.freeze("n1")
        lab.restart("n1")
        assert lab.state().faults == []
        assert not stands()


def test_drop_node_silences_all_links_of_a_node_at_both_ends() -> None:
    with Lab.build("star:4", NAME) as lab:
        hubs = {leaf: link_local(lab, "n1", f"to-{leaf}") for leaf in lab.nodes[1:]}
        lab.drop_node("n1")
        assert not any(pings(lab, leaf, "to-n1", hub) for leaf, hub in hubs.items())
        assert "to-n1" in lab.exec("n2", ["nft", "list", "ruleset"]).stdout
        assert "to-n2" in lab.exec("n1", ["nft", "list", "ruleset"]).stdout
        lab.heal("n1")
        for leaf, hub in hubs.items():
            assert until(lambda leaf=leaf, hub=hub: pings(lab, leaf, "to-n1", hub))


def test_link_down_takes_the_far_ends_carrier_and_heals() -> None:
    with Lab.build("line:2", NAME) as lab:
        assert until(lambda: "LOWER_UP" in flags(lab, "n2")["to-n1"])
        lab.link_down("n1", "n2")
        assert "UP" not in flags(lab, "n1")["to-n2"]
        assert until(lambda: "NO-CARRIER" in flags(lab, "n2")["to-n1"])
        assert "UP" in flags(lab, "n2")["to-n1"]
        lab.heal("n1", "n2")
        assert until(lambda: "LOWER_UP" in flags(lab, "n2")["to-n1"])


def test_a_fault_that_cannot_be_is_refused_and_not_recorded() -> None:
    with Lab.build("line:3", NAME) as lab:
        with pytest.raises(LabError, match="no link joins"):
            lab.drop("n1", "n3")
        with pytest.raises(LabError, match="no node"):
            lab.drop_node("n7")
        with pytest.raises(LabError, match="does not run"):
            lab.kill("n1")
        assert lab.state().faults == []


def test_the_outage_of_a_flow_is_that_of_the_fault_and_its_way_is_found() -> None:
    with Lab.build("line:3", NAME) as lab:
        route_line(lab)
        assert way(lab, "n1", "n3", 6000) == ["n2", "n3"]
        with Flow(lab, "n1", "n3", 6000) as flow:
            until(lambda: False, 0.3)
            began = time.monotonic_ns()
            lab.drop("n2", "n3", one_way=True)
            until(lambda: False, 0.3)
            lab.heal()
            ended = time.monotonic_ns()
            until(lambda: False, 0.3)
        outage = flow.outage
        assert outage is not None
        assert outage.gap_ns is not None
        assert 250_000_000 < outage.gap_ns < ended - began + 100_000_000
        assert 40 <= outage.lost < outage.sent
        missing = lab.missing_routes("n1")
        assert missing == []
        lab.exec("n1", ["ip", "route", "del", lab.address4("n3")])
        assert lab.missing_routes("n1") == [lab.address4("n3")]


def test_unreachable_names_exactly_the_pairs_that_do_not_ping() -> None:
    with Lab.build("line:3", NAME) as lab:
        route_line(lab)
        assert lab.unreachable() == []
        lab.drop("n1", "n2")
        pairs = (("n1", "n2"), ("n1", "n3"), ("n2", "n1"), ("n3", "n1"))
        cut = {(a, address(b)) for a, b in pairs for address in both(lab)}
        assert set(lab.unreachable(timeout_s=0.3)) == cut
        assert lab.unreachable(["n2", "n3"]) == []


def both(lab: Lab) -> tuple[Callable[[str], str], Callable[[str], str]]:
    return lab.address4, lab.address6


def test_sixty_four_nodes_can_be_made_and_removed() -> None:
    with Lab.build("line:64", NAME) as lab:
        assert len(plumbing.existing(NAME)) == 64
        assert link_local(lab, "n64", "to-n63")
    assert plumbing.existing(NAME) == []
    assert not (design.LABS_DIRECTORY / NAME).exists()
