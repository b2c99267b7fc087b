"""The service manager's two small protocols: sd_notify(3), and sockets handed over (sd_listen_fds(3))."""

import os
import socket
from collections.abc import Mapping, MutableMapping

from sansio.instant import Duration, Instant

ADMIN_SOCKET = "admin"
"""What systemd/dmssd.socket calls the socket of the admin API."""

_FIRST_DESCRIPTOR = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Notifier:
    """Tells the service manager how the daemon is doing; silent where there is none."""

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        watched = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        usec = environment.get("WATCHDOG_USEC", "") if watched and path else ""
        self.watchdog_interval = Duration(int(usec) * 1000 // 2) if usec.isdigit() and int(usec) else None
        """How often to call :meth:`watchdog`, half of what the manager allows; ``None``: never."""

    def ready(self, status: str = "") -> None:
        """Start-up, or a reload, is complete."""
        self._send("READY=1", status)

    def stopping(self) -> None:
        """The daemon is on its way out."""
        self._send("STOPPING=1")

    def reloading(self, now: Instant) -> None:
        """The configuration is being read again; :meth:`ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now // 1000}")

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def _send(self, state: str, status: str = "") -> None:
        if not self._address:
            return
        text = f"{state}\nSTATUS={status}" if status else state
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            try:
                out.sendto(text.encode(), self._address)
            except OSError:
                # A manager that does not listen must not take the network down.
                return


class Handed:
    """The sockets that the service manager handed over, and how to hand them on when the process starts itself anew."""

    def __init__(self, environment: MutableMapping[str, str], pid: int) -> None:
        """Takes the variables out of the environment, so that no child of ours takes the sockets for its own."""
        said = {name: environment[name] for name in _VARIABLES if name in environment}
        self.sockets = listen_sockets(environment, pid)
        self._said = said if self.sockets else {}

    def hand_on(self, environment: MutableMapping[str, str]) -> None:
        """Leave them to the program that takes this one's place in this process."""
        environment.update(self._said)
        for each in self.sockets.values():
            each.set_inheritable(True)


def listen_sockets(environment: MutableMapping[str, str], pid: int) -> dict[str, socket.socket]:
    """The sockets handed over by the service manager, by name; takes the variables out of the environment."""
    addressee = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if addressee != str(pid) or not count.isdigit():
        return {}
    found: dict[str, socket.socket] = {}
    for index in range(int(count)):
        descriptor = _FIRST_DESCRIPTOR + index
        os.set_inheritable(descriptor, False)
        name = names[index] if index < len(names) and names[index] else f"unnamed-{index}"
        found[name] = socket.socket(fileno=descriptor)
    return found
