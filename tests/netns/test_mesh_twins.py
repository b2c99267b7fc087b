"""An identity on two machines at both ends of a line, which never meet: real daemons.

n1 - n2 - n3 - n4 - n5, and n5 gets a copy of n1's identity
"""

import os
from collections.abc import Iterator

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.mesh import dmssd, until

pytestmark = pytest.mark.netns

NAME = f"kt{os.getpid()}"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("line:5", NAME, tp=0) as lab:
        until(lambda: mesh.all_up(lab), "all are up")
        yield lab


def shown(lab: Lab, node: str) -> list[str]:
    return [line for line in lab.client(node).get("status")["reasons"] if "two machines" in line]


def test_both_machines_and_everybody_between_show_where_both_are(lab: Lab) -> None:
    assert not any(shown(lab, node) for node in lab.nodes)
    lab.stop_daemons(["n5"])
    origin, copy = lab.log("n1").parent / "state", lab.log("n5").parent / "state"
    for name in ("identity", "membership"):
        (copy / name).write_bytes((origin / name).read_bytes())
    lab.start_daemons(["n5"])
    lab.wait_ready(["n5"])
    # Each announces the addresses that it is configured with, which tells the two apart best.
    one, other = f"next to n2 ({lab.address4('n1')}", f"next to n4 ({lab.address4('n5')}"
    for node in lab.nodes:
        until(lambda node=node: [line for line in shown(lab, node) if one in line and other in line], f"{node} tells")
    assert any(f"this node's identity: this one, {one}" in line for line in shown(lab, "n1")), shown(lab, "n1")
    assert any(f"this node's identity: this one, {other}" in line for line in shown(lab, "n5")), shown(lab, "n5")
    status = dmssd(lab, "n3", "status")
    assert status.returncode == 1
    assert "remove its state directory" in status.stdout
