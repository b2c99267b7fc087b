"""systemd's protocols, kernel settings in a tree of files, and the netlink codec."""

import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dmssd.driver import clock, netlink
from dmssd.driver.kernel import Sysctl, require_capabilities
from dmssd.driver.systemd import Notifier, listen_sockets
from sansio.errors import ConfigError
from sansio.instant import Duration, Instant


def test_nothing_is_said_where_no_manager_listens(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        notifier = Notifier(environment, 1)
        notifier.ready()
        notifier.stopping()
        assert notifier.watchdog_interval is None


@pytest.mark.parametrize("abstract", [False, True])
def test_states_reach_the_manager(tmp_path: Path, abstract: bool) -> None:
    name = f"@dmssd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": name}, 1)
        notifier.ready("11 members")
        notifier.reloading(Instant(5_000_000))
        notifier.watchdog()
        notifier.stopping()
        heard = [manager.recv(100) for _ in range(4)]
    assert heard == [b"READY=1\nSTATUS=11 members", b"RELOADING=1\nMONOTONIC_USEC=5000", b"WATCHDOG=1", b"STOPPING=1"]


def test_the_watchdog_is_fed_twice_as_often_as_asked_and_only_by_the_process_watched() -> None:
    environment = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "41"}
    assert Notifier(environment, 41).watchdog_interval == Duration(1_500_000_000)
    assert Notifier(environment, 42).watchdog_interval is None


def test_sockets_meant_for_another_process_are_not_taken() -> None:
    environment = {"LISTEN_PID": "41", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "admin", "PATH": "/bin"}
    assert listen_sockets(environment, 42) == {}
    assert environment == {"PATH": "/bin"}


def test_a_socket_handed_over_is_found_by_its_name() -> None:
    code = (
        "import os; from dmssd.driver.systemd import listen_sockets\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "found = listen_sockets(os.environ, os.getpid())\n"
        "found['admin'].sendall(b'from inside')\n"
        "print([*found], os.get_inheritable(3), 'LISTEN_FDS' in os.environ)\n"
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "admin"}
        wrapper = f'exec 3<&{theirs.fileno()}; exec {sys.executable} -c "$0"'
        done = subprocess.run(
            ["bash", "-c", wrapper, code],
            env=environment,
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "['admin'] False False\n", done.stderr
        assert ours.recv(100) == b"from inside"


def test_a_setting_is_written_only_where_it_differs(tmp_path: Path) -> None:
    (tmp_path / "same").write_text("1\n")
    (tmp_path / "other").write_text("0\n")
    sysctl = Sysctl(tmp_path)
    assert (sysctl.ensure("1", "same"), sysctl.ensure("1", "other"), sysctl.ensure("1", "absent")) == (
        True,
        True,
        False,
    )
    assert (tmp_path / "same").read_text() == "1\n", "untouched"
    assert (tmp_path / "other").read_text() == "1"
    assert not (tmp_path / "absent").exists()


def test_a_setting_that_cannot_be_written_names_itself_and_what_it_must_be(tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(ConfigError, match=r"full: is 0, must be 1, and cannot be written"):
        _Zero(tmp_path).ensure("1", "full")
    assert _Zero(tmp_path).prefer("1", "full") is False, "what a node can do without is no error"
    (tmp_path / "other").write_text("0\n")
    assert Sysctl(tmp_path).prefer("1", "other") is True


class _Zero(Sysctl):
    def read(self, *key: str) -> str | None:
        return "0"


@pytest.mark.parametrize(
    ("effective", "problem"),
    [
        (1 << 12 | 1 << 13, None),
        (1 << 12, "CAP_NET_RAW is missing: run as root"),
        (1 << 13, "CAP_NET_ADMIN is missing: run as root"),
        (0, "CAP_NET_ADMIN and CAP_NET_RAW are missing: run as root"),
    ],
)
def test_missing_capabilities_are_named(tmp_path: Path, effective: int, problem: str | None) -> None:
    (tmp_path / "status").write_text(f"Name:\tdmssd\nCapEff:\t{effective:016x}\n")
    if problem is None:
        require_capabilities(tmp_path / "status")
        return
    with pytest.raises(ConfigError, match=problem):
        require_capabilities(tmp_path / "status")


def test_attributes_are_padded_and_found_again() -> None:
    data = b"head" + netlink.attribute(3, b"eth0\0") + netlink.attribute_u32(0x8000 | 5, 7)
    assert len(data) == 4 + 12 + 8
    assert netlink.attributes(data, 4) == {3: b"eth0\0", 5: struct.pack("=I", 7)}


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x00\x00\x01\x00", b"\x03\x00\x01\x00rest", b"\xff\xff\x01\x00x"])
def test_damaged_attributes_and_frames_end_the_reading_and_nothing_else(data: bytes) -> None:
    assert len(netlink.attributes(data, 0)) <= 1
    assert list(netlink.frames(data * 4)) == [] or len(data) >= 4


def test_the_wall_clock_is_wrong_by_what_the_labs_file_says_and_right_where_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "clock"
    monkeypatch.setenv(clock.SHIFT_VARIABLE, str(file))
    for text, wrong_s in (("86400\n", 86_400), ("-86400", -86_400), ("soon", 0)):
        file.write_text(text)
        assert abs(clock.wall() - time.time() - wrong_s) < 3_600
    file.unlink()
    assert abs(clock.wall() - time.time()) < 3_600
    before = clock.now()
    file.write_text("-86400")
    assert clock.now() >= before  # the clock that cores live by is another
