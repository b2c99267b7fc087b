"""A record of real daemons: it replays to the same actions, and holds no secret."""

import base64
import os
from pathlib import Path

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from dmssd.security.identity import Identity
from dmssd.security.token import Token
from dmssd.sim.replay import Replayed, replay
from tests.netns import mesh
from tests.netns.mesh import arcs, dmssd, routes_become, until

pytestmark = pytest.mark.netns

NAME = f"kr{os.getpid()}"
RECORDED = ("n2", "n3")
"""The founder, who makes and redeems tokens, and one that joins."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, list[bytes]]]:
    """Records of a mesh that was founded, joined, cut, mended and stopped; and each recorded node's secrets."""
    mesh.require_lab()
    take_down(NAME)
    directory = tmp_path_factory.mktemp("records")
    files = {node: directory / f"{node}.record" for node in RECORDED}
    secrets: dict[str, list[bytes]] = {}
    with Lab.build("ring:4", NAME, tp=1) as lab:
        for node, file in files.items():
            config = lab.log(node).parent / "config.toml"
            config.write_text(config.read_text() + f'\n[record]\npath = "{file}"\nlimit_mib = 64\n')
        lab.start_daemons()
        lab.wait_ready()
        lab.client("n2").post("init", {"name": "taped"})
        token = str(lab.client("n2").post("token", {"uses": 3, "ttl_s": 600})["token"])
        for node, interface in (("n3", "to-n2"), ("n1", "to-n2"), ("n4", "to-n3")):
            lab.client(node).post("join", {"peer": f"%{interface}", "token": token}, 70)
        until(lambda: mesh.all_up(lab), "every node sees every other up")
        routes_become(lab, arcs(lab))
        lab.drop("n2", "n3")
        routes_become(lab, [arc for arc in arcs(lab) if {arc.near, arc.far} != {"n2", "n3"}])
        lab.heal()
        routes_become(lab, arcs(lab))
        assert dmssd(lab, "n2", "trace", "n4").returncode == 0
        for node in RECORDED:
            seed = (lab.log(node).parent / "state" / "identity").read_bytes()
            secrets[node] = [seed, Identity(seed).x25519_private, Token.parse(token).secret, token[-20:].encode()]
        lab.stop_daemons()
    return files, secrets


def test_the_record_of_a_real_daemon_replays_to_the_same_actions(
    recorded: tuple[dict[str, Path], dict[str, list[bytes]]],
) -> None:
    for node, file in recorded[0].items():
        report: Replayed = replay(file)
        assert report.diverged_at is None, f"{node}: {report.diverged_event}"
        assert report.events > 100
        assert report.nodes >= 2  # alone at first, then in the mesh that it founded or joined


def test_the_command_that_replays_says_so_with_status_0(
    recorded: tuple[dict[str, Path], dict[str, list[bytes]]],
) -> None:
    done = dmssd(None, "", "sim", "replay", str(recorded[0]["n2"]))
    assert done.returncode == 0, done.stderr


def test_a_record_holds_neither_keys_nor_tokens(recorded: tuple[dict[str, Path], dict[str, list[bytes]]]) -> None:
    files, secrets = recorded
    for node, file in files.items():
        held = file.read_bytes()
        assert node.encode() in held  # the settings are in it, so that a search finds what is there
        for secret in secrets[node]:
            for form in (secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")):
                assert form not in held
        assert file.stat().st_mode & 0o077 == 0
