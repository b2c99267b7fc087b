"""Being let in without a token, and letting others let in: real daemons on a star, each at first in a mesh of its own.

n1 (founder) is the hub; n2 to n6 are its neighbours
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.kernel import REPOSITORY
from tests.netns.mesh import dmssd, only_line, states, until

pytestmark = pytest.mark.netns

NAME = f"ka{os.getpid()}"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("star:6", NAME, tp=0, join=False) as lab:
        yield lab


@pytest.fixture(scope="module")
def recovery_key(lab: Lab) -> str:
    """As printed when the mesh was founded, and only then."""
    done = dmssd(lab, "n1", "init", "home")
    assert done.returncode == 0, done.stderr
    found = re.search(r"recovery key, shown only now, to be kept offline: (\S+)", done.stdout)
    assert found, done.stdout
    return found.group(1)


def asking(lab: Lab, node: str, *arguments: str) -> "subprocess.Popen[str]":
    """A join without a token, left waiting."""
    command = [sys.executable, "-m", "dmssd", "--node", f"{lab.name}/{node}", "join", "n1", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)


def node_id(lab: Lab, node: str) -> str:
    return str(lab.client(node).get("status")["node"])


def waiting(lab: Lab, node: str) -> list[str]:
    return [row["node"] for row in lab.client(node).get("pending")]


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def test_a_node_without_a_token_waits_shows_fingerprints_and_is_in_once_an_admin_says_so(
    lab: Lab, recovery_key: str
) -> None:
    me, founder = node_id(lab, "n2"), lab.client("n1").get("status")
    join = asking(lab, "n2")
    until(lambda: waiting(lab, "n1") == [me], "n1 shows who waits")
    assert "n2" not in states(lab, "n1")
    assert "asked to be let in" in dmssd(lab, "n1", "status").stdout
    done = dmssd(lab, "n1", "pending")
    assert me in done.stdout
    done = dmssd(lab, "n1", "admit", me[:8], "--name", "door")
    assert (done.returncode, done.stdout) == (0, f"admitted door ({me})\n"), done.stderr
    code, out, err = ended(join)
    assert (code, out.splitlines()[0]) == (0, "joined mesh home"), err
    for shown in (me, founder["node"], founder["mesh"]):
        assert shown in err
    until(lambda: states(lab, "n1") == {"n1": "up", "door": "up"}, "n1 sees it up under the name it was given")
    assert waiting(lab, "n1") == []


def test_one_whom_nobody_admits_is_told_what_to_say_and_stays_out(lab: Lab, recovery_key: str) -> None:
    code, out, err = ended(asking(lab, "n3", "--timeout", "3s"))
    assert (code, out) == (1, "")
    assert f"say dmssd admit {node_id(lab, 'n3')[:8]} on an admin" in err
    assert states(lab, "n3") == {"n3": "up"}
    assert "n3" not in states(lab, "n1")


def test_boards_on_a_list_are_admitted_as_they_ask_and_nobody_else(lab: Lab, recovery_key: str, tmp_path: Path) -> None:
    boards = tmp_path / "boards"
    boards.write_text(f"# the new ones\n{node_id(lab, 'n3')}  # by id\nn4\n")
    done = dmssd(lab, "n1", "admit", "--from", str(boards))
    assert done.returncode == 0, done.stderr
    # Who asked a moment ago is admitted at once, the others when they ask.
    assert "approved n4: admitted once it says dmssd join" in done.stdout
    joins = [asking(lab, node) for node in ("n3", "n4")]
    other = asking(lab, "n5", "--timeout", "6s")
    for join in joins:
        code, _, err = ended(join)
        assert code == 0, err
    assert ended(other)[0] == 1
    until(lambda: {"n3", "n4"} <= set(states(lab, "n1")), "both are in")
    assert "n5" not in states(lab, "n1")


def test_a_member_that_was_granted_it_admits_and_one_that_was_not_does_not(lab: Lab, recovery_key: str) -> None:
    ordinary = next(node for node in ("n4", "n3", "n2") if not lab.client(node).get("status")["admin"])
    done = dmssd(lab, ordinary, "admit", "n5")
    assert done.returncode == 1
    assert "admin capability" in only_line(done.stderr)
    name = lab.client(ordinary).get("status")["name"]
    done = dmssd(lab, "n1", "grant", name)
    assert (done.returncode, done.stdout) == (0, f"{name} is an admin\n"), done.stderr
    until(lambda: lab.client(ordinary).get("status")["admin"], f"{ordinary} has its new certificate")
    join = asking(lab, "n5")
    me = node_id(lab, "n5")
    until(lambda: me in waiting(lab, ordinary), f"{ordinary}, which n5 did not ask, shows it too")
    done = dmssd(lab, ordinary, "admit", me)
    assert done.returncode == 0, done.stderr
    assert ended(join)[0] == 0


def test_a_member_shows_a_new_certificate_as_soon_as_an_admin_renews_it(lab: Lab, recovery_key: str) -> None:
    before = lab.client("n4").get("status")["expiry"]
    assert before > 0
    done = dmssd(lab, "n1", "renew", "n4")
    assert (done.returncode, done.stdout) == (0, "renewed: n4\n"), done.stderr

    def shown() -> bool:
        # Renewed within the second of its issue it expires when it did, and is no better: so once more.
        if lab.client("n4").get("status")["expiry"] > before:
            return True
        assert dmssd(lab, "n1", "renew", "n4").returncode == 0
        return False

    until(shown, "n4 shows the new one")
    until(lambda: set(states(lab, "n1").values()) == {"up"}, "nobody went down over it")


def test_the_recovery_key_makes_a_member_an_admin_when_no_admin_is_left(lab: Lab, recovery_key: str) -> None:
    ordinary = next(node for node in ("n5", "n4") if not lab.client(node).get("status")["admin"])
    wrong = recovery_key[:-4] + ("AAAA" if not recovery_key.endswith("AAAA") else "BBBB")
    done = dmssd(lab, ordinary, "recover", wrong)
    assert done.returncode == 1
    assert "no recovery key" in only_line(done.stderr)
    assert not lab.client(ordinary).get("status")["admin"]
    others = [node for node in ("n2", "n3", "n4", "n5") if node != ordinary and lab.client(node).get("status")["admin"]]
    for node in others:
        lab.kill(node)
    done = dmssd(lab, ordinary, "recover", recovery_key)
    assert done.returncode == 0, done.stderr
    join = asking(lab, "n6")
    me = node_id(lab, "n6")
    until(lambda: me in waiting(lab, ordinary), "who waits is seen by the new admin")
    done = dmssd(lab, ordinary, "admit", me)
    assert done.returncode == 0, done.stderr
    assert ended(join)[0] == 0
    until(lambda: "n6" in states(lab, "n1"), "all believe the new admin")


def test_a_lost_board_is_replaced_by_another_under_its_old_name(lab: Lab, recovery_key: str) -> None:
    lost = "n6"
    lab.kill(lost)
    # The new board has the place of the old one, and nothing of it: another identity.
    old = node_id(lab, "n1") and lab.client("n1").get("members")
    before = next(row["node"] for row in old if row["name"] == lost)
    for kept in (lab.log(lost).parent / "state").iterdir():
        kept.unlink()
    lab.restart(lost)
    me = node_id(lab, lost)
    assert me != before
    join = asking(lab, lost)
    until(lambda: me in waiting(lab, "n1"), "it waits")
    done = dmssd(lab, "n1", "admit", me, "--replaces", lost)
    assert done.returncode == 0, done.stderr
    assert ended(join)[0] == 0
    rows = until(
        lambda: [row for row in lab.client("n1").get("members") if row["name"] == lost and row["state"] == "up"],
        "the new board is up under the old name",
    )
    assert [row["node"] for row in rows] == [me]
    assert before not in [row["node"] for row in lab.client("n1").get("members")]


def test_an_identity_on_two_machines_is_noticed_and_shown_with_addresses(lab: Lab, recovery_key: str) -> None:
    # n6 gets a copy of n1's whole state: its neighbour over one link has the identity that it has itself.
    origin, copy = lab.log("n1").parent / "state", lab.log("n6").parent / "state"
    lab.stop_daemons(["n6"])
    for name in ("identity", "membership"):
        (copy / name).write_bytes((origin / name).read_bytes())
    lab.start_daemons(["n6"])
    lab.wait_ready(["n6"])
    for node in ("n1", "n6"):
        reasons = until(
            lambda node=node: [
                line for line in lab.client(node).get("status")["reasons"] if "this node's identity" in line
            ],
            f"{node} notices",
        )
        assert re.search(r"another machine, fe80::\S+ on to-\S+, runs with", reasons[0]), reasons
    status = dmssd(lab, "n1", "status")
    assert status.returncode == 1
    assert "remove its state directory" in status.stdout


def test_a_member_of_a_populated_mesh_is_told_that_meshes_are_not_merged(lab: Lab, recovery_key: str) -> None:
    done = dmssd(lab, "n5", "join", "n1", "--timeout", "2s")
    assert done.returncode == 1
    assert "meshes are not merged" in done.stderr
