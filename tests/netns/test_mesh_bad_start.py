"""Daemons that cannot start, and commands that nobody hears: one line on stderr, the right exit code, no harm."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dmssd.lab.processes import living_in
from tests.netns import mesh
from tests.netns.kernel import REPOSITORY, Namespaces
from tests.netns.mesh import dmssd, only_line, until

pytestmark = pytest.mark.netns

FAILED, USAGE, NOT_RUNNING = 1, 2, 3


@pytest.fixture(scope="module")
def world() -> Iterator[Namespaces]:
    mesh.require_lab()
    with Namespaces("k", prefix="dmssd-start") as namespaces:
        yield namespaces


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A good configuration, to be spoiled."""
    return written(tmp_path, "node")


def written(directory: Path, name: str, *, state: Path | None = None, more: str = "") -> Path:
    file = directory / f"{name}.toml"
    chosen = state or directory / f"{name}.state"
    file.write_text(f'state = "{chosen}"\nsocket = "{directory / name}.sock"\nname = "{name}"\n{more}')
    return file


def run(world: Namespaces, config: Path, *before: str) -> "subprocess.CompletedProcess[str]":
    """``dmssd run``, for daemons that end by themselves."""
    return world.run("k", *before, sys.executable, "-m", "dmssd", "run", "--config", str(config), timeout_s=60)


def refusal(done: "subprocess.CompletedProcess[str]", status: int = FAILED) -> str:
    """The one line of a start that failed as it should."""
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    return only_line(done.stderr)


@pytest.fixture
def running(world: Namespaces, config: Path) -> Iterator["subprocess.Popen[str]"]:
    """A daemon that runs by the good configuration."""
    argv = [*world.entering("k"), sys.executable, "-m", "dmssd", "run", "--config", str(config)]
    daemon = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        until(lambda: status(config).returncode == 0, "the daemon answers")
        yield daemon
    finally:
        daemon.kill()
        daemon.communicate()


def status(config: Path) -> "subprocess.CompletedProcess[str]":
    return dmssd(None, "", "status", "--socket", str(config.with_suffix(".sock")))


def test_a_good_configuration_runs_and_stops_at_sigterm_with_status_0(
    running: "subprocess.Popen[str]", config: Path
) -> None:
    assert status(config).stdout.startswith("ok: node in mesh node")
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 0
    assert "Traceback" not in errors


def test_a_second_daemon_on_one_state_directory_names_the_first(
    world: Namespaces, running: "subprocess.Popen[str]", config: Path, tmp_path: Path
) -> None:
    line = refusal(run(world, written(tmp_path, "second", state=config.with_suffix(".state"), more="port = 4748\n")))
    assert "is used by another dmssd" in line
    assert f"pid {running.pid}" in line
    assert status(config).returncode == 0


def test_a_port_in_use_is_named_and_so_is_how_to_find_who_has_it(
    world: Namespaces, running: "subprocess.Popen[str]", config: Path, tmp_path: Path
) -> None:
    line = refusal(run(world, written(tmp_path, "second")))
    assert "UDP port 4747 is in use" in line
    assert "ss -ulpn" in line
    assert status(config).returncode == 0


def test_a_socket_that_another_daemon_serves_is_not_taken_from_it(
    world: Namespaces, running: "subprocess.Popen[str]", config: Path, tmp_path: Path
) -> None:
    second = written(tmp_path, "second", more="port = 4748\n")
    second.write_text(second.read_text().replace("second.sock", "node.sock"))
    line = refusal(run(world, second))
    assert "is served by a running daemon" in line
    assert status(config).stdout.startswith("ok: node in")


@pytest.mark.parametrize("held", [b"", b"short", bytes(33)])
def test_a_key_of_the_wrong_length_is_refused_and_left_as_it_is(world: Namespaces, config: Path, held: bytes) -> None:
    key = config.with_suffix(".state") / "identity"
    key.parent.mkdir()
    key.write_bytes(held)
    line = refusal(run(world, config))
    assert f"the identity key has {len(held)} bytes instead of 32" in line
    assert "backup" in line
    assert key.read_bytes() == held


def test_a_key_that_may_not_be_read_is_refused(world: Namespaces, config: Path) -> None:
    key = config.with_suffix(".state") / "identity"
    key.parent.mkdir()
    key.write_bytes(bytes(range(32)))
    key.chmod(0o000)
    # Root reads everything, unless it has lost that privilege.
    line = refusal(run(world, config, "setpriv", "--bounding-set=-dac_override,-dac_read_search"))
    assert f"{key} cannot be read (Permission denied)" in line


@pytest.mark.parametrize("key", ["membership", "tokens", "lsa-sequence", "incarnation"])
def test_what_is_damaged_in_the_state_directory_is_named_in_one_line(world: Namespaces, config: Path, key: str) -> None:
    directory = config.with_suffix(".state")
    directory.mkdir()
    (directory / key).write_bytes(b"\xc1 damaged")
    done = run_until_answer_or_end(world, config)
    if done.returncode is not None:
        line = refusal(done)
        assert {"membership": "certificate", "tokens": "token"}.get(key, key) in line
        assert "state directory" in line or str(directory) in line  # what to mend


