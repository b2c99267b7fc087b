"""A machine is lost and its node comes back from a file, which is older than what happened since: real daemons.

n1 - n2 - n3 - n4        n1 founds, the first three are admins; n2 is lost, and is itself again
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.mesh import dmssd, until

pytestmark = pytest.mark.netns

NAME = f"rs{os.getpid()}"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("line:4", NAME, tp=1) as lab:
        until(lambda: mesh.all_up(lab), "all are up")
        until(lambda: mesh.at_rest(lab, mesh.REST_S), "all are at rest")
        yield lab


def config(lab: Lab, node: str) -> Path:
    return lab.log(node).parent / "config.toml"


def state(lab: Lab, node: str) -> Path:
    return lab.log(node).parent / "state"


def local(lab: Lab, node: str, verb: str, *arguments: str, status: int = 0) -> str:
    """Run a command that works on the node's files; what it printed, on either stream."""
    command = [sys.executable, "-m", "dmssd", verb, *arguments, "--config", str(config(lab, node))]
    done = lab.exec(node, command)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def admins(lab: Lab, node: str) -> set[str]:
    return {member["name"] for member in lab.client(node).get("members") if member["admin"]}


def draining(lab: Lab, node: str) -> list[str]:
    return [member["name"] for member in lab.client(node).get("members") if member["draining"]]


def lose(lab: Lab, node: str) -> None:
    lab.kill(node)
    shutil.rmtree(state(lab, node))


def back(lab: Lab, node: str) -> None:
    lab.start_daemons([node])
    lab.wait_ready([node])
    until(lambda: mesh.all_up(lab), "everybody is up, and nobody else is there")


def test_a_lost_machine_is_itself_again_from_a_backup_that_is_older_than_what_the_mesh_knows(
    lab: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "n2.backup"
    was = lab.client("n2").get("status")
    made = json.loads(local(lab, "n2", "backup", str(file), "-o", "json"))
    assert (made["node"], made["name"], made["encrypted"]) == (was["node"], "n2", False)
    assert file.stat().st_mode & 0o777 == 0o600
    assert mesh.all_up(lab), "the daemon is not disturbed"
    then = {key: (state(lab, "n2") / key).read_bytes() for key in ("lsa-sequence", "incarnation")}

    # What happens after the backup: starts of the daemon, and statements and LSAs of n2's own.
    for _ in range(2):
        lab.kill("n2")
        back(lab, "n2")
    for verb in ("drain", "undrain"):
        done = dmssd(lab, "n2", "node", verb)
        assert done.returncode == 0, done.stderr
    done = dmssd(lab, "n2", "grant", "n4")
    assert done.returncode == 0, done.stderr
    for node in lab.nodes:
        until(lambda node=node: admins(lab, node) == {"n1", "n2", "n3", "n4"}, f"{node} knows of the grant")
    later = int.from_bytes((state(lab, "n2") / "lsa-sequence").read_bytes(), "big")
    assert later > int.from_bytes(then["lsa-sequence"], "big"), "the backup is older"

    lose(lab, "n2")
    said = local(lab, "n2", "restore", str(file))
    assert "ONE machine only" in said
    assert {key: (state(lab, "n2") / key).read_bytes() for key in then} == then
    back(lab, "n2")

    now = lab.client("n2").get("status")
    assert {key: now[key] for key in ("node", "name", "mesh")} == {key: was[key] for key in ("node", "name", "mesh")}
    for node in lab.nodes:
        until(lambda node=node: admins(lab, node) == {"n1", "n2", "n3", "n4"}, f"{node} knows who is an admin")
    mesh.routes_become(lab, mesh.arcs(lab))
    mesh.everybody_pings(lab)
    assert not any("two machines" in line for node in lab.nodes for line in lab.client(node).get("status")["reasons"])

    # What it says from now on is newer than all that it said before it was lost.
    done = dmssd(lab, "n2", "node", "drain")
    assert done.returncode == 0, done.stderr
    until(lambda: draining(lab, "n4") == ["n2"], "n4 knows that n2 drains")
    assert dmssd(lab, "n2", "node", "undrain").returncode == 0
    until(lambda: draining(lab, "n4") == [], "and that it does no more")
    before = lab.client("n4").get("status")["expiry"]

    def renewed() -> bool:
        # Renewed within the second of its issue a certificate expires when it did, and is no better: so once more.
        assert dmssd(lab, "n2", "renew", "n4").returncode == 0
        return bool(lab.client("n4").get("status")["expiry"] > before)

    until(renewed, "n4 has a certificate that n2 issued")
    token = dmssd(lab, "n2", "token", "create")
    assert token.returncode == 0, token.stderr
    assert not list(state(lab, "n2").glob("before-restore*"))


def test_a_restore_is_refused_while_the_daemon_runs_and_over_another_node_unless_forced(
    lab: Lab, tmp_path: Path
) -> None:
    file, secret = tmp_path / "n3.backup", tmp_path / "passphrase"
    secret.write_text("correct horse battery\n")
    sealed = ["--passphrase-file", str(secret)]
    local(lab, "n3", "backup", str(file), *sealed)
    seed = (state(lab, "n3") / "identity").read_bytes()
    assert seed not in file.read_bytes()
    assert "exists already" in local(lab, "n3", "backup", str(file), status=1)
    assert "the daemon runs" in local(lab, "n3", "restore", str(file), *sealed, "--force", status=1)
    lose(lab, "n3")
    # As a fresh installation does: a start makes a new node, alone in a mesh of its own.
    lab.start_daemons(["n3"])
    lab.wait_ready(["n3"])
    other = lab.client("n3").get("status")["node"]
    lab.stop_daemons(["n3"])
    assert "holds a node already" in local(lab, "n3", "restore", str(file), *sealed, status=1)
    wrong = tmp_path / "wrong"
    wrong.write_text("correct horse batteries\n")
    refusal = local(lab, "n3", "restore", str(file), "--passphrase-file", str(wrong), "--force", status=1)
    assert "passphrase does not open" in refusal
    answer = json.loads(local(lab, "n3", "restore", str(file), *sealed, "--force", "-o", "json"))
    assert Path(answer["kept"]).is_dir()
    assert answer["node"] != other
    assert (state(lab, "n3") / "identity").read_bytes() == seed
    back(lab, "n3")
    mesh.everybody_pings(lab)


def test_a_node_that_has_another_key_by_now_is_told_so_when_its_old_one_is_restored(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "n4.backup"
    local(lab, "n4", "backup", str(file))
    before = lab.client("n4").get("status")["node"]
    done = dmssd(lab, "n4", "rotate", "key")
    assert done.returncode == 0, done.stderr
    until(lambda: lab.client("n4").get("status")["node"] != before, "n4 goes on under its new key")
    new = lab.client("n4").get("status")["node"]

    def resigned() -> bool:
        # The old key ends a few seconds after the new one is in use, by a word that is on n4's disk until then.
        logs = [lab.log(node).read_text().splitlines() for node in lab.nodes]
        return all(any("member.resigned" in line and before in line for line in log) for log in logs)

    until(resigned, "everybody knows that the old key has resigned")
    assert new != before
    lose(lab, "n4")
    local(lab, "n4", "restore", str(file))
    lab.start_daemons(["n4"])
    lab.wait_ready(["n4"])

    def told() -> bool:
        return any("was expelled from the mesh" in line for line in lab.client("n4").get("status")["reasons"])

    until(told, "n4 says that it is no member any more, and what to do")
    rows = [row for node in ("n1", "n2", "n3") for row in lab.client(node).get("members")]
    assert not any(row["node"] == before and row["state"] == "up" for row in rows)
