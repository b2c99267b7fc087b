"""A report of this machine: what is in it, what never is, and what happens where a part cannot be had."""

import base64
import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from dmssd.cli.main import main
from dmssd.driver import bugreport
from dmssd.driver.bugreport import PART_BYTES_MAX, Part, Sources, bounded, collect, output, packed
from dmssd.scrubbing import REMOVED, Scrubber
from dmssd.security.identity import Identity
from dmssd.security.recovery import RecoveryKey
from dmssd.security.token import Token
from sansio.errors import RequestError, StoreError
from sansio.ids import MeshId, NodeId

SEED, NEXT = bytes(range(100, 132)), bytes(range(200, 232))
TOKEN = str(Token(MeshId(bytes(16)), NodeId(bytes(20)), b"PLANTED1", b"PLANTED_SECRET_2"))
RECOVERY = str(RecoveryKey(MeshId(bytes(16)), bytes(range(32))))
CONFIG = """
# the passphrase of the backups is PLANTED_COMMENT
name = "alpha"
announce = ["10.9.0.0/24"]
wifi_password = "PLANTED_VALUE"
{state}

[mesh]
ula = true

[[links]]
match = "eth*"
comment = "PLANTED_UNKNOWN"

[radio]
psk = "PLANTED_PSK"
"""
LOG = f"""INFO member.up node=alpha
INFO somebody typed dmssd join PEER --token {TOKEN}
INFO the same --token={TOKEN}, and token: PLANTED_TOKEN_WORD
INFO recovery {RECOVERY}
INFO the seed is {SEED.hex()} or {base64.b64encode(SEED).decode()} or {NEXT.hex().upper()}
INFO passphrase = "PLANTED PASS PHRASE"
-----BEGIN OPENSSH PRIVATE KEY-----
PLANTEDPEM
-----END OPENSSH PRIVATE KEY-----
INFO link.up interface=eth0
"""


def secrets() -> list[str]:
    """Every secret of this module, in every spelling in which it was planted, or could come out."""
    found = ["PLANTED", TOKEN.partition(".")[2], RECOVERY.partition(".")[2]]
    for seed in (SEED, NEXT, Identity(SEED).x25519_private):
        found += [seed.hex(), base64.b64encode(seed).decode().rstrip("="), base64.urlsafe_b64encode(seed).decode()]
    return found


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Of a node with secrets everywhere, whose daemon tells more than it does today."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "identity").write_bytes(SEED)
    (state / "identity-next").write_bytes(NEXT)
    (state / "tokens").write_bytes(b"PLANTED_IN_TOKENS")
    (state / "format").write_bytes(b"1 0.3.0\n")
    (tmp_path / "dmssd.toml").write_text(CONFIG.format(state=f'state = "{state}"'))
    (tmp_path / "log").write_text(LOG)
    answers: dict[str, Any] = {
        "status": {"name": "alpha", "tokens": 3, "note": f"{TOKEN} was used", "session_secret": "PLANTED_SESSION"},
        "metrics": f"# HELP {SEED.hex()}\ndmssd_up 1\n",
    }

    def ask(query: str) -> Any:
        if query not in answers:
            raise RequestError(f"this version knows no query {query!r}")
        return answers[query]

    queries = ("status", "network/global", "metrics")
    return Sources(state, tmp_path / "dmssd.toml", ask, queries, lambda: [{"says": LOG}], tmp_path / "log")


def by_name(parts: list[Part]) -> dict[str, Part]:
    return {part.name: part for part in parts}


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


def test_no_planted_secret_is_anywhere_in_the_report(sources: Sources) -> None:
    # Each of them is there to be found, or this would prove nothing.
    everything = b"".join(path.read_bytes() for path in sources.state.parent.rglob("*") if path.is_file())
    planted = (b"PLANTED", TOKEN.encode(), RECOVERY.encode(), SEED, NEXT, SEED.hex().encode())
    assert [secret for secret in planted if secret not in everything] == []
    raw = gzip.decompress(packed(collect(sources)))
    assert SEED not in raw
    assert NEXT not in raw
    for secret in secrets():
        assert secret.encode() not in raw, secret
        assert secret.upper().encode() not in raw, secret
    assert REMOVED.encode() in raw


