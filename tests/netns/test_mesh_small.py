"""A node with ``profile = "small"`` among others: the same mesh for less, and answering once it is asked."""

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.boards import MEMORY_BYTES, board
from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.mesh import dmssd, until

pytestmark = pytest.mark.netns

NAME = f"sb{os.getpid()}"
AIOHTTP = "/aiohttp/"
"""In the paths of what a process maps once it has loaded the admin API."""


def test_a_small_board_is_a_member_like_others_and_loads_the_admin_api_when_asked() -> None:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("line:3", NAME, tp=1) as lab:
        log, file = lab.log("n3"), lab.log("n3").parent / "config.toml"
        lab.stop_daemons(["n3"])
        before = len(log.read_text())
        file.write_text(f'profile = "small"\n{file.read_text()}')
        lab.start_daemons(["n3"])
        # Asking it would have it load what it must not have loaded: its log and its neighbour tell.
        until(lambda: "neighbour.up" in log.read_text()[before:], "n3 has a neighbour again")
        until(lambda: mesh.neighbour_states(lab, "n2", "n3") == ["up"], "n2 has n3 for a neighbour again")
        until(lambda: mesh.all_up(lab, ["n1", "n2"]), "n1 and n2 see all up")
        mesh.everybody_pings(lab)
        maps = Path(f"/proc/{lab.running()['n3']}/maps")
        assert AIOHTTP not in maps.read_text()
        answered = dmssd(lab, "n3", "config", "show")
        assert answered.returncode == 0, answered.stderr + log.read_text()
        shown = answered.stdout.splitlines()
        assert {'profile = "small"', 'api = "when-asked"', "liveness.echo_interval_ms = 500"} <= set(shown)
        assert AIOHTTP in maps.read_text()
        assert mesh.states(lab, "n3") == {"n1": "up", "n2": "up", "n3": "up"}
        assert AIOHTTP in Path(f"/proc/{lab.running()['n2']}/maps").read_text()


def test_a_board_of_the_benchmarks_has_one_processor_and_no_more_memory_than_it_should() -> None:
    mesh.require_lab()
    with board(f"dmssd-{NAME}", 0) as made:
        greedy = f"x = bytearray({MEMORY_BYTES} + (64 << 20)); print(len(x))"
        seen = subprocess.run([*made.prefix, "nproc"], capture_output=True, text=True, check=True).stdout
        assert seen.strip() == "1"
        refused = subprocess.run([*made.prefix, "python3", "-c", greedy], capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert refused.stdout == ""
