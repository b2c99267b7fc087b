"""The helper itself: root's hands, for one request. ``systemd/dmssd-helper@.service`` starts it with the connection.

Everything that it does is in :func:`_perform`. A request has :data:`REQUEST_TIMEOUT_S` to come, a deed
:data:`DEED_TIMEOUT_S` to be done; then the process ends.
"""

import array
import ctypes
import fcntl
import os
import pwd
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dmssd.driver.systemd import listen_sockets
from dmssd.helper.judging import Deed, OpenNamespace, Systemctl, judge
from dmssd.helper.policy import FILE_BYTES_MAX, Ownership, Policy, demand_roots_own, read_policy
from dmssd.helper.protocol import MESSAGE_BYTES_MAX, Answer, decode_request, encode
from sansio.errors import ConfigError, DmssdError, RequestError

DAEMON_USER = "dmssd"
NETNS_DIRECTORY = "/run/netns"
SYSTEMCTL = "/usr/bin/systemctl"
REQUEST_TIMEOUT_S = 5.0
DEED_TIMEOUT_S = 60.0
_UCRED = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_NS_GET_NSTYPE = 0xB703
_CLONE_NEWNET = 0x4000_0000


def main(policy_file: Path, daemon_user: str = DAEMON_USER) -> int:
    """Serve the connection that the service manager handed over; the exit status."""
    handed = list(listen_sockets(os.environ, os.getpid()).values())
    if len(handed) != 1:
        print("this is started by dmssd-helper.socket, with one connection")
        return 2
    with handed[0] as connection:
        connection.settimeout(REQUEST_TIMEOUT_S)
        return serve(connection, policy_file, daemon_user)


def serve(connection: socket.socket, policy_file: Path, daemon_user: str) -> int:
    """Answer one request; 0 where it was done, 1 where it was refused or failed, and the journal says why."""
    peer = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[1]
    descriptors: Sequence[int] = ()
    try:
        payload = connection.recv(MESSAGE_BYTES_MAX + 1)
        request = decode_request(payload)
        descriptors = _perform(judge(request, peer, _user(daemon_user), _policy(policy_file)))
    except (DmssdError, OSError) as error:
        print(f"refused or failed, for user {peer}: {error}", flush=True)
        answer = Answer(ok=False, error=str(error))
    else:
        print(f"done for user {peer}: {request}", flush=True)
        answer = Answer(ok=True)
    rights = array.array("i", descriptors)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
    try:
        connection.sendmsg([encode(answer)], ancillary)
    except OSError as error:
        print(f"user {peer} did not wait for the answer: {error}", flush=True)
        return 1
    return 0 if answer.ok else 1


def _perform(deed: Deed) -> Sequence[int]:
    match deed:
        case OpenNamespace(name):
            return _opened(name)
        case Systemctl(arguments):
            _systemctl(arguments)
            return ()


def _opened(name: str) -> tuple[int, int]:
    """The namespace, and a netlink socket that was opened in it. This thread is in it afterwards."""
    # Neither may be a link: whoever could plant one would choose what is opened.
    directory = os.open(NETNS_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        raise RequestError(f"there is no network namespace {name}: ip netns list shows those that there are") from None
    finally:
        os.close(directory)
    if _kind(found) != _CLONE_NEWNET:
        raise RequestError(
            f"{NETNS_DIRECTORY}/{name} is no network namespace: ip netns list shows those that there are"
        )
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12.
    if libc.setns(found, _CLONE_NEWNET):
        problem = ctypes.get_errno()
        raise OSError(problem, f"entering {name}: {os.strerror(problem)}")
    inside = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    return found, inside.detach()


def _kind(descriptor: int) -> int | None:
    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError:
        return None


def _systemctl(arguments: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(
            [SYSTEMCTL, "--no-ask-password", "--no-pager", *arguments],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEED_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RequestError(f"not done after {DEED_TIMEOUT_S:.0f} s: systemctl status says how it goes on") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise RequestError(f"systemctl refused: {said or f'exit status {done.returncode}'}")


def _policy(path: Path) -> Policy:
    """What root has allowed. No file: nothing; one of others than root, or with a mistake in it: an error."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Policy()
    try:
        demand_roots_own(str(path.parent), _ownership(directory), "directory")
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return Policy()
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror}), so nothing is allowed") from None
    finally:
        os.close(directory)
    with os.fdopen(descriptor, "rb") as file:
        demand_roots_own(str(path), _ownership(descriptor), "file")
        return read_policy(file.read(FILE_BYTES_MAX + 1))


def _ownership(descriptor: int) -> Ownership:
    found = os.fstat(descriptor)
    return Ownership(found.st_mode, found.st_uid)


def _user(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
