"""The helper over its real socket: who is heard, what is opened, and what can be done with it by a daemon like ours.

The daemon is played by the user ``nobody`` with CAP_NET_ADMIN and CAP_NET_RAW alone; the service manager by a thread
that starts the helper for each connection, as systemd does.
"""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dmssd.driver.helper import Helper
from sansio.errors import RequestError
from tests.netns.kernel import Namespaces, ip

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 60
SERVE = (
    "import sys; from pathlib import Path; from dmssd.driver.helping import main; sys.exit(main(Path({!r}), 'nobody'))"
)


class Manager:
    """Listens, and starts the helper for each connection, with it as descriptor 3."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "helper.sock"
        self.policy = directory / "etc/helper.toml"
        self.policy.parent.mkdir(mode=0o755)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)  # The real one is the daemon's alone; here the helper itself has to tell them apart.
        self._listener.listen()
        self._ended: queue.Queue[int] = queue.Queue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def allow(self, **lists: list[str]) -> None:
        self.policy.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in lists.items()))

    def helper(self) -> Helper:
        return Helper(str(self.path), timeout_s=DEADLINE_S)

    def ended(self) -> int:
        """Exit status of the helper that was started next."""
        return self._ended.get(timeout=DEADLINE_S)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE_S)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                number = connection.fileno()
                line = f'exec 3<&{number}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
                command = ["bash", "-c", line, "bash", sys.executable, "-c", SERVE.format(str(self.policy))]
                started = subprocess.Popen(command, cwd=REPOSITORY, pass_fds=(number,))
            self._ended.put(started.wait(DEADLINE_S))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    for directory in (tmp_path, *tmp_path.parents):
        if directory.owner() == "root" and directory.is_relative_to("/tmp") and directory != Path("/tmp"):
            directory.chmod(0o755)  # so that nobody reaches the socket
    yield made
    made.stop()


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with Namespaces("here", "there") as made:
        yield made


AS_DAEMON = """
import ctypes, errno, json, os, pwd, socket, struct, sys
from dmssd.driver.helper import Helper
from dmssd.driver import rtnetlink
from dmssd.driver.netlink import NLM_F_CREATE, NLM_F_EXCL, Message, NetlinkSocket, attribute, attribute_u32
from routing.lsa import LinkNumber
from sansio.errors import RequestError

