from dataclasses import dataclass
from pathlib import Path

import pytest

from dmssd.driver.record import EventCodec, Recorder, read_records
from dmssd.events import Datagram, EchoReplied, FibProgrammed, FibRead, LinkUp, Request
from routing.fib import Gateway, Installed
from routing.lsa import LinkNumber, Prefix
from sansio.core import Wake
from sansio.errors import StoreError
from sansio.instant import Instant


@dataclass(frozen=True, slots=True)
class Header:
    """What a replay needs besides the events."""

    name: str
    before: int


LINK = LinkNumber(3)
CODEC = EventCodec([Header, LinkUp, Datagram, FibProgrammed, FibRead, Request, Wake])
HEADER = Header("Sunnyvale", 0)


def header(before: int) -> Header:
    return Header("Sunnyvale", before)


EVENTS = [
    LinkUp(LINK, "eth0", 10),
    Datagram(LINK, "fe80::1", b"\x00\xff"),
    FibProgrammed(4, ((1, 22), (5, 3))),
    FibRead(
        Installed(
            {1: Gateway(LINK, bytes(16))}, {2: ((1, 256),)}, {Prefix.parse("10.0.0.0/8"): 2, Prefix(bytes(16), 0): 2}
        )
    ),
    Request(9, "join", {"peer": "fe80::2", "timeout": 60}),
    Wake(),
]


def test_every_kind_of_event_comes_back_equal_and_in_order_after_the_header(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "record", 1 << 20, CODEC, header)
    for number, event in enumerate(EVENTS):
        recorder.write(event, Instant(number))
    recorder.close()
    expected = [(0, HEADER), *enumerate(EVENTS)]
    assert list(read_records(tmp_path / "record", CODEC)) == expected


def test_types_that_are_not_listed_are_left_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "record", 1 << 20, CODEC, header)
    recorder.write(EchoReplied(LINK, "fe80::1", 1), Instant(1))
    recorder.close()
    assert list(read_records(tmp_path / "record", CODEC)) == [(0, HEADER)]


def test_the_limit_holds_and_the_latest_events_are_kept_under_the_header(tmp_path: Path) -> None:
    limit = 4096
    recorder = Recorder(tmp_path / "record", limit, CODEC, header)
    for number in range(1000):
        recorder.write(Datagram(LINK, "fe80::1", bytes(number % 50)), Instant(number))
        recorder.flush()
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit
    recorder.close()
    (_, opening), *events = read_records(tmp_path / "record", CODEC)
    instants = [now for now, _ in events]
    assert instants == list(range(instants[0], 1000))
    assert opening == Header("Sunnyvale", before=instants[0])
    assert len(instants) >= limit // 2 // 100


def test_an_event_larger_than_half_the_limit_is_left_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "record", 512, CODEC, header)
    recorder.write(Datagram(LINK, "fe80::1", bytes(512)), Instant(1))
    recorder.write(Wake(), Instant(2))
    recorder.close()
    assert list(read_records(tmp_path / "record", CODEC)) == [(0, HEADER), (2, Wake())]


def test_a_record_cut_short_ends_where_it_was_cut(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "record", 1 << 20, CODEC, header)
    for number, event in enumerate(EVENTS):
        recorder.write(event, Instant(number))
    recorder.close()
    whole = (tmp_path / "record").read_bytes()
    for cut in range(len(CODEC.encode(HEADER, Instant(0))), len(whole)):
        (tmp_path / "record").write_bytes(whole[:cut])
        read = list(read_records(tmp_path / "record", CODEC))
        assert read == [(0, HEADER), *enumerate(EVENTS)][: len(read)]


def test_a_new_record_takes_the_place_of_the_old(tmp_path: Path) -> None:
    for _ in range(2):
        recorder = Recorder(tmp_path / "record", 1 << 20, CODEC, header)
        recorder.write(Wake(), Instant(1))
        recorder.close()
    assert len(list(read_records(tmp_path / "record", CODEC))) == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "holds no record"),
        (b"\xff\xff\xff\xff", "is damaged"),
        (b"\x00\x00\x00\x01\xc1", "cannot be read"),
        (b"\x00\x00\x00\x06\x93\x00\xa1X\x90\x00\x00", "cannot be read"),
        (b"\x00\x00\x00\x05\x93\x00\xa1X\x90", "does not know"),
    ],
)
def test_what_is_no_record_is_refused_with_a_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "record").write_bytes(data)
    with pytest.raises(StoreError, match=reason):
        list(read_records(tmp_path / "record", CODEC))


def test_a_missing_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no record"):
        list(read_records(tmp_path / "record", CODEC))