def test_damaged_tokens_cost_a_daemon_its_tokens_only(world: Namespaces, config: Path) -> None:
    """Either it does not start, saying why; or it serves, says why it can make no token, and goes on serving."""
    directory = config.with_suffix(".state")
    directory.mkdir()
    (directory / "tokens").write_bytes(b"\xc1 damaged")
    socket = str(config.with_suffix(".sock"))

    def asked() -> bool:
        assert "tokens" in refusal(dmssd(None, "", "token", "create", "--socket", socket))
        return status(config).returncode == 0

    done = run_until_answer_or_end(world, config, asked)
    if done.returncode is not None:
        assert "tokens" in refusal(done)


def run_until_answer_or_end(
    world: Namespaces, config: Path, serves: Callable[[], bool] = lambda: True
) -> "subprocess.CompletedProcess[str]":
    """Start a daemon that may start or refuse.

    ``returncode`` is None where it came to serve; then ``serves`` must hold, and the daemon is ended.
    """
    argv = [*world.entering("k"), sys.executable, "-m", "dmssd", "run", "--config", str(config)]
    daemon = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        socket = config.with_suffix(".sock")
        until(lambda: daemon.poll() is not None or (socket.exists() and status(config).returncode == 0), "it decides")
        ended = daemon.poll()
        assert ended is not None or serves()
    finally:
        daemon.kill()
        output, errors = daemon.communicate()
    assert "Traceback" not in errors, errors
    return subprocess.CompletedProcess(argv, ended, output, errors)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("-net_admin", "CAP_NET_ADMIN is missing"),
        ("-net_raw", "CAP_NET_RAW is missing"),
        ("-net_admin,-net_raw", "CAP_NET_ADMIN and CAP_NET_RAW are missing"),
    ],
)
def test_a_missing_capability_is_named(world: Namespaces, config: Path, lost: str, named: str) -> None:
    line = refusal(run(world, config, "setpriv", f"--bounding-set={lost}"))
    assert named in line
    assert "run as root" in line


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("prot = 4747\n", "prot"),
        ('port = "4747"\n', "port"),
        ("port = 0\n", "port"),
        ('[[links]]\nmatch = "eth*"\nmetric = "ten"\n', "links[0].metric"),
        ('[[links]]\nmatch = "eth*"\nmetrik = 10\n', "links[0].metrik"),
        ("[swim]\nperiod_ms = 1\n", "swim.period_ms"),
        ("[mesh\n", "is not valid TOML"),
    ],
)
def test_an_unknown_or_ill_typed_key_is_named_with_file_and_path(
    world: Namespaces, tmp_path: Path, more: str, path: str
) -> None:
    config = written(tmp_path, "node", more=more)
    line = refusal(run(world, config))
    assert str(config) in line
    assert path in line
    assert not config.with_suffix(".state").exists()


def test_a_configuration_that_is_not_there_is_named(world: Namespaces, tmp_path: Path) -> None:
    assert f"{tmp_path}/none.toml: does not exist" in refusal(run(world, tmp_path / "none.toml"))


def test_a_state_directory_that_cannot_be_made_is_named(world: Namespaces, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    line = refusal(run(world, written(tmp_path, "node", state=tmp_path / "file" / "state")))
    assert f"{tmp_path}/file/state cannot be used as state directory" in line


COMMANDS = (
    "status",
    "init x",
    "join peer --token dmss1.x",
    "leave",
    "token create",
    "member list",
    "network global",
    "network mwt",
    "network spt",
    "route list",
    "role list",
    "trace somewhere",
    "config show",
    "event watch",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_socket_that_nobody_serves_is_exit_code_3_and_says_how_to_start(command: str, tmp_path: Path) -> None:
    line = refusal(dmssd(None, "", *command.split(), "--socket", str(tmp_path / "none.sock")), NOT_RUNNING)
    assert f"nobody serves {tmp_path}/none.sock" in line
    assert "dmssd run" in line


def test_a_socket_whose_daemon_was_killed_is_exit_code_3_and_the_next_daemon_takes_it(
    world: Namespaces, running: "subprocess.Popen[str]", config: Path
) -> None:
    running.kill()
    running.wait()
    assert config.with_suffix(".sock").exists()
    assert "nobody serves" in refusal(status(config), NOT_RUNNING)
    assert run_until_answer_or_end(world, config).returncode is None


@pytest.mark.parametrize("arguments", ["nonsense", "join", "status --sockets x", "token create --uses 0"])
def test_wrong_usage_is_exit_code_2(arguments: str) -> None:
    done = dmssd(None, "", *arguments.split())
    assert done.returncode == USAGE
    assert "Error: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_no_start_that_failed_left_a_process(world: Namespaces) -> None:
    assert living_in([Path("/run/netns") / world.full("k")]) == []