path, name, user = sys.argv[1:]
# Everything is imported: whoever we are now need not be able to read it. PR_SET_KEEPCAPS = 8.
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(8, 1, 0, 0, 0)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
uid = pwd.getpwnam(user).pw_uid
os.setresuid(uid, uid, uid)
caps = 1 << 12 | 1 << 13  # CAP_NET_ADMIN, CAP_NET_RAW
if libc.capset(struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", caps, caps, 0, 0, 0, 0)):
    sys.exit("capset")
try:
    there = Helper(path).open_netns(name)
except RequestError as error:
    sys.exit(f"refused: {error}")
before = [link.name for link in rtnetlink.links(there.netlink)]
# A veth from here into that namespace, by the descriptor; IFLA_NET_NS_FD = 28, VETH_INFO_PEER = 1.
info = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
peer = info + attribute(3, b"app0\\0") + attribute_u32(28, there.descriptor)
veth = attribute(18, attribute(1, b"veth\\0") + attribute(2, attribute(1, peer)))
here = NetlinkSocket()
here.request(Message(16, info + attribute(3, b"mesh0\\0") + veth, NLM_F_CREATE | NLM_F_EXCL), "a veth")
made = {link.name: link.number for link in rtnetlink.links(there.netlink)}
there.netlink.request(rtnetlink.link_switched_on(made["app0"]), "up")
there.netlink.request(rtnetlink.address_added(made["app0"], socket.inet_aton("10.9.9.9")), "an address")
entered = errno.errorcode[ctypes.get_errno()] if libc.setns(there.descriptor, 0x40000000) else "entered"
inode = os.fstat(there.descriptor).st_ino
print(json.dumps({"uid": os.getuid(), "before": before, "after": sorted(made), "setns": entered, "inode": inode}))
"""


def as_daemon(namespace: str, path: Path, name: str, user: str = "nobody") -> "subprocess.CompletedProcess[str]":
    """Ask as a user with the daemon's two capabilities, in a namespace of the test's."""
    return subprocess.run(
        ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-c", AS_DAEMON, str(path), name, user],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_the_daemon_configures_a_namespace_that_root_named_and_cannot_enter_it(
    manager: Manager, namespaces: Namespaces
) -> None:
    there = namespaces.full("there")
    manager.allow(namespaces=[there])
    done = as_daemon(namespaces.full("here"), manager.path, there)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["uid"] != 0
    assert told["inode"] == os.stat(f"/run/netns/{there}").st_ino
    assert told["before"] == ["lo"]
    assert told["after"] == ["app0", "lo"]
    assert told["setns"] == "EPERM"
    # What it did is there, in the one namespace and not in the other.
    assert "10.9.9.9/32" in ip("-n", there, "addr", "show", "dev", "app0")
    assert "mesh0" in ip("-n", namespaces.full("here"), "link", "show")
    assert "app0" not in ip("-n", namespaces.full("here"), "-brief", "link", "show").replace("mesh0@", "")
    assert manager.ended() == 0


def test_without_the_helper_the_daemon_can_open_a_namespace_but_not_configure_it(namespaces: Namespaces) -> None:
    """Why the helper is there at all."""
    there = f"/run/netns/{namespaces.full('there')}"
    script = f"import ctypes; f = open({there!r}); print(ctypes.CDLL(None).setns(f.fileno(), 0x40000000))"
    given = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--inh-caps", "-all,+net_admin"]
    done = subprocess.run(
        ["setpriv", *given, "--ambient-caps", "-all,+net_admin", "/usr/bin/python3", "-c", script],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout.strip() == "-1", done.stderr


def test_a_namespace_that_root_did_not_name_is_not_opened(manager: Manager, namespaces: Namespaces) -> None:
    manager.allow(namespaces=["another"], units=[namespaces.full("there") + ".service"])
    done = as_daemon(namespaces.full("here"), manager.path, namespaces.full("there"))
    assert "root has not allowed it" in done.stderr
    assert manager.ended() == 1


def test_another_user_is_refused_whatever_is_allowed(manager: Manager, namespaces: Namespaces) -> None:
    manager.allow(namespaces=[namespaces.full("there")])
    done = as_daemon(namespaces.full("here"), manager.path, namespaces.full("there"), user="daemon")
    assert "neither root nor the daemon's" in done.stderr


def test_what_is_no_namespace_is_not_opened(manager: Manager, namespaces: Namespaces, tmp_path: Path) -> None:
    directory, own = Path("/run/netns"), f"dmssd-test-{os.getpid()}"
    made = [directory / f"{own}-link", directory / f"{own}-file", directory / f"{own}-fifo"]
    manager.allow(namespaces=[each.name for each in made] + [f"{own}-none"])
    try:
        made[0].symlink_to(directory / namespaces.full("there"))
        made[1].write_text("")
        os.mkfifo(made[2])
        for each in made:
            with pytest.raises(RequestError, match=r"is no network namespace|symbolic links"):
                manager.helper().open_netns(each.name)
        with pytest.raises(RequestError, match="there is no network namespace"):
            manager.helper().open_netns(f"{own}-none")
    finally:
        for each in made:
            each.unlink(missing_ok=True)


def test_a_policy_that_is_not_roots_alone_allows_nothing(manager: Manager, namespaces: Namespaces) -> None:
    there = namespaces.full("there")
    manager.allow(namespaces=[there])
    manager.helper().open_netns(there).close()
    manager.policy.chmod(0o666)
    with pytest.raises(RequestError, match="others than root can write it"):
        manager.helper().open_netns(there)
    manager.policy.chmod(0o644)
    manager.policy.parent.chmod(0o777)
    with pytest.raises(RequestError, match="others than root can write it"):
        manager.helper().open_netns(there)
    manager.policy.parent.chmod(0o755)
    os.chown(manager.policy, 65534, 65534)
    with pytest.raises(RequestError, match="others than root can write it"):
        manager.helper().open_netns(there)
    manager.policy.unlink()
    with pytest.raises(RequestError, match="root has not allowed it"):
        manager.helper().open_netns(there)
    manager.policy.symlink_to("/etc/hostname")
    with pytest.raises(RequestError, match="cannot be read"):
        manager.helper().open_netns(there)


def test_rubbish_is_answered_and_ends_the_helper(manager: Manager) -> None:
    for payload in (b"\xff", b"{}", b"x" * 4096):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(DEADLINE_S)
            connection.connect(str(manager.path))
            connection.send(payload)
            answer = json.loads(connection.recv(4096))
            assert answer["ok"] is False
            assert connection.recv(4096) == b""
        assert manager.ended() == 1


def test_one_who_says_nothing_is_let_go(manager: Manager) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(DEADLINE_S)
        connection.connect(str(manager.path))
        assert json.loads(connection.recv(4096)) == {"ok": False, "error": "timed out"}


def test_a_helper_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"systemctl status dmssd-helper\.socket"):
        Helper(str(tmp_path / "none")).start("app.service")
