"""Two versions in one mesh: half of the daemons are an earlier one, built from the commit that CHANGELOG.md names.

n1 - n2
|     |      old and new beside each other on every link
n4 - n3
"""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dmssd import __version__
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from routing.lsa import METRIC_MAX
from tests.netns import mesh
from tests.netns.kernel import REPOSITORY
from tests.netns.mesh import until

pytestmark = pytest.mark.netns

NAME = f"kv{os.getpid()}"
NODES = ("n1", "n2", "n3", "n4")
FIRST = "0.1.0"
"""Which speaks the first protocol, and knows neither statements nor segments."""

EXPLAINED = {
    "message of a stranger": "hellos of a member to one who has not joined yet",
    "unknown session": "what neighbours still say to a daemon that has restarted and does not know their sessions",
    "unknown handshake": "the answer to a handshake that the other side's has overtaken",
    "replayed handshake": "a repetition that crossed its answer",
}
"""What may be refused while a mesh forms or heals, whatever the versions. Nothing else may."""


def released() -> dict[str, str]:
    """Every version before this one and its commit, as the changelog has them, the latest first."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    entries = re.findall(r"^## (\d+\.\d+\.\d+)\b.*\(commit ([0-9a-f]{7,40})\)$", changelog, re.MULTILINE)
    earlier = {version: commit for version, commit in entries if version != __version__.partition(".dev")[0]}
    assert FIRST in earlier, "CHANGELOG.md names no earlier version with its commit"
    return earlier


OLD = {
    "an old founder admits new ones": (FIRST, ("n1", "n3")),
    "a new founder admits old ones": (FIRST, ("n2", "n4")),
    "a new founder admits those of the version before": (next(iter(released())), ("n2", "n4")),
}


@pytest.fixture(scope="module")
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of an earlier version, of the first if nobody says which."""
    mesh.require_lab()
    version = getattr(request, "param", FIRST)
    commit = released()[version]
    git = ["git", "-C", str(REPOSITORY)]
    if subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False).returncode:
        pytest.skip(f"version {version} (commit {commit}) is not in this clone: git fetch --unshallow")
    directory = tmp_path_factory.mktemp(f"dmssd-{version}")
    archive = subprocess.run([*git, "archive", commit], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive.stdout, check=True)
    return directory


@pytest.fixture
def lab(old: tuple[str, ...], tree: Path) -> Iterator[Lab]:
    """A mesh of four, old and new by turns; n1 is its founder."""
    take_down(NAME)
    with Lab.up("ring:4", NAME, tp=2, sources=dict.fromkeys(old, tree)) as lab:
        yield lab


