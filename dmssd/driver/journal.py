r"""Log lines into the journal, with fields: systemd-journald's native protocol (systemd.io, "Native Journal Protocol").

One datagram to a socket is one entry, of fields one after the other:

    NAME=value\n                | a value without line feeds
    NAME\n u64 length value\n   | any other (little-endian): what others call themselves cannot begin a field of its own

Used where the standard error stream is the journal's: ``JOURNAL_STREAM`` holds the device and inode of what the service
manager connected (systemd.exec(5)), and they are that stream's. Elsewhere lines go there as text.

Bounded: a value that is too long is cut; an entry that cannot be sent at once (the journal stands still) is counted and
lost, since the daemon must not wait; where the socket is gone the line goes to standard error.
"""

import logging
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "dmssd"
MESSAGE_BYTES_MAX = 16 * 1024
VALUE_BYTES_MAX = 1024
FIELDS_MAX = 32
"""Fields of one entry beside the standard ones; an entry is far smaller than what a datagram may hold (200 kB)."""

_FACTS = "dmssd_facts"
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # syslog(3)
_PRIORITY_DEBUG = 7
_NAME_CHARACTERS_MAX = 64
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def facts(kind: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """For ``extra=`` of a log call: fields ``DMSSD_KIND`` and one for each of ``told``."""
    return {_FACTS: {"kind": kind, **{key: value for key, value in told.items() if key != "kind"}}}


def set_up(environment: Mapping[str, str]) -> None:
    """Have what is logged go where it belongs, from level INFO on."""
    plain = logging.StreamHandler(sys.stderr)
    plain.setFormatter(LineFormatter("%(levelname)s %(message)s"))
    try:
        is_journal = is_journal_stream(environment, sys.stderr.fileno())
    except (OSError, ValueError):
        is_journal = False  # closed, or no file
    logging.basicConfig(level=logging.INFO, handlers=[JournalHandler(plain) if is_journal else plain])


def is_journal_stream(environment: Mapping[str, str], descriptor: int) -> bool:
    """Whether a descriptor is the stream that the service manager connected to the journal."""
    status = os.fstat(descriptor)
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class LineFormatter(logging.Formatter):
    """One message, one line, whatever it quotes; only a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line."""
        record.message = _CONTROL.sub(lambda found: repr(found.group())[1:-1], record.message)
        return super().formatMessage(record)


class JournalHandler(logging.Handler):
    """Sends records to the journal, or to ``fallback`` where its socket is gone. ``lost`` counts what found it full."""

    def __init__(self, fallback: logging.Handler, path: str = SOCKET) -> None:
        super().__init__()
        self.setFormatter(LineFormatter("%(message)s"))
        self.lost = 0
        self._fallback = fallback
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; never waits."""
        try:
            sent = entry(record, self.format(record))
        except (TypeError, ValueError):
            self.handleError(record)
            return
        try:
            if self.lost:
                self._send(_encoded(_standard(4, f"{self.lost} lines before this one did not get into the journal")))
                self.lost = 0
            self._send(sent)
        except BlockingIOError:
            self.lost += 1
        except OSError:
            self._fallback.handle(record)

    def _send(self, data: bytes) -> None:
        self._socket.sendto(data, self._path)


def entry(record: logging.LogRecord, message: str) -> bytes:
    """The datagram that says ``message``, with the facts that :func:`facts` put into the record."""
    priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _PRIORITY_DEBUG)
    told = list(_told(getattr(record, _FACTS, {})))[:FIELDS_MAX]
    return _encoded([*_standard(priority, message), *told])


def _standard(priority: int, message: str) -> list[tuple[str, bytes]]:
    said = _bytes(message, MESSAGE_BYTES_MAX)
    return [("MESSAGE", said), ("PRIORITY", b"%d" % priority), ("SYSLOG_IDENTIFIER", IDENTIFIER.encode())]


def _told(facts: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    for key, value in facts.items():
        name = f"DMSSD_{_NOT_IN_NAMES.sub('_', key.upper())}"[:_NAME_CHARACTERS_MAX]
        # A field may be there more than once: each of a list is found by its value.
        for one in value if isinstance(value, list | tuple) else (value,):
            yield name, _bytes(str(one), VALUE_BYTES_MAX)


def _bytes(text: str, limit: int) -> bytes:
    data = text.encode(errors="backslashreplace")
    return data if len(data) <= limit else data[:limit].decode(errors="ignore").encode()


def _encoded(fields: list[tuple[str, bytes]]) -> bytes:
    return b"".join(
        name.encode() + (b"\n" + struct.pack("<Q", len(value)) if b"\n" in value else b"=") + value + b"\n"
        for name, value in fields
    )
