"""What only a process of its own shows: imports, pipes, signals, shell completion."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DMSSD = [sys.executable, "-m", "dmssd"]
DEADLINE_S = 30


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*DMSSD, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        text=True,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_status_imports_nothing_heavy(served: Any, healthy: dict[str, Any]) -> None:
    served.daemon.answers["status"] = healthy
    script = (
        "import sys\nfrom dmssd.cli.main import main\ncode = main(['status'])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\nsys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert ended.returncode == 0
    assert ended.stdout.startswith("ok: Denver")
    imported = set(ended.stderr.split())
    assert "click" in imported
    assert not imported & {"aiohttp", "asyncio", "networkx", "rich", "msgspec", "cryptography", "pyroute2", "tomllib"}


def test_help_imports_no_command() -> None:
    script = (
        "import sys\nfrom dmssd.cli.main import main\nmain(['--help'])\n"
        "print(*(name for name in sys.modules if name.startswith('dmssd.')), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=DEADLINE_S, check=False
    )
    loaded = ended.stderr.split()
    assert "dmssd.cli.main" in loaded
    assert not {"dmssd.cli.lab", "dmssd.cli.status", "dmssd.cli.network"} & set(loaded)


def test_exit_codes_reach_the_shell(tmp_path: Path, served: Any, healthy: dict[str, Any]) -> None:
    served.daemon.answers["status"] = healthy
    assert run("status").returncode == 0
    served.daemon.answers["status"] = healthy | {"verdict": "degraded", "reasons": ["x"]}
    assert run("status").returncode == 1
    assert run("status", "--nonsense").returncode == 2
    assert run("status", DMSSD_SOCKET=str(tmp_path / "none")).returncode == 3


def test_a_reader_that_goes_away_makes_no_noise(served: Any) -> None:
    member = {"name": "n" * 60, "state": "up", "since_s": 1, "addresses": [], "node": "ab", "incarnation": 0}
    served.daemon.answers["members"] = [member] * 5_000  # more than a pipe holds
    # Unbuffered, Python takes a short write to a broken pipe for a whole one and notices nothing.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [*DMSSD, "member", "list"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(DEADLINE_S) == 141


def test_output_is_plain_off_a_terminal(served: Any, healthy: dict[str, Any]) -> None:
    served.daemon.answers["status"] = healthy
    assert "\x1b" not in run("status", FORCE_COLOR="1").stdout


@pytest.mark.parametrize("arguments", [["event", "watch"], ["join", "a", "--token", "t"]])
def test_an_interrupt_ends_a_wait_quietly(served: Any, arguments: list[str]) -> None:
    served.daemon.release.clear()
    served.daemon.on_subscribe = [{"kind": "began"}]
    process = subprocess.Popen(
        [*DMSSD, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    # The first event, or the first line of progress: it is waiting now.
    first = process.stdout if arguments[0] == "event" else process.stderr
    assert first.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert out + err.strip() == ""


def test_the_shell_completes_commands_and_names_of_members(served: Any) -> None:
    def complete(words: str, at: int) -> list[str]:
        ended = run(_DMSSD_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(at))
        return [line.partition(",")[2] for line in ended.stdout.splitlines() if line]

    served.daemon.answers["members"] = [{"name": name} for name in ("Denver", "Dallas", "Chicago")]
    assert complete("dmssd st", 1) == ["status"]
    assert complete("dmssd network sp", 2) == ["spt"]
    assert complete("dmssd trace D", 2) == ["Denver", "Dallas"]
    served.stop()
    assert complete("dmssd trace D", 2) == []
