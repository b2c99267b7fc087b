"""A report of a daemon that runs, with real secrets: its key, a token that it gave out, the mesh's recovery key."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from tests.netns import mesh
from tests.netns.mesh import dmssd, only_line, until

pytestmark = pytest.mark.netns

NAME = f"kr{os.getpid()}"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    mesh.require_lab()
    take_down(NAME)
    with Lab.up("line:2", NAME, tp=0) as lab:
        until(lambda: mesh.all_up(lab), "all are up")
        yield lab


def test_a_report_of_a_running_daemon_has_what_it_knows_and_none_of_its_secrets(lab: Lab, tmp_path: Path) -> None:
    directory = lab.log("n1").parent
    token = only_line(dmssd(lab, "n1", "token", "create").stdout)
    with lab.log("n1").open("a") as log:
        log.write(f"somebody typed: dmssd join n1 --token {token}\n")
    file = tmp_path / "report.tar.gz"
    done = dmssd(
        lab, "n1", "bugreport", str(file), "--config", str(directory / "config.toml"), "--log", str(lab.log("n1"))
    )
    assert (done.returncode, done.stderr) == (0, "")
    raw = gzip.decompress(file.read_bytes())
    seed = (directory / "state" / "identity").read_bytes()
    for secret in (seed, seed.hex().encode(), token.encode(), token.partition(".")[2].encode()):
        assert secret not in raw

    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        parts = {
            info.name.partition("/")[2]: tar.extractfile(info).read().decode()  # type: ignore[union-attr]
            for info in tar
        }
    for name in parts:
        assert name == "contents.json" or name in done.stdout, "it says what is in it"
    assert json.loads(parts["api/status.json"])["name"] == "n1"
    assert {member["name"] for member in json.loads(parts["api/members.json"])} == {"n1", "n2"}
    assert parts["api/metrics.txt"].startswith("# ")
    # Of the daemon's own network namespace, not of the one in which the command was typed.
    assert "proto 201" in parts["kernel/routes4.txt"]
    assert "to-n2" in parts["kernel/links.txt"]
    assert "table inet dmssd" in parts["kernel/guard.txt"]
    assert "net.ipv6.conf.to-n2.forwarding = 1" in parts["kernel/sysctls.txt"]
    assert any(one["check"] == "daemon" for one in json.loads(parts["doctor.json"]))
    assert "somebody typed: dmssd join n1 --token [removed]" in parts["log-file.txt"]
    problems = {one["name"] for one in json.loads(parts["contents.json"])["parts"] if one["problem"]}
    assert not {name for name in problems if name.startswith(("api/", "kernel/"))}, problems
