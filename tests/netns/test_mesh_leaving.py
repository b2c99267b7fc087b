"""Leaving in good order, and coming back: real daemons on a line."""

import os
from collections.abc import Iterator

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.mesh import arcs, dmssd, routes_become, states, until

pytestmark = pytest.mark.netns

NAME = f"ke{os.getpid()}"


@pytest.fixture(scope="module")
def line() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("line:4", NAME, tp=1) as lab:
        yield lab


@pytest.fixture
def lab(line: Lab) -> Lab:
    """The line with everybody up, whatever the test before has done."""
    line.start_daemons()
    line.wait_ready()
    until(lambda: mesh.all_up(line), "every node sees every other up")
    return line


def test_who_leaves_is_shown_as_left_has_no_routes_any_more_and_is_up_again_when_it_comes_back(lab: Lab) -> None:
    rest = ["n1", "n2", "n3"]
    lab.stop_daemons(["n4"])
    daemon = mesh.start(lab, "n4")
    until(lambda: mesh.all_up(lab), "every node sees every other up")
    routes_become(lab, arcs(lab))
    seen: set[str] = set()

    def left_everywhere() -> bool:
        now = [states(lab, node)["n4"] for node in rest]
        seen.update(now)
        return now == ["left"] * 3

    done = dmssd(lab, "n4", "leave")
    assert (done.returncode, done.stdout) == (0, "left the mesh; the daemon stops\n"), done.stderr
    until(left_everywhere, "everybody sees n4 as left")
    assert daemon.wait(30) == 0
    assert seen <= {"up", "left"}
    routes_become(lab, arcs(lab, without=["n4"]), rest)
    assert [states(lab, node) for node in rest] == [{"n1": "up", "n2": "up", "n3": "up", "n4": "left"}] * 3
    assert not mesh.pings(lab, "n1", "n4", seconds=0.3)
    assert mesh.pings(lab, "n1", "n3")
    until(lambda: lab.client("n1").get("status")["verdict"] == "ok", "the mesh is well without it")
    assert dmssd(None, "", "status", "--socket", str(lab.socket("n4"))).returncode == 3

    lab.start_daemons(["n4"])
    lab.wait_ready(["n4"])
    until(lambda: mesh.all_up(lab), "n4 is up everywhere again")
    routes_become(lab, arcs(lab))
    assert mesh.pings(lab, "n1", "n4")


def test_a_relay_that_leaves_is_left_on_both_sides_of_the_cut(lab: Lab) -> None:
    """n3 alone joins n4 to the rest: its farewell must go both ways before it stops to carry anything."""
    until(lambda: mesh.all_up(lab), "every node sees every other up")
    assert dmssd(lab, "n3", "leave").returncode == 0
    until(lambda: "n3" not in lab.running(), "the daemon of n3 has ended")
    for node in ("n1", "n2", "n4"):
        until(lambda node=node: states(lab, node)["n3"] == "left", f"{node} sees n3 as left")
    lab.start_daemons(["n3"])
    lab.wait_ready(["n3"])
    until(lambda: mesh.all_up(lab), "all are up again")
    routes_become(lab, arcs(lab))


def test_sigterm_stops_a_daemon_with_status_0_and_is_no_leave(lab: Lab) -> None:
    lab.stop_daemons(["n4"])
    daemon = mesh.start(lab, "n4")
    until(lambda: mesh.all_up(lab), "every node sees every other up")
    routes_become(lab, arcs(lab))
    until(lambda: mesh.at_rest(lab, mesh.REST_S), "nothing has changed for a while")
    daemon.terminate()
    assert daemon.wait(30) == 0
    assert not lab.socket("n4").exists()
    mesh.until_neighbour(lab, "n3", "n4", "restarting")
    assert states(lab, "n1")["n4"] != "left"
    assert mesh.wrong_routes(lab, arcs(lab), ["n4"]) == []
    assert mesh.pings(lab, "n1", "n4")
    lab.start_daemons(["n4"])
    lab.wait_ready(["n4"])
    until(lambda: mesh.all_up(lab), "n4 is up everywhere again")
