"""Log lines as the journal gets them: a real datagram socket in its place, and a decoder of its protocol."""

import io
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmssd.driver import journal
from dmssd.driver.journal import FIELDS_MAX, MESSAGE_BYTES_MAX, VALUE_BYTES_MAX, JournalHandler, LineFormatter, facts

DEADLINE_S = 30


def decoded(datagram: bytes) -> list[tuple[str, str]]:
    """The fields of an entry, strictly; systemd.io, "Native Journal Protocol"."""
    found = []
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = struct.unpack_from("<Q", rest)[0]
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert len(value) == size
            assert end == b"\n"
        assert name.decode("ascii").replace("_", "").isalnum()
        assert name == name.upper()
        assert len(name) <= 64
        found.append((name.decode(), value.decode()))
        datagram = rest
    return found


class Journal:
    """The far end of the socket, and a logger that writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(DEADLINE_S)
        self.stderr = io.StringIO()
        plain = logging.StreamHandler(self.stderr)
        plain.setFormatter(LineFormatter("%(levelname)s %(message)s"))
        self.handler = JournalHandler(plain, str(path))
        self.log = logging.Logger("test")
        self.log.addHandler(self.handler)

    def entries(self) -> list[tuple[str, str]]:
        return decoded(self.socket.recv(1 << 20))

    def close(self) -> None:
        self.handler.close()
        self.socket.close()


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "socket")
    yield made
    made.close()


def test_a_notice_is_an_entry_with_its_facts_as_fields(far: Journal) -> None:
    told = {"node": "ab" * 20, "name": "gamma", "interface": "eth0", "count": 3}
    far.log.info("%s %s", "member.down", "name=gamma", extra=facts("member.down", told))
    assert far.entries() == [
        ("MESSAGE", "member.down name=gamma"),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "dmssd"),
        ("DMSSD_KIND", "member.down"),
        ("DMSSD_NODE", "ab" * 20),
        ("DMSSD_NAME", "gamma"),
        ("DMSSD_INTERFACE", "eth0"),
        ("DMSSD_COUNT", "3"),
    ]
    assert far.stderr.getvalue() == ""


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, "7"), (logging.INFO, "6"), (logging.WARNING, "4"), (logging.ERROR, "3"), (logging.CRITICAL, "2")],
)
def test_levels_are_the_priorities_of_syslog(far: Journal, level: int, priority: str) -> None:
    far.log.log(level, "x")
    assert ("PRIORITY", priority) in far.entries()


def test_a_name_from_another_machine_cannot_add_a_field_or_a_line(far: Journal) -> None:
    hostile = "x\nPRIORITY=0\nDMSSD_KIND=member.up\n\n\x1b[2J\0=\u2028y"
    told = {"name": hostile, "kind": "member.up", "bad\nkey=1": "v"}
    far.log.info("member.down name=%s", hostile, extra=facts("member.down", told))
    found = far.entries()
    assert [value for name, value in found if name == "DMSSD_KIND"] == ["member.down"]
    assert [value for name, value in found if name == "PRIORITY"] == ["6"]
    assert dict(found)["DMSSD_NAME"] == hostile
    assert dict(found)["DMSSD_BAD_KEY_1"] == "v"
    assert dict(found)["MESSAGE"] == (
        "member.down name=x\\nPRIORITY=0\\nDMSSD_KIND=member.up\\n\\n\\x1b[2J\\x00=\\u2028y"
    )


def test_each_of_a_list_is_a_field(far: Journal) -> None:
    far.log.info("x", extra=facts("member.expelled", {"by": ["alpha", "beta"], "none": []}))
    assert [value for name, value in far.entries() if name == "DMSSD_BY"] == ["alpha", "beta"]


def test_entries_are_bounded_and_cut_between_characters(far: Journal) -> None:
    told = {"long": "µ" * VALUE_BYTES_MAX, **{f"k{number}": number for number in range(100)}}
    far.log.info("µ" * MESSAGE_BYTES_MAX, extra=facts("x", told))
    found = far.entries()
    assert len(found) == 3 + FIELDS_MAX
    assert dict(found)["MESSAGE"] == "µ" * (MESSAGE_BYTES_MAX // 2)
    assert dict(found)["DMSSD_LONG"] == "µ" * (VALUE_BYTES_MAX // 2)


def test_what_is_no_unicode_is_written_all_the_same(far: Journal) -> None:
    far.log.info("x", extra=facts("x", {"interface": "eth\udcff"}))
    assert dict(far.entries())["DMSSD_INTERFACE"] == "eth\\udcff"


def test_a_traceback_keeps_its_lines_in_one_entry(far: Journal) -> None:
    try:
        raise ValueError("a\nPRIORITY=0")
    except ValueError as problem:
        far.log.critical("stopping", exc_info=problem)
    found = far.entries()
    assert dict(found)["MESSAGE"].startswith("stopping\nTraceback (most recent call last):\n")
    assert [name for name, _ in found] == ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"]


def test_without_the_socket_lines_go_to_standard_error(far: Journal) -> None:
    far.path.unlink()
    far.log.warning("member.down name=%s", "x\ny", extra=facts("member.down", {}))
    assert far.stderr.getvalue() == "WARNING member.down name=x\\ny\n"
    assert far.handler.lost == 0


def test_a_journal_that_stands_still_costs_lines_and_never_time(far: Journal) -> None:
    # A datagram socket holds only so many that nobody takes.
    sent = 0
    while not far.handler.lost:
        far.log.info("line %d", sent)
        sent += 1
    far.log.info("lost as well")
    assert far.handler.lost == 2
    assert far.stderr.getvalue() == ""
    for number in range(sent - 1):
        assert far.entries()[0] == ("MESSAGE", f"line {number}")
    far.log.info("after")
    assert far.entries()[:2] == [
        ("MESSAGE", "2 lines before this one did not get into the journal"),
        ("PRIORITY", "4"),
    ]
    assert far.entries()[0] == ("MESSAGE", "after")


def test_the_journals_stream_is_told_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        status = os.fstat(stream.fileno())
        environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert journal.is_journal_stream(environment, stream.fileno())
        assert not journal.is_journal_stream(environment, other.fileno())
        assert not journal.is_journal_stream({}, stream.fileno())
        assert not journal.is_journal_stream({"JOURNAL_STREAM": "nonsense"}, stream.fileno())


SCRIPT = """
import logging, os, sys
from dmssd.driver import journal
journal.JournalHandler.__init__.__defaults__ = (sys.argv[1],)
if sys.argv[2] == "journal":
    status = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
journal.set_up(os.environ)
logging.getLogger("dmssd").info("hello %s", "x\\ny", extra=journal.facts("k", {"name": "n"}))
logging.getLogger("asyncio").debug("not this")
"""


@pytest.mark.parametrize("where", ["journal", "text"])
def test_a_process_logs_where_its_standard_error_leads(far: Journal, where: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(far.path), where],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    if where == "journal":
        assert ended.stderr == ""
        assert dict(far.entries())["DMSSD_NAME"] == "n"
    else:
        assert ended.stderr == "INFO hello x\\ny\n"
        far.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            far.socket.recv(1)