def test_what_is_no_secret_is_there(sources: Sources) -> None:
    parts = by_name(collect(sources))
    [read] = json.loads(parts["configuration.json"].contents)
    config = read["settings"]
    assert config["name"] == "alpha"
    assert config["announce"] == ["10.9.0.0/24"]
    assert config["links"] == [{"match": "eth*", "comment": REMOVED}]
    assert config["wifi_password"] == config["radio"] == REMOVED
    log = parts["log-file.txt"].contents.decode()
    assert "member.up node=alpha" in log
    assert "link.up interface=eth0" in log
    assert json.loads(parts["api/status.json"].contents)["tokens"] == 3
    assert b"dmssd_up 1" in parts["api/metrics.txt"].contents
    assert b"'identity'" in parts["state.txt"].contents
    assert b"format: '1 0.3.0'" in parts["state.txt"].contents
    assert b"Python 3" in parts["versions.txt"].contents
    assert b"net.ipv4.ip_forward = " in parts["kernel/sysctls.txt"].contents


def test_each_part_fails_by_itself(sources: Sources) -> None:
    def broken() -> Any:
        raise ZeroDivisionError(f"with {TOKEN}")

    nowhere = sources.state / "none"
    worse = Sources(nowhere, nowhere, sources.ask, sources.queries, broken, nowhere)
    parts = by_name(collect(worse))
    failed = {name: part.problem for name, part in parts.items() if part.problem}
    assert {"doctor.json", "state.txt", "log-file.txt", "api/network-global.json"} <= set(failed)
    assert failed["doctor.json"] == f"ZeroDivisionError: with {REMOVED}"
    assert not {"versions.txt", "api/status.json", "kernel/sysctls.txt"} & set(failed)
    listed = json.loads(unpacked(packed(list(parts.values())))["dmssd-bugreport/contents.json"])
    assert {one["name"]: one["problem"] for one in listed["parts"] if one["problem"]} == failed


def test_a_daemon_that_does_not_answer_is_asked_once(sources: Sources) -> None:
    asked = []

    def silent(query: str) -> Any:
        asked.append(query)
        raise RequestError("the daemon behind X did not answer within 10 s: try again")

    parts = by_name(collect(Sources(sources.state, sources.config, silent, sources.queries, sources.examine)))
    assert asked == ["status"]
    assert "did not answer" in parts["api/metrics.txt"].problem


def test_parts_are_bounded_in_whole_lines_and_say_that_they_were_cut(sources: Sources) -> None:
    assert sources.log is not None
    line = f"INFO {TOKEN} at the edge\n"
    sources.log.write_text("the oldest\n" + line * (2 * PART_BYTES_MAX // len(line)) + "the newest\n")
    part = by_name(collect(sources))["log-file.txt"]
    assert part.cut
    assert len(part.contents) <= PART_BYTES_MAX
    assert part.contents.endswith(b"the newest\n")
    assert b"the oldest" not in part.contents
    # A line that was cut in the middle of a token would still show a half of it.
    assert set(part.contents.splitlines()[:-1]) == {f"INFO {REMOVED} at the edge".encode()}
    assert bounded(b"first\n" + b"x" * PART_BYTES_MAX, keep_end=False) == b"first\n"


def test_a_program_is_neither_waited_for_nor_read_without_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(output(("yes",))) == 8 * PART_BYTES_MAX
    monkeypatch.setattr(bugreport, "COMMAND_S_MAX", 0.05)
    with pytest.raises(StoreError, match="status -9"):
        output(("sleep", "600"))
    with pytest.raises(StoreError, match="cannot be run"):
        output(("no-such-program",))


def test_a_broken_configuration_is_said_and_not_shown(sources: Sources, tmp_path: Path) -> None:
    assert sources.config is not None
    sources.config.write_text('password = "PLANTED\n')
    part = by_name(collect(sources))["configuration.json"]
    assert b"cannot be read (TOMLDecodeError)" in part.contents
    assert b"PLANTED" not in part.contents


@pytest.mark.parametrize(
    "text",
    ["node=0f" * 20, "the join token is damaged", "passed 3 checks", "proto 201 metric 10", "dmssd.toml", "seeds 3"],
)
def test_what_only_resembles_a_secret_stays(text: str) -> None:
    assert Scrubber([SEED]).text(text) == text


def test_the_command_writes_a_private_file_and_says_what_is_in_it(
    sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.tar.gz"
    arguments = ["bugreport", str(file), "--config", str(sources.config), "--socket", str(tmp_path / "none")]
    old = os.umask(0)
    try:
        assert main([*arguments, "-o", "json"]) == 0
    finally:
        os.umask(old)
    answer = json.loads(capsys.readouterr().out)
    assert file.stat().st_mode & 0o777 == 0o600
    got = unpacked(file.read_bytes())
    assert {f"dmssd-bugreport/{one['part']}" for one in answer["parts"]} | {"dmssd-bugreport/contents.json"} == set(got)
    assert "not running" in next(one["problem"] for one in answer["parts"] if one["part"] == "api/status.json")
    assert main(arguments) == 1
    assert "exists already" in capsys.readouterr().err