def unexplained(lab: Lab, nodes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """What each node has refused that no one expects."""
    counts = {node: mesh.rejected(lab, node) for node in nodes}
    return {
        node: unknown
        for node, said in counts.items()
        if (unknown := {reason: count for reason, count in said.items() if reason not in EXPLAINED})
    }


@pytest.mark.parametrize(
    ("version", "tree", "old"), [(version, version, old) for version, old in OLD.values()], ids=OLD, indirect=["tree"]
)
def test_two_versions_form_one_mesh_that_forwards_and_heals(lab: Lab, version: str, old: tuple[str, ...]) -> None:
    versions = {node: lab.client(node).get("status")["version"] for node in NODES}
    assert {versions[node] for node in old} == {version}
    assert {versions[node] for node in NODES if node not in old} == {__version__}
    until(lambda: mesh.all_up(lab), "every node sees every other up")
    mesh.everybody_pings(lab)
    mesh.routes_become(lab, mesh.arcs(lab))
    assert unexplained(lab, NODES) == {}

    # Two of the four are old: they too send around a new one that drains.
    drained = next(node for node in NODES if node not in lab.sources)
    assert mesh.dmssd(lab, drained, "node", "drain").returncode == 0
    around = [replace(arc, metric=METRIC_MAX) if arc.near == drained else arc for arc in mesh.arcs(lab)]
    near = next(
        node for node in sorted(lab.sources) if mesh.expected(mesh.arcs(lab), node) != mesh.expected(around, node)
    )
    assert all(drained != far for to, hops in mesh.expected(around, near).items() if to != drained for _, far in hops)
    mesh.routes_become(lab, around)
    mesh.everybody_pings(lab)
    assert mesh.dmssd(lab, drained, "node", "undrain").returncode == 0
    mesh.routes_become(lab, mesh.arcs(lab))

    # n3 is an old one here and a new one there.
    others = ("n1", "n2", "n4")
    lab.drop_node("n3")
    lab.kill("n3")
    alive = dict.fromkeys(others, "up") | {"n3": "down"}
    for node in others:
        until(lambda node=node: mesh.states(lab, node) == alive, f"{node} holds n3 down, and nobody else")
    mesh.everybody_pings(lab, others)
    mesh.routes_become(lab, mesh.arcs(lab, ["n3"]), others)
    lab.heal("n3")
    lab.start_daemons(["n3"])
    lab.wait_ready(["n3"])
    until(lambda: mesh.all_up(lab), "n3 is back everywhere")
    mesh.everybody_pings(lab)
    assert unexplained(lab, NODES) == {}

    # Only an admin of this version can have sessions replaced; those with old ones are, too, for both know handshakes.
    new = [node for node in NODES if node not in lab.sources]
    if "n1" in new:
        done = mesh.dmssd(lab, "n1", "rotate", "sessions")
        assert done.returncode == 0, done.stderr
        for node in new:
            until(lambda node=node: rotated(lab, node), f"{node} has replaced all its sessions", 2 * mesh.SECONDS)
        assert mesh.all_up(lab)
        assert unexplained(lab, NODES) == {}
        mesh.everybody_pings(lab)


def rotated(lab: Lab, node: str) -> bool:
    shown = lab.client(node).get("status")["sessions"]
    return shown["epoch"] == 1 and shown["with_members"] == 3 and not shown["behind"]


def segments(lab: Lab, node: str) -> list[tuple[list[str], int]]:
    """Who is on each segment and how many speak for it, as a node of this version sees it."""
    found = lab.client(node).get("network/global")["segments"]
    return [(each["members"], len(each["speakers"])) for each in found]


def test_one_old_node_on_a_segment_keeps_it_a_full_mesh_until_it_is_replaced(tree: Path) -> None:
    take_down(NAME)
    with Lab.up("segment:4", NAME, tp=1, sources={"n3": tree}) as lab:
        until(lambda: mesh.all_up(lab), "every node sees every other up")
        mesh.everybody_pings(lab)
        assert lab.client("n3").get("status")["version"] == FIRST
        for node in ("n1", "n2", "n4"):
            others = set(NODES) - {node}
            until(lambda node=node, others=others: up(lab, node) == others, f"{node} is adjacent to everyone")
            assert segments(lab, node) == []
        mesh.routes_become(lab, mesh.arcs(lab))

        lab.stop_daemons(["n3"])
        lab.sources = {}
        lab.start_daemons(["n3"])
        lab.wait_ready(["n3"])
        assert lab.client("n3").get("status")["version"] == __version__
        for node in NODES:
            until(lambda node=node: segments(lab, node) == [(list(NODES), 2)], f"{node} sees one segment of four")
        mesh.routes_become(lab, mesh.arcs(lab))
        mesh.everybody_pings(lab)
        until(
            lambda: sorted(len(up(lab, node)) for node in NODES) == [2, 2, 3, 3], "two are adjacent to all, two to them"
        )


def up(lab: Lab, node: str) -> set[str]:
    """With whom a node is adjacent."""
    return {row["name"] for row in lab.client(node).get("status")["neighbours"] if row["state"] == "up"}


@pytest.mark.parametrize("tree", [next(iter(released()))], indirect=True)
def test_a_node_of_the_version_before_is_the_same_member_after_its_upgrade_and_after_going_back(tree: Path) -> None:
    take_down(NAME)
    with Lab.up("line:2", NAME, tp=1, sources={"n2": tree}) as lab:
        until(lambda: mesh.all_up(lab), "both are up")
        was = lab.client("n2").get("status")
        before = lab.sources
        for sources in ({}, before):
            lab.stop_daemons(["n2"])
            lab.sources = sources
            lab.start_daemons(["n2"])
            lab.wait_ready(["n2"])
            until(lambda: mesh.all_up(lab), "n2 is up again, and nobody else is there")
            now = lab.client("n2").get("status")
            assert now["version"] == (was["version"] if sources else __version__)
            assert (now["node"], now["mesh"]) == (was["node"], was["mesh"])
            mesh.everybody_pings(lab)
