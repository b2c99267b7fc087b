"""Who may put whom out, and what that does: real daemons on a ring.

    n1 (founder) - n2 - n3 - n4 - n5 - n1

The first three members are admins. n5 is expelled by one of them; n3, an admin, takes two.
"""

import os
from collections.abc import Iterator

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.mesh import dmssd, only_line, states, until

pytestmark = pytest.mark.netns

NAME = f"kx{os.getpid()}"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("ring:5", NAME, tp=0) as lab:
        until(lambda: mesh.all_up(lab), "all are up")
        yield lab


def admins(lab: Lab, node: str) -> list[str]:
    return [row["name"] for row in lab.client(node).get("members") if row["admin"]]


def reasons(lab: Lab, node: str) -> str:
    return "\n".join(lab.client(node).get("status")["reasons"])


def test_the_first_three_members_are_admins_and_everybody_knows(lab: Lab) -> None:
    first = admins(lab, "n1")
    assert len(first) == 3
    assert "n1" in first
    for node in lab.nodes:
        until(lambda node=node: admins(lab, node) == first, f"{node} knows the admins")


def test_one_who_is_no_admin_can_neither_expel_nor_make_tokens(lab: Lab) -> None:
    ordinary = next(node for node in lab.nodes if node not in admins(lab, "n1"))
    for command in (("expel", "n1"), ("token", "create")):
        done = dmssd(lab, ordinary, *command)
        assert done.returncode == 1
        assert "admin capability" in only_line(done.stderr)


def test_an_expelled_member_is_cut_off_by_everybody_and_told_and_the_others_go_on(lab: Lab) -> None:
    ordinary = sorted(node for node in lab.nodes if node not in admins(lab, "n1"))
    out, stays = ordinary
    rest = [node for node in lab.nodes if node != out]
    done = dmssd(lab, "n1", "expel", out, "--reason", "sold")
    assert (done.returncode, done.stdout) == (0, f"{out} is expelled\n"), done.stderr
    for node in rest:
        until(lambda node=node: out not in states(lab, node), f"{node} does not know {out} any more")
        until(lambda node=node: not mesh.neighbour_states(lab, node, out), f"{node} is not adjacent to {out}")
        until(lambda node=node: not routed(lab, node, out), f"{node} has no route to {out}")
    until(lambda: "expelled" in reasons(lab, out), f"{out} is told")
    assert "sold" in reasons(lab, out)
    mesh.everybody_pings(lab, rest)
    assert not mesh.pings(lab, stays, out, seconds=0.3)


def test_an_expelled_member_that_restarts_is_still_out_and_told_again(lab: Lab) -> None:
    out = next(node for node in lab.nodes if node not in states(lab, "n1"))
    lab.restart(out)
    until(lambda: "expelled" in reasons(lab, out), f"{out} still knows that it was expelled")
    assert out not in states(lab, "n1")


def test_an_expulsion_outlives_a_restart_of_those_who_know_it(lab: Lab) -> None:
    out = next(node for node in lab.nodes if node not in states(lab, "n1"))
    rest = [node for node in lab.nodes if node != out]
    neighbour = next(
        node for node in rest if out in {far for ends in mesh.far_ends(lab, node).values() for far, _ in ends}
    )
    lab.restart(neighbour)
    assert out not in states(lab, neighbour), "it has it on disk, however short ago it heard"
    until(lambda: set(states(lab, neighbour)) == set(rest), f"{neighbour} is back among the others alone")
    assert not mesh.neighbour_states(lab, neighbour, out)


def test_an_admin_is_expelled_by_two_admins_and_the_first_vote_is_shown_to_all(lab: Lab) -> None:
    one, two, three = admins(lab, "n1")
    done = dmssd(lab, one, "expel", three)
    assert done.returncode == 0, done.stderr
    assert f"dmssd expel {three} on another admin" in done.stdout
    for node in states(lab, "n1"):
        until(lambda node=node: f"voted to expel {three}" in reasons(lab, node), f"{node} shows the vote")
        assert three in states(lab, node)
    done = dmssd(lab, two, "expel", three)
    assert (done.returncode, done.stdout) == (0, f"{three} is expelled\n"), done.stderr
    for node in (one, two):
        until(lambda node=node: three not in states(lab, node), f"{node} does not know {three} any more")
    until(lambda: "expelled" in reasons(lab, three), f"{three} is told")
    assert admins(lab, one) == [one, two]


def routed(lab: Lab, node: str, to: str) -> bool:
    return any(route["prefix"].startswith(lab.address4(to) + "/") for route in lab.client(node).get("routes")["routes"])
